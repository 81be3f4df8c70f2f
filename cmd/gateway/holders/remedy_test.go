package holders

import (
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/proctree"
)

// What keeps a holder running.
const (
	bySystem    = "a system unit"
	byUser      = "a user unit"
	byTransient = "a transient unit"
	byContainer = "a container"
	byNothing   = "nothing"
)

// Who asks about a holder of user 4000000.
const (
	root  = "root"
	owner = "its owner"
	other = "somebody else"
)

// remedies has a command for each cell that can occur, for root, the owner and somebody else.
var remedies = map[api.Role]map[string][3]string{
	api.RoleSystemd: {
		bySystem: {"systemctl disable --now x.socket", "sudo systemctl disable --now x.socket", "sudo systemctl disable --now x.socket"},
		byUser: {
			"runuser --pty -u 4000000 -- env XDG_RUNTIME_DIR=/run/user/4000000 systemctl --user disable --now x.socket",
			"systemctl --user disable --now x.socket",
			"sudo runuser --pty -u 4000000 -- env XDG_RUNTIME_DIR=/run/user/4000000 systemctl --user disable --now x.socket",
		},
		byTransient: {"systemctl stop x.socket", "sudo systemctl stop x.socket", "sudo systemctl stop x.socket"},
		byNothing:   {"systemctl list-sockets", "sudo systemctl list-sockets", "sudo systemctl list-sockets"},
	},
	api.RoleLauncher: {
		bySystem: {"gateway stop --system", "sudo gateway stop --system", "sudo gateway stop --system"},
		byUser: {
			"runuser --pty -u 4000000 -- env XDG_RUNTIME_DIR=/run/user/4000000 gateway stop --user",
			"gateway stop --user",
			"sudo runuser --pty -u 4000000 -- env XDG_RUNTIME_DIR=/run/user/4000000 gateway stop --user",
		},
		byTransient: {"systemctl stop x.service", "sudo systemctl stop x.service", "sudo systemctl stop x.service"},
		byNothing:   {"runuser --pty -u 4000000 -- env XDG_RUNTIME_DIR=/run/user/4000000 kill 4710", "kill 4710", "sudo runuser --pty -u 4000000 -- env XDG_RUNTIME_DIR=/run/user/4000000 kill 4710"},
	},
	api.RoleOrphan: {
		byNothing: {
			"gateway reclaim 127.0.0.1:18789 '[::1]:18789'", "gateway reclaim 127.0.0.1:18789 '[::1]:18789'",
			"sudo gateway reclaim 127.0.0.1:18789 '[::1]:18789'",
		},
	},
	api.RoleRival: {
		bySystem: {"systemctl disable --now x.service", "sudo systemctl disable --now x.service", "sudo systemctl disable --now x.service"},
		byUser: {
			"runuser --pty -u 4000000 -- env XDG_RUNTIME_DIR=/run/user/4000000 systemctl --user disable --now x.service",
			"systemctl --user disable --now x.service",
			"sudo runuser --pty -u 4000000 -- env XDG_RUNTIME_DIR=/run/user/4000000 systemctl --user disable --now x.service",
		},
		byNothing: { // of a supervisor of many
			"gateway reclaim --force 127.0.0.1:18789 '[::1]:18789'", "gateway reclaim --force 127.0.0.1:18789 '[::1]:18789'",
			"sudo gateway reclaim --force 127.0.0.1:18789 '[::1]:18789'",
		},
		byTransient: {"systemctl stop x.service", "sudo systemctl stop x.service", "sudo systemctl stop x.service"},
	},
	api.RoleForeign: {
		bySystem: {"systemctl stop x.service", "sudo systemctl stop x.service", "sudo systemctl stop x.service"},
		byUser: {
			"runuser --pty -u 4000000 -- env XDG_RUNTIME_DIR=/run/user/4000000 systemctl --user stop x.service",
			"systemctl --user stop x.service",
			"sudo runuser --pty -u 4000000 -- env XDG_RUNTIME_DIR=/run/user/4000000 systemctl --user stop x.service",
		},
		byTransient: {"systemctl stop x.service", "sudo systemctl stop x.service", "sudo systemctl stop x.service"},
		byContainer: {"docker stop 0123456789ab", "sudo docker stop 0123456789ab", "sudo docker stop 0123456789ab"},
		byNothing: {
			"gateway reclaim --force 127.0.0.1:18789 '[::1]:18789'", "gateway reclaim --force 127.0.0.1:18789 '[::1]:18789'",
			"sudo gateway reclaim --force 127.0.0.1:18789 '[::1]:18789'",
		},
	},
	Unseen: {
		byNothing: {
			"ss -tanp 'sport = :18789'", "sudo gateway reclaim --dry-run 127.0.0.1:18789 '[::1]:18789'",
			"sudo gateway reclaim --dry-run 127.0.0.1:18789 '[::1]:18789'",
		},
	},
}

