package test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/test/machine"
)

// TestExit0: a worker that serves and ends by itself with exit code 0 has not failed. Its next generation comes at once, or with
// the next client, and nobody is sent away.
func TestExit0(t *testing.T) { inScopes(t, testExit0) }

func testExit0(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	configuration := worker("/usr/bin/python3", workersPath+"/tells.py")
	install(t, m.Scope, m, configuration)
	k := &keyWalk{Machine: m}
	served := func(t *testing.T) {
		t.Helper()
		if code, body := get(t, m, ipv4, "/"); code != http.StatusOK {
			t.Fatalf("%s answered %d %s\n%s", ipv4, code, body, k.journal(t))
		}
	}
	// longer than those three that are a failure
	const second = 1100 * time.Millisecond
	t.Run("start", func(t *testing.T) {
		for generation := 1; generation <= 6; generation++ {
			served(t)
			serving(t, m.Scope, generation)
			if generation == 1 {
				k.mark(t)
			}
			<-time.After(second)
			k.exit(t, 0)
		}
		served(t)
		serving(t, m.Scope, 7)
		if s := gatewayStatus(t, m.Scope); s.Worker.LastExit.Reason != "restart" || len(s.Problems) > 0 {
			t.Errorf("the status is %+v", s)
		}
		k.wantJournal(t, false, "next generation after a pause")
	})
	t.Run("wait", func(t *testing.T) {
		m.WriteFile(t, configPath(m.Scope), configuration+"restart: {after_exit_0: wait}\n", 0o644)
		m.Run(t, gatewayPath, "reload")
		for range 4 {
			served(t)
			// It may answer before the launcher knows that it is ready, and would have failed then.
			serving(t, m.Scope, 1)
			k.exit(t, 0)
			atRest(t, m)
			if s := gatewayStatus(t, m.Scope); s.Verdict != "waiting" || len(s.Problems) > 0 {
				t.Errorf("the status is %+v, want waiting", s)
			}
		}
		served(t)
		serving(t, m.Scope, 1)
		if journal := m.Journal(t, service); strings.Contains(journal, "Scheduled restart") || strings.Contains(journal, "front desk opened") {
			t.Errorf("systemd has restarted the launcher by itself, or clients were sent away:\n%s", journal)
		}
	})
	t.Run("again and again", func(t *testing.T) {
		m.WriteFile(t, configPath(m.Scope), worker("/bin/sh", "-c", "systemd-notify --ready")+"restart: {backoff_min: 1h, backoff_max: 1h}\n", 0o644)
		_, _ = m.Output(gatewayPath, "reload")
		statusText(t, m.Scope, "exit code 0", "1 failure")
	})
}
