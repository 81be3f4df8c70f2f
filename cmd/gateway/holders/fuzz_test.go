package holders

import (
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/worker/proctree"
)

// FuzzCgroup: a user chooses a process's name and every name below the unit that has been given to them. However they are
// called, that makes the process nobody else's, and root is told to run nothing that acts on what is called so elsewhere.
func FuzzCgroup(f *testing.F) {
	const (
		uid   = 4_000_000
		asOne = "runuser --pty -u 4000000 -- env XDG_RUNTIME_DIR=/run/user/4000000 "
		id    = "0123456789ab0123456789ab0123456789ab0123456789ab0123456789ab0123"
	)
	for _, below := range []string{
		"", "x", "app.slice/x.service", "docker-" + id + ".scope", "docker/" + id, "libpod-" + id + ".scope", "libpod-conmon-" + id, "lxc/db", "lxc.payload.db",
		"machine-db.scope", `machine-qemu\x2d1\x2ddb.scope`, "systemd-nspawn@db.service", "docker.service", "user@0.service/x.service", "user@0.service/",
		"../machine-db.scope", "_x.service", "init.scope", "openclaw-gateway.service/generation-1", "machine-';id;'.scope", "machine-\x1b[2J.scope", "machine--x.scope", "\xff.service",
	} {
		for _, name := range []string{"node", "docker-proxy", "dockerd", "rootlesskit", "pasta", "systemd", "(systemd)", "\x1b"} {
			f.Add(name, below)
		}
	}
	f.Fuzz(func(t *testing.T, name, below string) {
		if strings.ContainsAny(below, "\n\x00") {
			return // the kernel takes no such name (cgroup_mkdir)
		}
		for above, own := range map[string]systemd.Manager{
			"/system.slice/bob.service/":                            {},
			"/user.slice/user-4000000.slice/session-1.scope/":       {},
			"/user.slice/user-4000000.slice/user@4000000.service/":  {User: true, UID: uid},
			"/machine.slice/openclaw.slice/user@0.service.d.scope/": {},
		} {
			h := Holder{Process: proctree.Process{PID: 1 << 30, Name: say.Printable(name)}, UID: uid, Cgroup: say.Printable(above + below), Role: api.RoleForeign}
			h.InUnit, _ = proctree.UnitOf(h.Cgroup)
			h.Wanted, h.Addresses = addrs("127.0.0.1:18789"), addrs("127.0.0.1:18789")
			if h.Manager = managerOf(h.Cgroup); h.Manager != own {
				t.Fatalf("%q is in the care of %+v, want %+v", h.Cgroup, h.Manager, own)
			}
			h.RunBy.Container = contained(&h, "/")
			command := h.Remedy(Asker{Program: "gateway"}).Command
			if !strings.HasPrefix(command, asOne) && command != "gateway reclaim --force 127.0.0.1:18789" {
				t.Errorf("%q in %q has root run %s", h.Name, h.Cgroup, command)
			}
			if say.Printable(command) != command || strings.Contains(command, "\n") {
				t.Errorf("%q in %q has a command of several lines: %q", h.Name, h.Cgroup, command)
			}
		}
	})
}
