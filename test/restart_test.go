package test

import (
	"maps"
	"testing"

	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
)

// TestRestarts restarts each kind of worker in each way, again and again, under
// clients that open a connection for each request.
func TestRestarts(t *testing.T) { everywhere(t, testRestarts) }

func testRestarts(t *testing.T, here place) {
	times := here.scaled(5)
	workers := []struct {
		name, configuration, path string
		drains                    bool // it answers the requests under way before it ends
	}{
		{"hello", "restart: {backoff_min: 100ms}\n", "/healthz", true},
		{"node", "restart: {backoff_min: 100ms}\n" + worker(nodePath, workersPath+"/server.js"), "/", false},
	}
	ways := []struct {
		name    string
		planned bool
		restart func(*testing.T, *machine.Machine, status)
	}{
		{"gateway restart", true, func(t *testing.T, m *machine.Machine, _ status) { m.Run(t, gatewayPath, "restart") }},
		{"systemctl restart", true, func(t *testing.T, m *machine.Machine, _ status) { m.Systemctl(t, "restart", service) }},
		{"kill -9 of the worker", false, func(t *testing.T, m *machine.Machine, old status) {
			kill(t, m, old.Worker.PID)
			serving(t, m.Scope, old.Worker.Generation+1)
		}},
		{"kill -9 of the launcher", false, func(t *testing.T, m *machine.Machine, old status) {
			kill(t, m, old.Launcher.PID)
			servingAnew(t, m.Scope, old.Launcher.PID)
		}},
	}
	if here.more {
		workers = workers[:1]
	}
	for _, worker := range workers {
		t.Run(worker.name, func(t *testing.T) {
			m := here.boot(t, machine.Options{})
			install(t, m.Scope, m, worker.configuration)
			before := inodes(t, m)
			for _, way := range ways {
				t.Run(way.name, func(t *testing.T) {
					inFlight := times * loops
					if way.planned && worker.drains {
						inFlight = 0
					}
					underLoad(t, m, ipv4, worker.path, inFlight, func(l *load.Load) {
						for range times {
							old := gatewayStatus(t, m.Scope)
							way.restart(t, m, old)
							answered(t, l)
							now := gatewayStatus(t, m.Scope)
							if now.Worker.PID == old.Worker.PID {
								t.Errorf("the worker is still %d", old.Worker.PID)
							}
						}
					})
					if after := inodes(t, m); !maps.Equal(before, after) {
						t.Errorf("the sockets' inodes were %v and are %v", before, after)
					}
				})
			}
		})
	}
}

// servingAnew waits until another launcher than old serves.
func servingAnew(t testing.TB, s *machine.Scope, old int) {
	t.Helper()
	s.WaitUnit(t, service, 2*bound, func(u machine.Unit) bool { return u.MainPID != old && u.MainPID != 0 })
	serving(t, s, 1)
}
