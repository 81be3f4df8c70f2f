package test

import (
	"strings"
	"testing"

	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
)

// TestRollback: an edit whose worker does not come up costs nothing; the last
// configuration that worked comes back by itself, also after a restart.
func TestRollback(t *testing.T) { inScopes(t, testRollback) }

func testRollback(t *testing.T, here place) {
	bad := []struct {
		name, configuration, word string
	}{
		{"dies", worker("/bin/false"), "exit code 1"},
		{"never ready", worker(nodePath, "-e", "setInterval(() => {}, 1000)") + "ready: {timeout: 1s}\n", "not ready after 1s"},
		{"missing", worker("/no/such/program"), "/no/such/program"},
	}
	m := here.boot(t, machine.Options{})
	file := configPath(m.Scope)
	good := worker(nodePath, workersPath+"/server.js")
	install(t, m.Scope, m, good)
	get(t, m, ipv4, "/")
	serving(t, m.Scope, 1)
	// So that the last one that worked has come by an edit, too.
	good += "  environment: ['EDITED=1']\n"
	m.WriteFile(t, file, good, 0o644)
	m.Run(t, gatewayPath, "reload")
	for _, edit := range bad {
		t.Run(edit.name, func(t *testing.T) {
			m.WriteFile(t, file, edit.configuration, 0o644)
			// The launcher has tried it by itself. Asked, it tries again, which ends one worker under the clients.
			statusText(t, m.Scope, "serves", "rolled back", edit.word)
			underLoad(t, m, ipv4, "/", loops, func(*load.Load) {
				_, err := m.Output(gatewayPath, "reload")
				if err == nil || !strings.Contains(err.Error(), edit.word) || !strings.Contains(err.Error(), "last configuration that worked") {
					t.Errorf("gateway reload: %v, want %q and that the last configuration is back", err, edit.word)
				}
			})
			unit := statusText(t, m.Scope, "serves", "rolled back", edit.word)
			s := gatewayStatus(t, m.Scope)
			if s.Config.State != "rejected" || !strings.Contains(s.Config.Error, edit.word) || s.Worker.State != "ready" || unit.ActiveState != "active" {
				t.Errorf("the status is %+v, want a rejected configuration and a worker that serves", s)
			}
			m.WriteFile(t, file, good, 0o644)
			m.Run(t, gatewayPath, "reload")
			after := gatewayStatus(t, m.Scope)
			if after.Config.State != "applied" || after.Verdict != "ok" || after.Worker.PID != s.Worker.PID {
				t.Errorf("the status is %+v after the edit was taken back, want the same worker and nothing wrong", after)
			}
		})
	}
	t.Run("broken at the next start", func(t *testing.T) {
		before := gatewayStatus(t, m.Scope).Worker.Generation
		m.WriteFile(t, file, "worker: [\n", 0o644)
		m.Systemctl(t, "restart", service)
		if code, body := get(t, m, ipv4, "/"); code != 200 || generationOf(body) != before+1 {
			t.Errorf("answered %d %q, want the last good configuration's server", code, body)
		}
		serving(t, m.Scope, 1) // it may answer before the launcher knows that it is ready
		if s := gatewayStatus(t, m.Scope); s.Config.State != "rejected" || s.Config.Error == "" || s.Verdict != "degraded" {
			t.Errorf("the status is %+v, want a rejected configuration", s)
		}
	})
}
