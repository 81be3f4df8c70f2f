package holders

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/test/sockets"
	"openclaw-gateway/worker/proctree"
)

// TestListening: each process that holds the address has the role that its
// command line and its descent prove.
func TestListening(t *testing.T) {
	t.Parallel()
	listener, address := sockets.Server(t, "tcp4", "127.0.0.1:0")
	program, mark := "/proc/self/exe", ""
	start := func(argv ...string) int {
		t.Helper()
		cmd := child(hold, argv...)
		cmd.Path, cmd.Env = program, append(cmd.Env, mark)
		startHolderAs(t, listener, cmd)
		return cmd.Process.Pid
	}
	const entry = "/nowhere/node_modules/openclaw/dist/index.js"
	want := map[int]api.Role{
		os.Getpid(): api.RoleLauncher, // of the one with its mark
		start("node", entry, "gateway", "--port", "18789"): api.RoleOrphan,
		start("openclaw-gateway", "", ""):                  api.RoleForeign,
		start("/opt/openclaw-gateway", "--port", "18789"):  api.RoleForeign,
		start("python3", "/srv/openclaw.py", "gateway"):    api.RoleForeign,
		start("node", entry, "gateway", "status"):          api.RoleForeign,
		start("/usr/local/bin/gateway", "run"):             api.RoleLauncher, // the same program as this one
		start("systemd", "--user"):                         api.RoleForeign,
	}
	worker := start("node", entry, "gateway")
	want[worker] = api.RoleWorker

	program = filepath.Join(t.TempDir(), "node")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	want[start("openclaw-gateway", "", "")] = api.RoleOrphan
	// The worker of a launcher that lives, whatever program that is.
	launcher, err := proctree.Find(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	mark = fmt.Sprintf("GATEWAY_LAUNCHER=/run/some:where:%d:%d", launcher.PID, launcher.Start)
	want[start("node", entry, "gateway", "run")] = api.RoleWorker
	mark = fmt.Sprintf("GATEWAY_LAUNCHER=/run/some:where:%d:%d", launcher.PID, launcher.Start+1)
	want[start("node", entry, "gateway", "run")] = api.RoleOrphan // that one has ended

	sockets, _, err := Known{Worker: worker}.Listening(t.Context(), address)
	if err != nil || len(sockets) != 1 || !sockets[0].Exact {
		t.Fatalf("%+v, %v", sockets, err)
	}
	for _, holder := range sockets[0].Holders {
		if holder.Role != want[holder.PID] {
			t.Errorf("%s is %s (%s), want %s", holder.Command, holder.Role, holder.Why, want[holder.PID])
		}
		reasoned := slices.Contains([]api.Role{api.RoleOrphan, api.RoleRival, api.RoleForeign}, holder.Role)
		if reasoned == (holder.Why == "") {
			t.Errorf("%s is %s because of %q", holder.Command, holder.Role, holder.Why)
		}
		delete(want, holder.PID)
	}
	if len(want) > 0 {
		t.Errorf("not found: %v", want)
	}
}

// TestForks: what systemd has forked and not executed has the sockets of the unit before it is in the unit's cgroup.
func TestForks(t *testing.T) {
	t.Parallel()
	holder := func(pid int, name, cgroup string) *Holder {
		h := &Holder{Process: proctree.Process{PID: pid, Name: name}, Cgroup: cgroup}
		h.InUnit, h.UserUnit = proctree.UnitOf(cgroup)
		return h
	}
	const user = "/user.slice/user-1000.slice/user@1000.service"
	system, users, shell := holder(1, "systemd", "/init.scope"), holder(7, "systemd", user+"/init.scope"), holder(8, "sh", "/init.scope")
	for _, test := range []struct {
		name, cgroup string
		parent       *Holder
		want         api.Role
	}{
		{"(gateway)", "/init.scope", system, api.RoleSystemd},
		{"(gateway)", "/system.slice/openclaw-gateway.service", system, api.RoleLauncher},
		{"(gateway)", user + "/init.scope", users, api.RoleSystemd},
		{"(gateway)", user + "/app.slice/openclaw-gateway.service", users, api.RoleLauncher},
		{"(nginx)", "/system.slice/nginx.service", system, ""},
		{"gateway", "/init.scope", system, ""},
		{"(gateway)", "/init.scope", shell, ""},
	} {
		if got := forks(holder(9, test.name, test.cgroup), test.parent); got != test.want {
			t.Errorf("%s in %s, a child of %s: %q, want %q", test.name, test.cgroup, test.parent.Name, got, test.want)
		}
	}
}
