package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/units"
	"os"
)

// running returns the launcher that the file at path is to be compared with: the
// only one, or the one whose configuration it is. The error says why there is
// none.
func (f choice) running(ctx context.Context, path string) (target, error) {
	var answering, owning []target
	for _, t := range f.targets(ctx) {
		if t.answers() {
			answering = append(answering, t)
		}
	}
	switch len(answering) {
	case 0:
		return target{}, errors.New("there is none")
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
	return target{}, errors.New("there is one in system scope and one in this user's scope, " +
		"and this file does not tell which: say --system or --user")
}

// configuration returns the file that the launcher reads.
func (t target) configuration(ctx context.Context) string {
	if s, err := t.greet(ctx); err == nil && s.Config.Path != "" {
		return s.Config.Path
	}
	return installedConfig(t.scope)
}

func sameFile(a, b string) bool {
	first, err := os.Stat(a)
	if err != nil {
		return false
	}
	second, err := os.Stat(b)
	return err == nil && os.SameFile(first, second)
}

// installedConfig returns the file that the installed service of a scope reads,
// or would read.
func installedConfig(scope units.Scope) string {
	if dir, err := units.Dir(scope); err == nil {
		if _, path, err := units.Chosen("", dir); err == nil && path != "" {
			return path
		}
	}
	return config.DefaultPath(scope == units.User)
}

// addresses returns what the installed socket unit listens on, or what the
// configuration asks for where there is none.
func (f choice) addresses(ctx context.Context) ([]netip.AddrPort, error) {
	found := f.targets(ctx)
	if len(found) > 1 {
		_, err := f.one(ctx)
		return nil, err
	}
	if len(found) == 1 && len(found[0].listen) > 0 {
		return found[0].listen, nil
	}
	file := configFile{}
	switch {
	case f.system:
		file.path = installedConfig(units.System)
	case f.user:
		file.path = installedConfig(units.User)
	}
	cfg, err := file.load()
	if err != nil {
		return nil, fmt.Errorf("name the addresses, as the configuration does not tell them: %w", err)
	}
	return cfg.Listen, nil
}

// ownAddresses returns what the active socket units of both scopes listen on, as
// far as their managers can be asked.
func ownAddresses(ctx context.Context) []netip.AddrPort {
	var all []netip.AddrPort
	for _, t := range (choice{}).targets(ctx) {
		if t.socket == "active" {
			all = append(all, t.listen...)
		}
	}
	return all
}

// nowhere is where to look when there is neither a unit nor a launcher.
func nowhere() target {
	scope := units.User
	if os.Geteuid() == 0 {
		scope = units.System
	}
	return target{scope: scope, control: controlPath(scope), unit: UnitStatus{Name: units.Service, Scope: "none"}}
}