// impossible has the reason for each cell that is empty.
var impossible = map[api.Role]map[string]string{
	api.RoleSystemd:  {byContainer: "a manager in a container is that container's, and foreign"},
	api.RoleLauncher: {byContainer: "its worker and its control socket are in the container too, which is foreign as a whole"},
	api.RoleOrphan: {
		bySystem: "whom a unit keeps running is a rival", byUser: "whom a unit keeps running is a rival",
		byTransient: "whom a unit keeps running is a rival", byContainer: "whoever runs the container starts it again: it is foreign",
	},
	api.RoleRival: {byContainer: "it is foreign: the unit is the container's"},
	Unseen: {
		bySystem: "what cannot be seen is in no unit", byUser: "what cannot be seen is in no unit",
		byTransient: "what cannot be seen is in no unit", byContainer: "that it is in one cannot be told from here",
	},
}

// TestRemedy goes through each role, each asker, and whatever may keep a holder running: one command, and the reason where
// the case cannot occur.
func TestRemedy(t *testing.T) {
	t.Parallel()
	const uid = 4_000_000 // no user's number
	user := systemd.Manager{User: true, UID: uid}
	remedies[api.RoleWorker], impossible[api.RoleWorker] = remedies[api.RoleLauncher], impossible[api.RoleLauncher] // who goes with its launcher
	for _, role := range []api.Role{api.RoleSystemd, api.RoleLauncher, api.RoleWorker, api.RoleOrphan, api.RoleRival, api.RoleForeign, Unseen} {
		for _, by := range []string{bySystem, byUser, byTransient, byContainer, byNothing} {
			want, occurs := remedies[role][by]
			if reason := impossible[role][by]; occurs == (reason != "") {
				t.Errorf("%s by %s: wants one of a command and a reason, has %q and %q", role, by, want, reason)
			}
			if !occurs {
				continue
			}
			h := Holder{
				Process: proctree.Process{PID: 4711}, UID: uid, Role: role, launcher: 4710,
				Wanted: []netaddr.Address{netaddr.MustParse("127.0.0.1:18789"), netaddr.MustParse("[::1]:18789")},
			}
			unit := "x.service"
			if role == api.RoleSystemd {
				unit = "x.socket"
			}
			ours := role == api.RoleLauncher || role == api.RoleWorker
			h.RunBy = map[string]RunBy{
				bySystem:    {Unit: unit, Enabled: true, Ours: ours},
				byUser:      {Unit: unit, Enabled: true, Manager: user, Ours: ours},
				byTransient: {Unit: unit},
				byContainer: {Container: &Container{Engine: "docker", Name: "0123456789ab"}},
			}[by]
			for i, asker := range []Asker{{UID: 0}, {UID: uid}, {UID: uid + 1}} {
				asker.Program = "gateway"
				got := h.Remedy(asker)
				if got.Command != want[i] || got.Does == "" || strings.ContainsAny(got.Command+got.Does, "#\n") {
					t.Errorf("%s by %s, for %s: %q %q, want %q", role, by, []string{root, owner, other}[i], got.Command, got.Does, want[i])
				}
			}
		}
	}
}

