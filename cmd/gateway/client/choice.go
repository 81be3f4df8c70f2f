package client

import (
	"context"
	"errors"
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

// None says why no launcher is found: there is none, or what is in its place is a stranger's.
func None(ctx context.Context) error {
	if _, err := Nowhere().Reach(ctx); errors.Is(err, ErrStranger) {
		return err
	}
	return ErrNowhere
}
