package test

import (
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
)

// TestOpenClaw is the product's promise on the real thing: the socket is
// enabled, nothing runs, and a first client gets its answer; every way to
// restart leaves the port where it is.
func TestOpenClaw(t *testing.T) {
	entry := required(t, "OPENCLAW_ENTRY")
	// …/node_modules/openclaw/dist/index.js
	modules := filepath.Dir(filepath.Dir(filepath.Dir(entry)))
	m := boot(t, machine.Options{Binds: map[string]string{"/opt/openclaw/node_modules": modules}})
	m.Run(t, "useradd", "--create-home", "claw")
	install(t, m.Scope, m, `
worker:
  command: [/usr/local/bin/node, /opt/openclaw/node_modules/openclaw/dist/index.js,
    gateway, run, --port, "18789", --bind, loopback, --allow-unconfigured]
  environment:
    - OPENCLAW_SUPERVISOR_MODE=external
    - OPENCLAW_SERVICE_REPAIR_POLICY=external
    - OPENCLAW_GATEWAY_PORT=18789
    - OPENCLAW_GATEWAY_TOKEN=a-token-that-is-long-enough-for-a-test
ready:
  path: /startupz
`, "--run-as", "claw")
	if u := m.Unit(t, service); u.ActiveState != "inactive" {
		t.Fatalf("%s is %s before anybody connected", service, u.ActiveState)
	}
	before := inodes(t, m)
	if want := []string{ipv4, ipv6}; !slices.Equal(slices.Sorted(maps.Keys(before)), want) {
		t.Fatalf("systemd listens on %v, want %v", before, want)
	}

	for _, address := range []string{ipv4, ipv6} {
		start := time.Now()
		code, body := get(t, m, address, "/healthz")
		t.Logf("GET http://%s/healthz: %d %s after %s", address, code, body, time.Since(start).Round(time.Millisecond))
		if code != http.StatusOK {
			t.Fatalf("GET http://%s/healthz: %d %s", address, code, body)
		}
	}
	serving(t, m.Scope, 1)
	checkFamily(t, m, before)

	ways := []struct {
		name    string
		restart func(old status)
	}{
		{"gateway restart", func(status) { m.Run(t, gatewayPath, "restart") }},
		{"systemctl restart", func(status) { m.Systemctl(t, "restart", service) }},
		{"kill -9 of the worker", func(old status) { kill(t, m, old.Worker.PID); serving(t, m.Scope, old.Worker.Generation+1) }},
		{"kill -9 of the launcher", func(old status) { kill(t, m, old.Launcher.PID); servingAnew(t, m.Scope, old.Launcher.PID) }},
	}
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			old := gatewayStatus(t, m.Scope)
			underLoad(t, m, ipv4, "/healthz", loops, func(*load.Load) { way.restart(old) })
			if code, body := get(t, m, ipv6, "/healthz"); code != http.StatusOK {
				t.Errorf("GET http://%s/healthz: %d %s", ipv6, code, body)
			}
			checkFamily(t, m, before)
		})
	}
}

// checkFamily checks who is who: the launcher is the unit's main process, the
// worker its child, and both hold what systemd holds and nobody else does.
func checkFamily(t *testing.T, m *machine.Machine, want map[string]uint64) {
	t.Helper()
	if got := inodes(t, m); !maps.Equal(got, want) {
		t.Errorf("listening sockets (inode by address) are %v, want %v as in the beginning", got, want)
	}
	s := gatewayStatus(t, m.Scope)
	unit := m.Unit(t, service)
	if unit.MainPID != s.Launcher.PID {
		t.Errorf("the main process of %s is %d, the launcher %d", service, unit.MainPID, s.Launcher.PID)
	}
	launcher, worker := process(t, m, s.Launcher.PID), process(t, m, s.Worker.PID)
	if worker.ParentPID != launcher.PID {
		t.Errorf("the worker's parent is %d, want the launcher, %d", worker.ParentPID, launcher.PID)
	}
	for _, p := range []machine.Process{launcher, worker} {
		if !strings.HasPrefix(p.Cgroup, m.Cgroup(service)) {
			t.Errorf("pid %d is in cgroup %s, want below that of %s", p.PID, p.Cgroup, service)
		}
	}
	family := []int{m.ManagerPID(t), launcher.PID, worker.PID}
	for address, inode := range want {
		if got := holding(t, m, inode); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(family))) {
			t.Errorf("%s is held by %v, want systemd, launcher and worker, %v", address, got, family)
		}
	}
	for _, line := range s.Sockets {
		if line.Inode != want[line.Address] {
			t.Errorf("the status says that %s has inode %d, want %d", line.Address, line.Inode, want[line.Address])
		}
		if line.Backlog != 4096 {
			t.Errorf("%s has a backlog of %d, want 4096", line.Address, line.Backlog)
		}
	}
	if s.Verdict != "ok" || s.Launcher.Holder != "systemd" || s.Unit.Scope != kind(m.Scope) || s.Unit.MainPID != unit.MainPID {
		t.Errorf("the status is %+v", s)
	}
}