// TestRemedyWith: what holds the address together is stopped together, and in a unit nothing else.
func TestRemedyWith(t *testing.T) {
	t.Parallel()
	wanted := []netaddr.Address{netaddr.MustParse("127.0.0.1:18789")}
	for want, h := range map[string]Holder{
		"`systemctl stop x.service x.socket` stops it":                                   {Role: api.RoleForeign, RunBy: RunBy{Unit: "x.service", With: []string{"x.socket"}, Enabled: true}},
		"`systemctl disable --now x.socket x.service` closes it for good":                {Role: api.RoleSystemd, RunBy: RunBy{Unit: "x.socket", With: []string{"x.service"}, Enabled: true}},
		"`gateway doctor --system` says how the launcher comes back in its place":        {Role: api.RoleRival, RunBy: RunBy{Unit: "openclaw-gateway.service", Ours: true, Triggered: true, Enabled: true}},
		"`systemctl stop 'a;id>pwn;.service'` stops it":                                  {Role: api.RoleRival, RunBy: RunBy{Unit: "a;id>pwn;.service"}},
		"`gateway stop --system` stops the launcher and its worker, and closes the port": {Role: api.RoleSystemd, RunBy: RunBy{Unit: "openclaw-gateway.socket", Ours: true, Enabled: true}},
		"`systemctl status nginx.service` shows it, which serves 0.0.0.0:80 as well: take 127.0.0.1:18789 out of its configuration; `systemctl stop nginx.service` would stop all of it": {
			Role: api.RoleForeign, RunBy: RunBy{Unit: "nginx.service", Enabled: true, Besides: addrs("0.0.0.0:80", "[::1]:18789", "127.0.0.1:40000")},
		},
		"`gateway reclaim --force 127.0.0.1:18789` ends it, and with it what it serves on 0.0.0.0:80": {
			Role: api.RoleForeign, RunBy: RunBy{Besides: addrs("0.0.0.0:80", "127.0.0.1:18789")},
		},
		"`systemctl cat x.socket` shows it, which listens on 0.0.0.0:80 as well: take 127.0.0.1:18789 out of it; `systemctl disable --now x.socket` would close all of it": {
			Role: api.RoleSystemd, RunBy: RunBy{Unit: "x.socket", Enabled: true, Besides: addrs("0.0.0.0:80", "127.0.0.1:18789")},
		},
		"`systemctl stop -- -x.service` stops it": {Role: api.RoleForeign, RunBy: RunBy{Unit: "-x.service"}},
	} {
		h.Wanted, h.Addresses = wanted, wanted
		if got := h.Remedy(Asker{Program: "gateway"}).String(); got != want {
			t.Errorf("%s of %+v: %s, want %s", h.Role, h.RunBy, got, want)
		}
	}
}

func addrs(texts ...string) []netaddr.Address {
	var addresses []netaddr.Address
	for _, text := range texts {
		addresses = append(addresses, netaddr.MustParse(text))
	}
	return addresses
}

