package client

import (
	"context"
	"net/netip"
	"os"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/units"
)

// OwnAddresses returns what the active socket units of both scopes listen on, as
// far as their managers can be asked.
func OwnAddresses(ctx context.Context) []netip.AddrPort {
	var all []netip.AddrPort
	for _, t := range (Choice{}).Targets(ctx) {
		if t.SocketState == "active" {
			all = append(all, t.Listen...)
		}
	}
	return all
}

// Nowhere is where to look when there is neither a unit nor a launcher.
func Nowhere() Target {
	scope := units.User
	if os.Geteuid() == 0 {
		scope = units.System
	}
	return Target{Scope: scope, Control: api.Control(scope == units.User), Unit: api.Unit{Name: units.Service, Scope: "none"}}
}
