package client

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/units"
)

// Running returns the launcher that the file at path is to be compared with: the
// only one, or the one whose configuration it is. The error says why there is
// none.
func (f Choice) Running(ctx context.Context, path string) (Target, error) {
	var answering, owning []Target
	for _, t := range f.Targets(ctx) {
		if t.Answers() {
			answering = append(answering, t)
		}
	}
	switch len(answering) {
	case 0:
		return Target{}, errors.New("there is none")
	case 1:
		return answering[0], nil
	}
	for _, t := range answering {
		if sameFile(t.configuration(ctx), path) {
			owning = append(owning, t)
		}
	}
	if len(owning) == 1 {
		return owning[0], nil
	}
	return Target{}, errors.New("there is one in system scope and one in this user's scope, " +
		"and this file does not tell which: say --system or --user")
}

// configuration returns the file that the launcher reads.
func (t Target) configuration(ctx context.Context) string {
	if s, err := t.Status(ctx); err == nil && s.Config.Path != "" {
		return s.Config.Path
	}
	return InstalledConfig(t.Scope)
}

func sameFile(a, b string) bool {
	first, err := os.Stat(a)
	if err != nil {
		return false
	}
	second, err := os.Stat(b)
	return err == nil && os.SameFile(first, second)
}

// InstalledConfig returns the file that the installed service of a scope reads,
// or would read.
func InstalledConfig(scope units.Scope) string {
	if dir, err := units.Dir(scope); err == nil {
		if _, path, err := units.Chosen("", dir); err == nil && path != "" {
			return path
		}
	}
	return config.DefaultPath(scope == units.User)
}

// Addresses returns what the installed socket unit listens on, or what the
// configuration asks for where there is none.
func (f Choice) Addresses(ctx context.Context) ([]netip.AddrPort, error) {
	found := f.Targets(ctx)
	if len(found) > 1 {
		_, err := f.One(ctx)
		return nil, err
	}
	if len(found) == 1 && len(found[0].Listen) > 0 {
		return found[0].Listen, nil
	}
	file := config.Named{}
	switch {
	case f.System:
		file.Path = InstalledConfig(units.System)
	case f.User:
		file.Path = InstalledConfig(units.User)
	}
	cfg, err := file.Load()
	if err != nil {
		return nil, fmt.Errorf("name the addresses, as the configuration does not tell them: %w", err)
	}
	return cfg.Listen, nil
}

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
	return Target{Scope: scope, Control: controlPath(scope), Unit: api.Unit{Name: units.Service, Scope: "none"}}
}