// TestContainers: the engines name the cgroups of their containers so that each can be told, and stopped by its own command.
func TestContainers(t *testing.T) {
	t.Parallel()
	const uid, id = 4_000_000, "0123456789ab0123456789ab0123456789ab0123456789ab0123456789ab0123"
	for _, test := range []struct{ cgroup, name, owner, other string }{
		{"/system.slice/docker-" + id + ".scope", "node", "sudo docker stop 0123456789ab", "docker stop 0123456789ab"},
		{"/docker/" + id, "node", "sudo docker stop 0123456789ab", "docker stop 0123456789ab"},
		{"/machine.slice/libpod-" + id + ".scope", "node", "sudo podman stop 0123456789ab", "podman stop 0123456789ab"},
		{"/machine.slice/libpod-conmon-" + id + ".scope", "conmon", "sudo podman stop 0123456789ab", "podman stop 0123456789ab"},
		{
			"/user.slice/user-4000000.slice/user@4000000.service/user.slice/docker-" + id + ".scope", "node",
			"docker --host unix:///run/user/4000000/docker.sock stop 0123456789ab",
			"runuser --pty -u 4000000 -- env XDG_RUNTIME_DIR=/run/user/4000000 docker --host unix:///run/user/4000000/docker.sock stop 0123456789ab",
		},
		{
			"/user.slice/user-4000000.slice/user@4000000.service/user.slice/libpod-" + id + ".scope", "node", "podman stop 0123456789ab",
			"runuser --pty -u 4000000 -- env XDG_RUNTIME_DIR=/run/user/4000000 podman stop 0123456789ab",
		},
		{"/lxc.payload.web/system.slice/x.service", "node", "sudo lxc-stop --name web", "lxc-stop --name web"},
		{`/machine.slice/machine-my\x2dweb.scope/payload`, "node", "sudo machinectl poweroff my-web", "machinectl poweroff my-web"},
		{"/machine.slice/systemd-nspawn@web.service/payload/system.slice/x.service", "node", "sudo machinectl poweroff web", "machinectl poweroff web"},
		{
			"/system.slice/docker.service", "docker-proxy", "sudo sh -c 'docker stop $(docker ps --quiet --filter publish=18789)'",
			"sh -c 'docker stop $(docker ps --quiet --filter publish=18789)'",
		},
		{
			"/system.slice/snap.docker.dockerd.service", "docker-proxy", "sudo sh -c 'docker stop $(docker ps --quiet --filter publish=18789)'",
			"sh -c 'docker stop $(docker ps --quiet --filter publish=18789)'",
		},
		{"/user.slice/user-4000000.slice/session-3.scope", "pasta", "podman ps", "runuser --pty -u 4000000 -- env XDG_RUNTIME_DIR=/run/user/4000000 podman ps"},
		{
			"/user.slice/user-4000000.slice/user@4000000.service/machine-db.scope", "node", "machinectl poweroff db",
			"runuser --pty -u 4000000 -- env XDG_RUNTIME_DIR=/run/user/4000000 machinectl poweroff db",
		},
		{
			"/user.slice/user-4000000.slice/user@4000000.service/app.slice/docker.service", "rootlesskit",
			"sh -c 'docker --host unix:///run/user/4000000/docker.sock stop $(docker --host unix:///run/user/4000000/docker.sock ps --quiet --filter publish=18789)'",
			"runuser --pty -u 4000000 -- env XDG_RUNTIME_DIR=/run/user/4000000 sh -c 'docker --host unix:///run/user/4000000/docker.sock stop $(docker --host unix:///run/user/4000000/docker.sock ps --quiet --filter publish=18789)'",
		},
		{
			`/machine.slice/machine-qemu\x2d3\x2dmy\x2dvm.scope/libvirt/emulator`, "qemu-system-x86", "sudo virsh shutdown my-vm", "virsh shutdown my-vm",
		},
	} {
		owner := map[string]uint32{"docker-proxy": 0, "pasta": uid, "node": 100_000}[test.name]
		h := Holder{Process: proctree.Process{PID: 1 << 30, Name: test.name}, UID: owner, Cgroup: test.cgroup, Role: api.RoleForeign}
		h.InUnit, _ = proctree.UnitOf(h.Cgroup)
		h.Manager = managerOf(h.Cgroup)
		h.Wanted = []netaddr.Address{netaddr.MustParse("127.0.0.1:18789")}
		if h.RunBy.Container = contained(&h, "/"); h.RunBy.Container == nil {
			t.Errorf("%s is in no container", test.cgroup)
			continue
		}
		if got := h.Remedy(Asker{UID: uid}).Command; got != test.owner {
			t.Errorf("in %s, for user %d: %s, want %s", test.cgroup, uid, got, test.owner)
		}
		if got := h.Remedy(Asker{}).Command; got != test.other {
			t.Errorf("in %s, for root: %s, want %s", test.cgroup, got, test.other)
		}
	}
	// What is below a unit, its user has named.
	for cgroup, name := range map[string]string{
		"/system.slice/bob.service/docker-" + id + ".scope": "node", "/system.slice/bob.service/docker/" + id: "node",
		"/system.slice/bob.service/lxc.payload.db": "node", "/system.slice/bob.service/machine-db.scope": "node",
		`/system.slice/bob.service/machine-qemu\x2d3\x2ddb.scope`: "node", "/system.slice/bob.service/docker.service": "docker-proxy",
	} {
		h := Holder{Process: proctree.Process{PID: 1 << 30, Name: name}, UID: uid, Cgroup: cgroup, Manager: managerOf(cgroup)}
		if c := contained(&h, "/"); c != nil {
			t.Errorf("%s is in %+v", cgroup, c)
		}
	}
	for cgroup, want := range map[string]systemd.Manager{
		"/user.slice/user-1.slice/user@1.service/app.slice/x.service": {User: true, UID: 1},
		"/system.slice/bob.service/user@0.service/x.service":          {},
		"/user.slice/user-1.slice/user@1.service/user@0.service/x":    {User: true, UID: 1},
	} {
		if got := managerOf(cgroup); got != want {
			t.Errorf("%s is in the care of %+v, want %+v", cgroup, got, want)
		}
	}
	for _, cgroup := range []string{"/system.slice/docker.service", "/system.slice/x.service", "/user.slice/user-1.slice/session-3.scope", "/docker/x"} {
		h := Holder{Process: proctree.Process{PID: 1 << 30, Name: "node"}, Cgroup: cgroup}
		if c := contained(&h, "/"); c != nil {
			t.Errorf("%s is in %+v", cgroup, c)
		}
	}
}

// TestOwnContainer: where the cgroups of the host are seen from within a container, what is in it is in none.
func TestOwnContainer(t *testing.T) {
	t.Parallel()
	const id, another = "/docker/0123456789ab0123456789ab0123456789ab0123456789ab0123456789ab0123", "/docker/1123456789ab0123456789ab0123456789ab0123456789ab0123456789ab0123"
	h := Holder{Process: proctree.Process{PID: 1 << 30, Name: "node"}, Cgroup: id + "/session"}
	for own, want := range map[string]bool{id: false, another: true, "/user.slice": true} {
		if c := contained(&h, own); (c != nil) != want {
			t.Errorf("%s is in %+v for whoever is in %s", h.Cgroup, c, own)
		}
	}
}
