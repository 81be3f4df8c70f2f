package test

import (
	"fmt"
	"testing"

	"openclaw-gateway/test/machine"
)

// TestRefusedBirth: a unit under which no process can be born in a control group has its worker in one all the same.
func TestRefusedBirth(t *testing.T) { inScopes(t, testRefusedBirth) }

func testRefusedBirth(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	install(t, m.Scope, m, "{}\n")
	for _, test := range []struct{ name, configuration, lines string }{
		{"Node.js", worker(nodePath, workersPath+"/server.js"), "RestrictNamespaces=yes"},
		{"listen-fds", worker("/usr/bin/python3", workersPath+"/listenfds.py"), "RestrictNamespaces=yes"},
		// With another error than ENOSYS the C library starts no threads: the built-in server does without it.
		{"another error", "{}\n", "SystemCallFilter=~clone3:EPERM"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dropIn(t, m, test.lines+"\n")
			m.WriteFile(t, configPath(m.Scope), test.configuration, 0o644)
			m.Systemctl(t, "restart", service)
			for generation := 1; generation <= 3; generation++ {
				if code, body := get(t, m, ipv4, "/"); code != 200 {
					t.Fatalf("%d %s", code, body)
				}
				serving(t, m.Scope, generation)
				s := gatewayStatus(t, m.Scope)
				want := fmt.Sprintf("%s/generation-%d", m.Cgroup(service), s.Worker.Generation)
				if worker := process(t, m, s.Worker.PID); worker.Cgroup != want || worker.ParentPID != s.Launcher.PID {
					t.Errorf("the worker is %+v, want it in %s", worker, want)
				}
				m.Run(t, gatewayPath, "restart")
			}
			silent(t, m.Scope)
		})
	}
	// systemd would end it, too.
	dropIn(t, m, "RestrictNamespaces=yes\nKillMode=process\nRestart=no\n")
	m.Systemctl(t, "restart", service)
	get(t, m, ipv4, "/")
	serving(t, m.Scope, 1)
	s := gatewayStatus(t, m.Scope)
	ended := handleOf(t, process(t, m, s.Worker.PID))
	kill(t, m, s.Launcher.PID)
	ended.awaitEnd(t)
}
