package test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/test/machine"
)

// TestWorkerSpeaks: what a worker says by sd_notify(3), and what its main process leaves, in one machine.
func TestWorkerSpeaks(t *testing.T) { inScopes(t, testWorkerSpeaks) }

func testWorkerSpeaks(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	const program = workersPath + "/speaks.py"
	configure := func(t *testing.T, configuration string) {
		t.Helper()
		m.WriteFile(t, configPath(m.Scope), configuration, 0o644)
		m.Systemctl(t, "restart", service)
	}
	served := func(t *testing.T) string {
		t.Helper()
		code, body := get(t, m, ipv4, "/")
		if code != http.StatusOK {
			t.Fatalf("%s answered %d %s\n%s", ipv4, code, body, m.Journal(t, service))
		}
		return body
	}
	install(t, m.Scope, m, worker("/usr/bin/python3", program))

	t.Run("migrates", func(t *testing.T) {
		gate := "/tmp/migrates"
		m.Run(t, "mkfifo", "-m", "0666", gate)
		configure(t, worker("/usr/bin/python3", program, "migrates", gate)+"ready: {timeout: 3s}\n")
		client := waitingClient(t, m, ipv4)
		statusText(t, m.Scope, "it says: migrating table 3 of 6")
		if s := gatewayStatus(t, m.Scope); s.Verdict != "starting" || !strings.Contains(strings.Join(s.Notes, " "), "migrating table 3 of 6") {
			t.Errorf("the status is %+v", s)
		}
		// It has asked for so much more.
		if s := gatewayStatus(t, m.Scope); s.Worker.WaitsUntil == nil || time.Until(*s.Worker.WaitsUntil) < time.Minute {
			t.Errorf("waits until %v", s.Worker.WaitsUntil)
		}
		<-time.After(3 * time.Second) // of ready.timeout
		m.Run(t, "sh", "-c", "echo >"+gate)
		client.wantServed(t)
		serving(t, m.Scope, 1)
	})
	t.Run("is followed by another main process", func(t *testing.T) {
		configure(t, worker("/usr/bin/python3", program))
		served(t)
		serving(t, m.Scope, 1)
		generation := gatewayStatus(t, m.Scope).Worker.Generation
		for range 3 {
			old := gatewayStatus(t, m.Scope).Worker.PID
			slow := startRequest(t, m)
			m.Run(t, "kill", "-HUP", fmt.Sprint(old))
			m.WaitJournal(t, service, bound, fmt.Sprintf("worker_pid=%d main_pid=", old))
			slow.wantServed(t)
			s := gatewayStatus(t, m.Scope)
			if s.Worker.PID == old || s.Worker.Generation != generation || s.Worker.State != "ready" {
				t.Fatalf("the worker is %+v, and was %d", s.Worker, old)
			}
			if body := served(t); !strings.Contains(body, fmt.Sprintf("pid %d", s.Worker.PID)) && !strings.Contains(body, fmt.Sprintf("pid %d", old)) {
				t.Errorf("served by %s, want %d", body, s.Worker.PID)
			}
		}
		main := gatewayStatus(t, m.Scope).Worker.PID
		m.Run(t, "kill", "-KILL", fmt.Sprint(main))
		served(t)
		serving(t, m.Scope, generation+1)
		if s := gatewayStatus(t, m.Scope); s.Worker.LastExit.Signal != "SIGKILL" || s.Worker.LastExit.Reason != "crash" {
			t.Errorf("the end of the last main process is %+v", s.Worker.LastExit)
		}
	})
	for name, command := range map[string][]string{
		"a shell in front of it": {"/bin/sh", "-c", "python3 " + program + "; echo ended"},
		"a shell that is deaf":   {"/bin/sh", "-c", "trap '' TERM; python3 " + program + " untrap; echo ended"},
	} {
		t.Run(name, func(t *testing.T) {
			configuration := worker(command...)
			if strings.Contains(name, "deaf") {
				configuration += "stop: {to: all}\n"
			}
			configure(t, configuration)
			served(t)
			serving(t, m.Scope, 1)
			slow := startRequest(t, m)
			m.Run(t, gatewayPath, "restart")
			slow.wantServed(t)
			served(t)
		})
	}
	if here.user {
		return // who cannot become another user
	}
	t.Run("has become another user", func(t *testing.T) {
		for _, command := range [][]string{
			{"/usr/bin/setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "/usr/bin/python3", program, "speaks"},
			{"/usr/bin/setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", nodePath, workersPath + "/server.js"},
		} {
			configuration := worker(command...) + "  directory: /tmp\n"
			if command[4] == nodePath {
				configuration += "  handoff: preload\n"
			} else {
				configuration += "ready: {probe: notify}\n"
			}
			configure(t, configuration)
			served(t)
			serving(t, m.Scope, 1)
			s := gatewayStatus(t, m.Scope)
			if command[4] == nodePath && s.Worker.Handoff != "preload" || len(s.Problems) > 0 {
				t.Errorf("the status is %+v", s)
			}
			if user := m.Run(t, "stat", "--format=%U", fmt.Sprintf("/proc/%d", s.Worker.PID)); user != "nobody\n" {
				t.Errorf("the worker is %s", user)
			}
		}
		if code := exitCode(t, m.Command(t.Context(), "setpriv", "--reuid=nobody", "--clear-groups", gatewayPath, "restart", "--system")); code == 0 {
			t.Error("somebody else restarts the worker")
		}
	})
}

// request is one that is under way.
type request struct{ done chan error }

// startRequest makes one that takes a second, and returns when the worker has it.
func startRequest(t *testing.T, m *machine.Machine) request {
	t.Helper()
	r := request{make(chan error, 1)}
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	t.Cleanup(cancel)
	path := fmt.Sprintf("/slow/%d", time.Now().UnixNano())
	go func() {
		code, body, err := tryGet(ctx, m, ipv4, path)
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("%d %s", code, body)
		}
		r.done <- err
	}()
	m.WaitJournal(t, service, bound, "worker: begins "+path)
	return r
}

func (r request) wantServed(t *testing.T) {
	t.Helper()
	if err := <-r.done; err != nil {
		t.Errorf("a request that was under way: %v", err)
	}
}
