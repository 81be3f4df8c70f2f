package test

import (
	"fmt"
	"testing"

	"openclaw-gateway/test/machine"
)

// place is a service manager that the product is installed in.
type place struct {
	name string
	user bool   // one of a user's own, unprivileged and lingering
	root string // the variable that names its root directory; "": this machine's systemd
	more bool   // one that [everywhere] adds: a test of many cases goes through a part of them
}

const debian13 = "DEBIAN13_ROOT"

// inScopes runs a test in the system's manager, with this machine's systemd, and
// in a user's, because most people run OpenClaw as themselves, with that of
// Debian 13, which is 257. So it holds in both scopes and with both systemds.
func inScopes(t *testing.T, test func(t *testing.T, here place)) {
	t.Helper()
	t.Parallel()
	in(t, test, place{name: "system"}, place{name: "user of Debian 13", user: true, root: debian13})
}

// everywhere runs a test in both scopes of both systemds: where the two meet the
// product most, and each in its own way.
func everywhere(t *testing.T, test func(t *testing.T, here place)) {
	t.Helper()
	inScopes(t, test)
	in(t, test, place{name: "user", user: true, more: true}, place{name: "system of Debian 13", root: debian13, more: true})
}

// onBoth runs a test that has both scopes in one machine with each systemd.
func onBoth(t *testing.T, test func(t *testing.T, here place)) {
	t.Helper()
	t.Parallel()
	in(t, test, place{name: "Debian 12"}, place{name: "Debian 13", root: debian13})
}

func in(t *testing.T, test func(t *testing.T, here place), places ...place) {
	t.Helper()
	for _, here := range places {
		t.Run(here.name, func(t *testing.T) {
			t.Parallel()
			test(t, here)
		})
	}
}

// boot starts a machine, as that manager's user sees it.
func (p place) boot(t testing.TB, options machine.Options) *machine.Machine {
	t.Helper()
	if p.root != "" {
		options.Root = required(t, p.root)
	}
	if !p.user {
		return boot(t, options)
	}
	options.Users = true
	m := boot(t, options)
	return m.As(m.AddUser(t, "alice"))
}

// scaled is how often a test repeats itself here: where it finds least by it, less
// often, so that all places together do not take too long.
func (p place) scaled(times int) int {
	if p.user || p.root != "" {
		return times / 2
	}
	return times
}

// kind is what the product calls the scope, and systemd its directories.
func kind(s *machine.Scope) string {
	if s.User == "" {
		return "system"
	}
	return "user"
}

// configPath is where the product has the scope's configuration.
func configPath(s *machine.Scope) string {
	if s.User == "" {
		return "/etc/openclaw-gateway/config.yaml"
	}
	return s.Home() + "/.config/openclaw-gateway/config.yaml"
}

// systemctl is how a person calls it for the scope.
func systemctl(s *machine.Scope) string {
	if s.User == "" {
		return "systemctl"
	}
	return "systemctl --user"
}

// asRoot is how a person of the scope runs what only root may.
func asRoot(s *machine.Scope, command string) string {
	if s.User == "" {
		return command
	}
	return "sudo " + command
}

// unitPath is where "gateway install" has a unit of the scope.
func unitPath(s *machine.Scope, unit string) string {
	if s.User == "" {
		return "/etc/systemd/system/" + unit
	}
	return s.Home() + "/.config/systemd/user/" + unit
}

// runPath is a unit's place, or that of a folder beside it, for as long as the
// machine runs.
func runPath(s *machine.Scope, unit string) string {
	return "/run/systemd/" + kind(s) + "/" + unit
}

// statePath is where the launcher has what outlives it; a user's since systemd 254,
// StateDirectory= in systemd.exec(5).
func statePath(s *machine.Scope) string {
	if s.User == "" {
		return "/var/lib/openclaw-gateway"
	}
	return s.Home() + "/.local/state/openclaw-gateway"
}

// dropIn adds lines to the service, as an administrator would.
func dropIn(t testing.TB, m *machine.Machine, lines string) {
	t.Helper()
	m.WriteFile(t, fmt.Sprintf("/etc/systemd/%s/%s.d/test.conf", kind(m.Scope), service), "[Service]\n"+lines, 0o644)
	m.Systemctl(t, "daemon-reload")
}
