package test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"openclaw-gateway/test/machine"
)

// TestSlowWorker: a worker that takes longer than usual is waited for, and so
// are its clients.
func TestSlowWorker(t *testing.T) { inScopes(t, testSlowWorker) }

func testSlowWorker(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	install(t, m.Scope, m, worker(nodePath, workersPath+"/server.js")+"  environment: [BOOT_MS=4000]\nready: {timeout: 30s}\n")
	start := time.Now()
	code, body := get(t, m, ipv4, "/")
	if took := time.Since(start); code != http.StatusOK || generationOf(body) != 1 || took < 4*time.Second {
		t.Errorf("answered %d %q after %s, want the first generation after its 4 s", code, body, took)
	}
	serving(t, m.Scope, 1)
	if s := gatewayStatus(t, m.Scope); s.Worker.Generation != 1 || s.Worker.LastExit != nil {
		t.Errorf("the worker is %+v, want the first generation", s.Worker)
	}
}

// TestNeverReady: a worker that does not become ready is ended at ready.timeout,
// with a sentence that says what it did instead, and is tried again.
func TestNeverReady(t *testing.T) { inScopes(t, testNeverReady) }

func testNeverReady(t *testing.T, here place) {
	tests := []struct {
		name, configuration string
		words               []string
	}{
		{
			"never listens",
			worker(nodePath, "-e", "setInterval(() => {}, 1000)"),
			[]string{"not ready after 2s (ready.timeout)", "has not listened on 127.0.0.1:18789 and [::1]:18789"},
		},
		{
			"another port, preload",
			worker(nodePath, workersPath+"/server.js") + "  environment: [PORT=9999]\n",
			[]string{"it listens on 127.0.0.1:9999 and [::1]:9999, not on 127.0.0.1:18789 and [::1]:18789", "worker.command", "listen"},
		},
		{
			"another port, listen-fds",
			worker("/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", "9999"),
			[]string{"it listens on 127.0.0.1:9999, not on 127.0.0.1:18789 and [::1]:18789"},
		},
		{
			"one address of two",
			worker(nodePath, "-e", "require('http').createServer().listen(18789, '127.0.0.1')"),
			[]string{"it listens on 127.0.0.1:18789 only", "[::1]:18789"},
		},
		{
			"all interfaces",
			worker(nodePath, "-e", "process.on('uncaughtException', () => {}); setInterval(() => {}, 1000); require('http').createServer().listen(18789, '0.0.0.0')"),
			[]string{"it wanted to listen on 0.0.0.0:18789, which overlaps"},
		},
	}
	m := here.boot(t, machine.Options{})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			// Restarts the launcher, so that each case is a first generation.
			install(t, m.Scope, m, test.configuration+"  start: at-once\nready: {timeout: 2s}\nstop: {timeout: 1s}\nrestart: {backoff_min: 10s}\n")
			m.Systemctl(t, "restart", service)
			unit := statusText(t, m.Scope, test.words...)
			if unit.ActiveState != "reloading" {
				t.Errorf("%s is %s, want reloading: the worker does not answer", service, unit.ActiveState)
			}
			s := gatewayStatus(t, m.Scope)
			if s.Worker.State != "backoff" || s.Worker.LastExit == nil || s.Worker.LastExit.Reason != "unready" || s.Verdict != "degraded" {
				t.Errorf("the status is %+v, want a generation that ended because it was not ready", s)
			}
		})
	}
	t.Run("control characters", func(t *testing.T) { answersEvil(t, m) })
}

// answersEvil: what a worker answers is shown escaped, wherever it is shown.
func answersEvil(t *testing.T, m *machine.Machine) {
	const script = `for (const host of ['127.0.0.1', '::1']) require('net').createServer(s => {
		s.on('error', () => {});
		s.on('data', () => s.end(Buffer.from('HTTP/1.1 500 no\x1b]0;x\x07\x7f\u202e\u009b\t\u2028' + 'x'.repeat(10000) + '\r\n\r\n')));
	}).listen(18789, host)`
	install(t, m.Scope, m, worker(nodePath, "-e", script)+"  start: at-once\nready: {timeout: 2s, path: /ready}\nstop: {timeout: 1s}\nrestart: {backoff_min: 30s}\n")
	m.Systemctl(t, "restart", service)
	const shown = `was answered with 500 no\x1b]0;x\a\x7f\u202e\u009b\t\u2028xxx`
	statusText(t, m.Scope, shown)
	for _, arguments := range [][]string{
		{gatewayPath, "status"},
		{gatewayPath, "status", "--history"},
		{gatewayPath, "restart"},
		{gatewayPath, "doctor"},
		{"systemctl", "--" + kind(m.Scope), "status", service},
		{"journalctl", "--no-pager", "--output=cat", "--identifier=gateway"},
		{"journalctl", "--no-pager", "--output=verbose", "--identifier=gateway"},
	} {
		command := m.Command(t.Context(), arguments[0], arguments[1:]...)
		if arguments[0] == "journalctl" {
			command = m.System().Command(t.Context(), arguments[0], arguments[1:]...)
		}
		var all strings.Builder
		command.Stdout, command.Stderr = &all, &all
		_ = command.Run() // some of them say by their exit status what is wrong
		text := all.String()
		if !strings.Contains(text, shown) && arguments[1] != "doctor" {
			t.Errorf("%q lacks %s:\n%s", arguments, shown, text)
		}
		if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("%q shows %.20q", arguments, text[i:])
		}
	}
}

