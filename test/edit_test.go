package test

import (
	"strings"
	"testing"

	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
)

// TestEdits: saving the file is all that is asked of anybody.
func TestEdits(t *testing.T) {
	const file = "/etc/openclaw-gateway/config.yaml"
	m := boot(t, machine.Options{})
	with := func(name string) string {
		return worker(nodePath, workersPath+"/server.js") + "  environment: [BOOT_MS=50, NAME=" + name + "]\n"
	}
	install(t, m.Scope, m, with("start"))
	get(t, m, ipv4, "/")
	serving(t, m.Scope, 1)

	tests := []struct{ name, script string }{
		{"in place", "cat > " + file + " < /tmp/new"},
		{"renamed over", "cp /tmp/new /etc/openclaw-gateway/.new && mv /etc/openclaw-gateway/.new " + file},
		{"sed -i", "sed -i s/NAME=[a-z]*/NAME=sed/ " + file},
		{"deleted and made again", "rm " + file + " && cp /tmp/new " + file},
		{"through a link", "mkdir -p /etc/edition && cp /tmp/new /etc/edition/config.yaml && ln -sfn /etc/edition/config.yaml " + file},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			old := gatewayStatus(t, m.Scope)
			m.WriteFile(t, "/tmp/new", with(strings.Repeat("x", i+1)), 0o644)
			underLoad(t, m, ipv4, "/", loops, func(*load.Load) {
				m.Run(t, "sh", "-c", test.script)
				serving(t, m.Scope, old.Worker.Generation+1)
			})
			now := gatewayStatus(t, m.Scope)
			if now.Worker.Generation != old.Worker.Generation+1 || now.Worker.LastExit.Reason != "config" || now.Config.State != "applied" {
				t.Errorf("the status is %+v, want one new generation", now)
			}
		})
	}

	t.Run("wrong", func(t *testing.T) {
		old := gatewayStatus(t, m.Scope)
		m.Run(t, "sh", "-c", "rm "+file+"; printf 'worker:\\n  comand: [x]\\n' > "+file)
		statusText(t, m.Scope, "serves", "config.yaml:2", "comand")
		if now := gatewayStatus(t, m.Scope); now.Worker.PID != old.Worker.PID || now.Config.State != "rejected" || now.Verdict != "degraded" {
			t.Errorf("the status is %+v, want the same worker and a rejected configuration", now)
		}
	})
	t.Run("worker that does not come up", func(t *testing.T) {
		m.WriteFile(t, file, worker("/bin/false"), 0o644)
		statusText(t, m.Scope, "serves", "rolled back", "exit code 1")
		if now := gatewayStatus(t, m.Scope); now.Config.State != "rejected" || now.Worker.State != "ready" {
			t.Errorf("the status is %+v, want the last configuration that worked", now)
		}
	})
	t.Run("live", func(t *testing.T) {
		m.WriteFile(t, file, with("live"), 0o644)
		m.Run(t, gatewayPath, "reload")
		old := gatewayStatus(t, m.Scope)
		m.WriteFile(t, file, with("live")+"log: {level: debug}\nrestart: {backoff_max: 1m}\n", 0o644)
		m.Run(t, gatewayPath, "reload")
		if now := gatewayStatus(t, m.Scope); now.Worker.PID != old.Worker.PID || now.Config.State != "applied" || now.Verdict != "ok" {
			t.Errorf("the status is %+v, want the same worker", now)
		}
		if journal := m.Journal(t, service); !strings.Contains(journal, "key=log.level from=info to=debug") {
			t.Errorf("the edit is not explained in the journal:\n%s", journal)
		}
	})
}
