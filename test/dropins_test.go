package test

import (
	"fmt"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/test/machine"
)

// stubborn is an OpenClaw that waits for its port.
const stubborn = `
const server = require('node:http').createServer();
server.on('error', () => setTimeout(() => server.listen(18789, '127.0.0.1'), 1000));
server.listen(18789, '127.0.0.1', () => console.log('listening'));
`

// TestDropIns: what somebody has once written for OpenClaw's own unit changes ours, which has its name. Install, status and
// doctor name it, and the command that each of them prints takes it out and leaves the rest.
func TestDropIns(t *testing.T) { inScopes(t, testDropIns) }

func testDropIns(t *testing.T, here place) {
	m := here.boot(t, machine.Options{Users: true})
	ctl := systemctl(m.Scope)
	prepare(t, m)
	m.WriteFile(t, fakeEntry, stubborn, 0o644)
	m.WriteFile(t, path.Join(path.Dir(path.Dir(fakeEntry)), "package.json"), `{"name": "openclaw"}`, 0o644)
	install(t, m.Scope, m, "stop: {timeout: 20s}\n")
	const kept = "Environment=KEPT=1\n"
	own := func(unit string) string { return unitPath(m.Scope, unit+".d/override.conf") }
	write := func(t *testing.T, file, content string) {
		t.Helper()
		m.WriteFile(t, file, content, 0o644)
		m.Systemctl(t, "daemon-reload")
	}
	installed := func(t *testing.T) string {
		t.Helper()
		output := m.Run(t, "/bin/sh", "-c", "gateway install --"+kind(m.Scope)+" 2>&1")
		_, command, _ := strings.Cut(output, "take that out with: ")
		command, _, _ = strings.Cut(command, "\n")
		return command
	}
	// mended runs a command, after which nothing is amiss.
	mended := func(t *testing.T, command string) {
		t.Helper()
		m.Run(t, "/bin/sh", "-c", command)
		if code, _ := get(t, m, ipv4, "/healthz"); code != http.StatusOK {
			t.Errorf("%s answered %d after %s", ipv4, code, command)
		}
		serving(t, m.Scope, 1)
		silent(t, m.Scope)
		if s := gatewayStatus(t, m.Scope); s.Verdict != "ok" || strings.Contains(m.Run(t, gatewayPath, "status"), "drop-in") {
			t.Errorf("after %s the status is %+v", command, s)
		}
	}
	edits := func(keys, file string) string {
		return "sed -i.bak -E 's/^[[:space:]]*(" + keys + ")[[:space:]]*=/#&/' " + file
	}
	mended(t, "true")

	t.Run("another program", func(t *testing.T) {
		write(t, own(service), "[Service]\n"+kept+"ExecStart=\nExecStart="+nodePath+" "+fakeEntry+" gateway --port 18789\n")
		m.Systemctl(t, "restart", "--no-block", service)
		m.WaitUnit(t, service, bound, func(u machine.Unit) bool { return u.ActiveState == "activating" && u.MainPID != 0 })
		want := edits("ExecStart", own(service)) + " && " + ctl + " daemon-reload && " + ctl + " restart openclaw-gateway.service"
		output, err := m.Output(gatewayPath, "status")
		if !strings.Contains(output, "without the launcher, and nobody serves the port: `"+want+"`") || err == nil {
			t.Errorf("status does not say it:\n%s", output)
		}
		d := diagnose(t, m.Scope, gatewayPath)
		if !strings.Contains(d.ids(), "unit-overridden") {
			t.Fatalf("doctor found\n%s", d.text())
		}
		for _, f := range d.Findings {
			if f.Fix != want || f.ID == "unit-overridden" && f.Severity != "error" {
				t.Errorf("doctor says %+v, want the fix %s", f, want)
			}
		}
		if got := installed(t); got != want {
			t.Errorf("install says %q, want %q", got, want)
		}
		mended(t, want)
		if left := m.ReadFile(t, own(service)); !strings.Contains(left, "\n"+kept+"#ExecStart=\n#ExecStart=/") {
			t.Errorf("what is left of the drop-in: %s", left)
		}
	})
	t.Run("limits and pauses", func(t *testing.T) {
		write(t, own(service), "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=5\n[Service]\nRestartSec=60\nTimeoutStopSec=5\nKillMode=process\nRestart=on-failure\n")
		f := finds(t, m.Scope, "unit-overridden")
		for _, word := range []string{
			"RestartSec=60: when the launcher has ended, clients wait for 1m0s", "after 5 starts within 1h0m0s", "a stop kills the worker after 5s",
			"KillMode=process: what the worker leaves", "Restart=on-failure: ", own(service),
		} {
			if !strings.Contains(f.Summary, word) {
				t.Errorf("doctor does not say %q: %s", word, f.Summary)
			}
		}
		if text := m.Run(t, gatewayPath, "status"); f.Severity != "warning" || !strings.HasPrefix(text, "ok") || !strings.Contains(text, "clients wait for 1m0s: `sed ") {
			t.Errorf("a %s, and the status is\n%s", f.Severity, text)
		}
		// The launcher itself must not say "gateway install" for that.
		m.WriteFile(t, configPath(m.Scope), "stop: {timeout: 19s}\n", 0o644)
		_, _ = m.Output(gatewayPath, "reload")
		if s := gatewayStatus(t, m.Scope); !strings.Contains(strings.Join(s.Problems, " "), own(service)+" says so, a drop-in: `gateway doctor` has the command") {
			t.Errorf("the status is %+v", s)
		}
		if got := installed(t); got != f.Fix {
			t.Errorf("install says %q, want %q", got, f.Fix)
		}
		mended(t, f.Fix)
		if s := gatewayStatus(t, m.Scope); len(s.Problems) > 0 {
			t.Errorf("the problems are %q", s.Problems)
		}
	})
	t.Run("not its own folder", func(t *testing.T) {
		write(t, "/etc/systemd/"+kind(m.Scope)+"/service.d/all.conf", "[Service]\n"+kept+"RestartSec=60\n")
		f := finds(t, m.Scope, "unit-overridden")
		mended(t, f.Fix)
		if left := m.ReadFile(t, unitPath(m.Scope, service+".d/all.conf")); left != "[Service]\n"+kept+"#RestartSec=60\n" {
			t.Errorf("the copy is %q", left)
		}
	})
	t.Run("no delegation", func(t *testing.T) {
		// With what OpenClaw's documentation (docs/vps.md of 2026.9.6) has people give to its own unit.
		write(t, own(service), "[Service]\n"+kept+"ProtectControlGroups=true\nEnvironment=OPENCLAW_NO_RESPAWN=1\nEnvironment=NODE_COMPILE_CACHE=/var/tmp/openclaw-compile-cache\n")
		m.Systemctl(t, "restart", service)
		get(t, m, ipv4, "/healthz")
		serving(t, m.Scope, 1)
		worker := m.Run(t, "/bin/sh", "-c", fmt.Sprintf("tr '\\0' '\\n' </proc/%d/environ", gatewayStatus(t, m.Scope).Worker.PID))
		if !strings.Contains(worker, "KEPT=1") || strings.Contains(worker, "OPENCLAW_NO_RESPAWN") || strings.Contains(worker, "NODE_COMPILE_CACHE") {
			t.Errorf("the worker's environment is\n%s", worker)
		}
		f := finds(t, m.Scope, "unit-overridden")
		if !strings.Contains(f.Summary, "ProtectControlGroups=true: the launcher may not make control groups") {
			t.Errorf("found %+v", f)
		}
		mended(t, f.Fix)
	})
	t.Run("nobody sees who waits", func(t *testing.T) {
		lines := map[string]string{"RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6": "(AF_NETLINK)"}
		if !here.user { // whose manager gives it a user namespace besides
			lines["PrivateNetwork=yes"] = "in another network"
		}
		for line, says := range lines {
			m.WriteFile(t, configPath(m.Scope), "stop: {timeout: 19s}\nalive: {queue: 1s}\n", 0o644)
			write(t, own(service), "[Service]\n"+line+"\n")
			m.Systemctl(t, "restart", service)
			get(t, m, ipv4, "/healthz")
			serving(t, m.Scope, 1)
			f := finds(t, m.Scope, "unit-overridden")
			if !strings.Contains(f.Summary, line+": ") || !strings.Contains(f.Summary, says) {
				t.Errorf("found %+v", f)
			}
			// until is for what the launcher, or a client in the queue, needs some time for.
			until := func(verdict string, words ...string) (s status) {
				for end := time.Now().Add(bound); time.Now().Before(end); {
					s = gatewayStatus(t, m.Scope)
					problems := strings.Join(s.Problems, "\n")
					if s.Verdict == verdict && !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(problems, word) }) {
						return s
					}
				}
				t.Errorf("%s: the status is %s with %q, want %s and %q", line, s.Verdict, s.Problems, verdict, words)
				return s
			}
			name, _, _ := strings.Cut(line, "=")
			worker := until("degraded", "alive.queue is in vain", name+"=").Worker.PID
			stopProcess(t, m, worker)
			waitingClient(t, m, ipv4)
			until("hung", "alive.queue is in vain", "a client has waited on "+ipv4)
			m.Run(t, "kill", "-CONT", strconv.Itoa(worker))
			m.WriteFile(t, configPath(m.Scope), "stop: {timeout: 19s}\n", 0o644)
			mended(t, f.Fix)
		}
	})
	t.Run("what systemd does not load", func(t *testing.T) {
		write(t, own(service), "[Service]\nExecStart=/bin/true\n")
		f := finds(t, m.Scope, "unit-overridden")
		if !strings.Contains(f.Summary, "systemd does not load openclaw-gateway.service with it (bad-setting)") {
			t.Errorf("found %+v", f)
		}
		mended(t, f.Fix)
	})
	t.Run("a user that there is not", func(t *testing.T) {
		if here.user {
			return // whose manager makes no other user of itself
		}
		write(t, own(service), "[Service]\nUser=gone\n")
		m.Systemctl(t, "stop", service)
		m.Systemctl(t, "start", "--no-block", service)
		m.WaitUnit(t, service, bound, func(u machine.Unit) bool { return u.ExecMainStatus == 217 })
		f := finds(t, m.Scope, "unit-overridden")
		mended(t, f.Fix)
	})
	t.Run("what keeps it from starting", func(t *testing.T) {
		m.WriteFile(t, unitPath(m.Scope, "db.service"), "[Service]\nType=oneshot\nExecStart=/bin/false\n", 0o644)
		for _, keeps := range []struct{ unit, lines, says string }{
			{service, "[Service]\nWorkingDirectory=/nowhere\n", "WorkingDirectory=/nowhere: it is not there"},
			{service, "[Service]\nEnvironmentFile=/nowhere\n", "EnvironmentFile=/nowhere: systemd cannot read that"},
			{service, "[Service]\nExecStartPre=/bin/false\n", "ExecStartPre=: it fails"},
			{service, "[Unit]\nRequires=nowhere.service\n", "Requires=nowhere.service: systemd does not start openclaw-gateway.service without nowhere.service (not-found)"},
			{service, "[Unit]\nRequires=db.service\nAfter=db.service\n", "Requires=db.service: systemd does not start openclaw-gateway.service without db.service (failed)"},
			{service, "[Unit]\nAssertPathExists=/nowhere\n", "AssertPathExists=/nowhere: it does not hold"},
			{socket, "[Unit]\nConditionPathExists=/nowhere\n", "ConditionPathExists=/nowhere: it does not hold"},
			{socket, "[Socket]\nBindToDevice=nowhere0\n", "BindToDevice=nowhere0: if there is no such device"},
			{socket, "[Socket]\nExecStartPost=/bin/false\n", "ExecStartPost=: it fails"},
			{socket, "[Socket]\nService=other.service\n", "clients start other.service, and not the launcher"},
		} {
			m.Run(t, gatewayPath, "stop")
			write(t, own(keeps.unit), keeps.lines)
			_, _ = m.Output("sh", "-c", ctl+" start "+socket)
			switch {
			case strings.HasPrefix(keeps.lines, "[Unit]"):
				// Without a client, for whom systemd 252 and 257 try again without a pause, and answer nobody.
				_, _ = m.Output("sh", "-c", ctl+" start "+keeps.unit)
			case keeps.unit == service:
				waitingClient(t, m, ipv4)
				m.WaitUnit(t, service, bound, func(u machine.Unit) bool { return u.NRestarts > 5 })
			}
			var f finding
			for range 5 {
				f = finds(t, m.Scope, "unit-overridden")
				if f.Severity != "error" || !strings.Contains(f.Summary, keeps.says) {
					t.Fatalf("%sfound %+v", keeps.lines, f)
				}
			}
			output, err := m.Output(gatewayPath, "status")
			if err == nil || !strings.Contains(output, own(keeps.unit)) || keeps.unit == service && !strings.HasPrefix(output, "degraded: clients wait: no launcher comes up") {
				t.Errorf("%sstatus exits with %v:\n%s", keeps.lines, err, output)
			}
			mended(t, f.Fix)
		}
	})
	t.Run("addresses", func(t *testing.T) {
		write(t, own(socket), "[Socket]\nListenStream=127.0.0.1:18790\n")
		m.Systemctl(t, "restart", socket)
		get(t, m, ipv4, "/healthz")
		f := finds(t, m.Scope, "unit-overridden")
		if s := gatewayStatus(t, m.Scope); !strings.Contains(strings.Join(s.Problems, " "), own(socket)+" says so, a drop-in: `gateway doctor`") {
			t.Errorf("the status is %+v", s)
		}
		mended(t, f.Fix)
	})
	t.Run("a service for each client", func(t *testing.T) {
		write(t, own(socket), "[Socket]\nAccept=yes\n")
		m.Run(t, gatewayPath, "stop")
		m.Systemctl(t, "start", socket)
		if _, _, err := tryGet(t.Context(), m, ipv4, "/"); err == nil {
			t.Error("served, each client by a service of its own")
		}
		m.WaitUnit(t, socket, bound, func(u machine.Unit) bool { return u.ActiveState == "failed" })
		f := finds(t, m.Scope, "unit-overridden")
		if f.Severity != "error" || !strings.Contains(f.Summary, "Accept=yes: systemd would start a service for each client") {
			t.Errorf("found %+v", f)
		}
		if output, _ := m.Output(gatewayPath, "status"); !strings.Contains(output, "Accept=yes in "+own(socket)) {
			t.Errorf("the status is\n%s", output)
		}
		mended(t, f.Fix)
	})
	t.Run("the unit of OpenClaw's own", func(t *testing.T) {
		m.Run(t, gatewayPath, "stop")
		write(t, unitPath(m.Scope, service), "[Service]\nExecStart="+nodePath+" "+fakeEntry+" gateway --port 18789\n[Install]\nWantedBy=default.target\n")
		write(t, own(service), "[Service]\n"+kept+"RestartSec=60\n")
		f := expect(t, without(diagnose(t, m.Scope, gatewayPath), "socket-not-active"), "openclaw-unit-enabled unit-overridden")
		mended(t, f.Fix)
	})
	t.Run("starts that are counted", func(t *testing.T) {
		m.Run(t, gatewayPath, "stop")
		write(t, own(socket), "[Socket]\nTriggerLimitBurst=1\nTriggerLimitIntervalSec=600s\n")
		m.Systemctl(t, "start", socket)
		if f := finds(t, m.Scope, "unit-overridden"); f.Severity != "warning" || !strings.Contains(f.Summary, "systemd closes the port") {
			t.Errorf("found %+v", f)
		}
		get(t, m, ipv4, "/healthz")
		m.Systemctl(t, "stop", service)
		_, _, _ = tryGet(t.Context(), m, ipv4, "/")
		m.WaitUnit(t, socket, bound, func(u machine.Unit) bool { return u.ActiveState == "failed" })
		f := finds(t, m.Scope, "unit-overridden")
		if f.Severity != "error" || !strings.Contains(f.Summary, "systemd has closed the port") {
			t.Errorf("found %+v", f)
		}
		mended(t, f.Fix)
	})
	t.Run("queue", func(t *testing.T) {
		write(t, own(socket), "[Socket]\nBacklog=16\n")
		f := finds(t, m.Scope, "unit-overridden")
		mended(t, f.Fix)
	})
}