// TestBlockingWorker: O_NONBLOCK belongs to the socket that all share. A Python
// worker that accepts with blocking calls serves after Node.js has used it.
func TestBlockingWorker(t *testing.T) { inScopes(t, testBlockingWorker) }

func testBlockingWorker(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	python := worker("/usr/bin/python3", workersPath+"/listenfds.py")
	install(t, m.Scope, m, python)
	check := func(generation int, handoff string) {
		t.Helper()
		for _, address := range []string{ipv4, ipv6} {
			for range 3 {
				if code, body := get(t, m, address, "/"); code != http.StatusOK || generationOf(body) != generation {
					t.Fatalf("%s answered %d %q, want generation %d", address, code, body, generation)
				}
			}
		}
		serving(t, m.Scope, generation)
		s := gatewayStatus(t, m.Scope)
		if s.Worker.Handoff != handoff || s.Worker.Generation != generation {
			t.Errorf("the worker is %+v, want handoff %s", s.Worker, handoff)
		}
		for _, line := range s.Sockets {
			if line.Backlog != 4096 {
				t.Errorf("%s has a backlog of %d, want 4096", line.Address, line.Backlog)
			}
		}
	}
	check(1, "listen-fds")
	m.WriteFile(t, configPath(m.Scope), worker(nodePath, workersPath+"/server.js"), 0o644)
	m.Run(t, gatewayPath, "reload")
	check(2, "preload")
	m.WriteFile(t, configPath(m.Scope), python, 0o644)
	m.Systemctl(t, "reload", service)
	check(3, "listen-fds")
}

// TestEnvironment: a worker finds nothing of what systemd tells the launcher, and what the launcher tells it.
func TestEnvironment(t *testing.T) { inScopes(t, testEnvironment) }

func testEnvironment(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	for name, command := range map[string][]string{
		"node":   {nodePath, workersPath + "/server.js"},
		"python": {"/usr/bin/python3", workersPath + "/listenfds.py"},
	} {
		t.Run(name, func(t *testing.T) {
			file := m.Home() + "/worker.env"
			install(t, m.Scope, m, worker(command...)+"  environment: [A=from the config, B=from the config]\n"+
				"  environment_file: "+file+"\nready: {probe: http, path: /}\n")
			m.WriteFile(t, file, "B='from the file'\n", 0o600)
			m.Systemctl(t, "restart", service)
			_, body := get(t, m, ipv4, "/environment")
			environment := map[string]string{}
			if err := json.Unmarshal([]byte(body), &environment); err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			for key := range environment {
				foreign := strings.HasPrefix(key, "WATCHDOG_") || slices.Contains([]string{
					"LISTEN_PIDFDID", "SYSTEMD_EXEC_PID", "MAINPID", "FDSTORE", "GATEWAY_PRELOAD", "NODE_OPTIONS",
				}, key)
				if foreign || key == "NOTIFY_SOCKET" && !strings.Contains(environment[key], "/openclaw-gateway/notify-") {
					t.Errorf("the worker got %s=%s", key, environment[key])
				}
			}
			now := gatewayStatus(t, m.Scope).Worker
			want := map[string]string{
				"A": "from the config", "B": "from the file", "GATEWAY_GENERATION": strconv.Itoa(now.Generation),
				"LISTEN_FDS": "2", "LISTEN_FDNAMES": "gateway:gateway", "LISTEN_PID": strconv.Itoa(now.PID),
			}
			for key, value := range want {
				if environment[key] != value {
					t.Errorf("%s is %q, want %q", key, environment[key], value)
				}
			}
			if environment["INVOCATION_ID"] == "" {
				t.Error("INVOCATION_ID is missing, by which OpenClaw knows that it is supervised")
			}
		})
	}
}
