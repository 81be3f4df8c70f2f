package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/test/machine"
)

// drains takes the sockets, and answers whom it has accepted before it ends: also whom it accepts when it goes on after it
// was stopped, and has not seen the stop signal yet.
const drains = `const http = require('http');
const servers = [[18789, '127.0.0.1'], [18789, '::1']].map(where => http.createServer((q, r) => r.end('here')).listen(...where));
process.on('SIGTERM', () => servers.forEach(server => server.close()));`

// lingers closes its listeners when it is told to end, and lives on.
const lingers = drains + `process.on('SIGTERM', () => { setInterval(() => {}, 1000); console.log('listens no more'); });`

// waiting is a client that waits for its answer.
type waiting struct{ answered chan string }

// waitingClient connects and asks, and returns when it is connected: the test goes on while it waits.
func waitingClient(t testing.TB, m *machine.Machine, address string) *waiting {
	t.Helper()
	w := &waiting{answered: make(chan string, 1)}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	connected := make(chan struct{})
	come := sync.OnceFunc(func() { close(connected) })
	go func() {
		defer come() // or was refused
		code, body, err := tryGet(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { come() }}), m, address, "/")
		w.answered <- fmt.Sprintf("%d %s %v", code, body, err)
	}()
	select {
	case <-connected:
	case <-time.After(bound):
		t.Fatalf("a client of %s is not connected after %s", address, bound)
	}
	return w
}

// wantServed expects an answer.
func (w *waiting) wantServed(t testing.TB) {
	t.Helper()
	select {
	case answer := <-w.answered:
		if !strings.HasPrefix(answer, "200 ") {
			t.Errorf("the client that waited got %s", answer)
		}
	case <-time.After(bound):
		t.Fatalf("the client that waited has no answer after %s", bound)
	}
}

// stopProcess stops a process as Ctrl-Z does, and returns when all its threads have stopped: one of them that waits in
// accept(2) can take a client until then. Only its parent is told.
func stopProcess(t testing.TB, m *machine.Machine, pid int) {
	t.Helper()
	tasks := fmt.Sprintf("/proc/%d/task/*/stat", process(t, m, pid).HostPID)
	m.Run(t, "kill", "-STOP", strconv.Itoa(pid))
	for limit := time.Now().Add(bound); ; runtime.Gosched() {
		running, err := filepath.Glob(tasks)
		all := len(running)
		running = slices.DeleteFunc(running, func(path string) bool {
			stat, err := os.ReadFile(path)
			// After the name, which may contain anything: proc(5). What has ended does not run.
			return err != nil || strings.HasPrefix(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " T")
		})
		if err == nil && all > 0 && len(running) == 0 {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("of pid %d still run after %s: %v (of %d, %v)", pid, bound, running, all, err)
		}
	}
}

// TestHung: a worker that was ready and serves nobody is told everywhere, and as soon as it serves again that is, too; whoever
// else keeps clients waiting is told with its end, and the alarm rings for all of them.
func TestHung(t *testing.T) { inScopes(t, testHung) }

func testHung(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	const alive = "alive:\n  queue: 1s\n"
	command := worker(nodePath, "-e", drains)
	install(t, m.Scope, m, command+alive)
	get(t, m, ipv4, "/")
	serving(t, m.Scope, 1)
	silent(t, m.Scope)
	stop := func() {
		t.Helper()
		stopProcess(t, m, gatewayStatus(t, m.Scope).Worker.PID)
	}
	reloading := func() {
		t.Helper()
		m.Scope.WaitUnit(t, service, bound, func(u machine.Unit) bool { return u.ActiveState == "reloading" })
	}

	t.Run("told", func(t *testing.T) {
		stop()
		client := waitingClient(t, m, ipv6)
		reloading()
		s := gatewayStatus(t, m.Scope)
		if s.Verdict != "hung" || s.Worker.State != "ready" || s.Worker.Hung == nil || s.Worker.Hung.By != "queue" || s.Worker.Hung.Address != ipv6 ||
			time.Since(s.Worker.Hung.Since) < time.Second {
			t.Errorf("the status is %s, worker %+v, hung %+v", s.Verdict, s.Worker, s.Worker.Hung)
		}
		for _, socket := range s.Sockets {
			if waits := socket.Waiting; (socket.Address == ipv6) != (waits >= 1) {
				t.Errorf("the oldest client of %s waits for %v s", socket.Address, waits)
			}
		}
		wantStatus(t, m.Scope, 1, "hung", "generation 1 hangs, clients of ", "a client has waited on "+ipv6+" since ", "(for ",
			"the worker hangs, or is full; `gateway restart` replaces it")
		f := finds(t, m.Scope, "worker-hung")
		if !strings.Contains(f.Summary, "was stopped by a signal") {
			t.Errorf("found %+v", f)
		}
		mend(t, m.Scope, f, "gateway restart --"+kind(m.Scope))
		client.wantServed(t)
		serving(t, m.Scope, 2)

		var h api.History
		if err := json.Unmarshal([]byte(m.Scope.Run(t, gatewayPath, "status", "--history", "--json")), &h); err != nil {
			t.Fatal(err)
		}
		if first := h.Generations[0]; len(first.Hung) != 1 || first.Hung[0].Until == nil || first.Reason != "restart" {
			t.Errorf("the history has %+v", h.Generations)
		}
		if text := m.Scope.Run(t, gatewayPath, "status", "--history"); !strings.Contains(text, "hung for ") {
			t.Errorf("the history says\n%s", text)
		}
	})
	t.Run("over", func(t *testing.T) {
		stop()
		pid := gatewayStatus(t, m.Scope).Worker.PID
		client := waitingClient(t, m, ipv4)
		reloading()
		m.Run(t, "kill", "-CONT", strconv.Itoa(pid))
		client.wantServed(t)
		serving(t, m.Scope, 2)
		wantStatus(t, m.Scope, 0, "ok", "generation 2 serves")
		silent(t, m.Scope)
	})
	t.Run("replaced", func(t *testing.T) {
		m.As(m.Scope).WriteFile(t, configPath(m.Scope), command+alive+"  restart: true\n", 0o644)
		m.Scope.Run(t, gatewayPath, "reload")
		stop()
		client := waitingClient(t, m, ipv4)
		client.wantServed(t)
		serving(t, m.Scope, 3)
		if s := gatewayStatus(t, m.Scope); s.Worker.LastExit == nil || s.Worker.LastExit.Reason != "hung" || s.Worker.LastExit.Signal == "SIGKILL" {
			t.Errorf("the last exit is %+v, want one that hung and took its signal", s.Worker.LastExit)
		}
	})
	t.Run("alarm", func(t *testing.T) {
		const ring = "/opt/ring"
		m.WriteFile(t, ring, "#!/bin/sh\ngrep -o '\"verdict\":\"[a-z]*\"'\necho \"alarm: $GATEWAY_EVENT of $GATEWAY_GENERATION: $GATEWAY_PROBLEM ($NOTIFY_SOCKET)\"\n", 0o755)
		write := func(text string) {
			t.Helper()
			m.As(m.Scope).WriteFile(t, configPath(m.Scope), text+alive+"alarm: {command: ["+ring+"], after: 1s}\n", 0o644)
		}
		cursor := m.JournalCursor(t, service)
		heard := func(words ...string) {
			t.Helper()
			for _, word := range words {
				awaitJournal(t, m, cursor, word)
			}
		}
		write(command)
		m.Scope.Run(t, gatewayPath, "reload")
		if s := gatewayStatus(t, m.Scope); s.Alarm.State != "quiet" {
			t.Errorf("the alarm is %s", s.Alarm.State)
		}
		stop()
		pid := gatewayStatus(t, m.Scope).Worker.PID
		client := waitingClient(t, m, ipv4)
		heard(`"verdict":"hung"`, "alarm: hung of 3: generation 3 hangs")
		if s := gatewayStatus(t, m.Scope); s.Alarm.State != "ringing" {
			t.Errorf("the alarm is %s", s.Alarm.State)
		}
		m.Run(t, "kill", "-CONT", strconv.Itoa(pid))
		client.wantServed(t)
		heard(`"verdict":"ok"`, "alarm: recovered of 3:  ()")
		write(worker("/bin/false"))
		if _, err := m.Scope.Output(gatewayPath, "reload"); err == nil {
			t.Error("a worker that fails was taken")
		}
		heard("alarm: rolled-back of ")
		serving(t, m.Scope, 5)
		m.As(m.Scope).WriteFile(t, configPath(m.Scope), command+alive+"alarm: {command: [/bin/false], after: 0s}\n", 0o644)
		m.Scope.Run(t, gatewayPath, "reload")
		m.Scope.Run(t, gatewayPath, "restart")
		heard("alarm.command has failed")
		wantStatus(t, m.Scope, 1, "degraded", "alarm.command has failed for the event ")
	})
	t.Run("wants what clashes", func(t *testing.T) {
		// With ready.timeout as it is, 5 min: an edit that cannot work is taken back as soon as that is known.
		m.As(m.Scope).WriteFile(t, configPath(m.Scope), worker(nodePath, "-e", "process.on('uncaughtException', () => {}); "+
			"setInterval(() => {}, 1000); require('http').createServer().listen(18789, '0.0.0.0')")+alive, 0o644)
		if _, err := m.Scope.Output(gatewayPath, "reload"); err == nil || !strings.Contains(err.Error(), "it wanted to listen on 0.0.0.0:18789") {
			t.Errorf("gateway reload: %v", err)
		}
		serving(t, m.Scope, 1)
	})
	t.Run("OpenClaw on a Node.js that it does not run on", func(t *testing.T) {
		// It could be anything that such a Node.js makes of it: here it never listens.
		m.WriteFile(t, clawEntry, "setInterval(() => {}, 1000)\n", 0o644)
		m.WriteFile(t, filepath.Dir(filepath.Dir(clawEntry))+"/package.json", `{"name": "openclaw", "version": "2026.9.6", "engines": {"node": ">=99.1"}}`, 0o644)
		m.As(m.Scope).WriteFile(t, configPath(m.Scope), worker(nodePath, clawEntry, "gateway", "run", "--port", "18789")+alive, 0o644)
		if _, err := m.Scope.Output(gatewayPath, "reload"); err == nil || !strings.Contains(err.Error(), nodePath+" is Node.js ") ||
			!strings.Contains(err.Error(), "and OpenClaw 2026.9.6 needs >=99.1: name such a one in worker.command") {
			t.Errorf("gateway reload: %v", err)
		}
		serving(t, m.Scope, gatewayStatus(t, m.Scope).Worker.Generation)
		wantStatus(t, m.Scope, 1, "degraded", "OpenClaw 2026.9.6 needs >=99.1")
	})
	t.Run("does not end", func(t *testing.T) {
		m.As(m.Scope).WriteFile(t, configPath(m.Scope), worker(nodePath, "-e", lingers)+alive, 0o644)
		m.Scope.Run(t, gatewayPath, "reload")
		cursor := m.JournalCursor(t, service)
		generation := gatewayStatus(t, m.Scope).Worker.Generation
		restarted := make(chan string, 1)
		ctx, cancel := context.WithTimeout(t.Context(), bound)
		defer cancel()
		// On a terminal, which is narrow.
		const columns = 50
		restart := m.Scope.Command(ctx, "script", "-qec", fmt.Sprintf("stty cols %d; %s restart --%s", columns, gatewayPath, kind(m.Scope)), "/dev/null")
		go func() {
			said, err := restart.CombinedOutput()
			restarted <- fmt.Sprintf("%s%v", said, err)
		}()
		u := statusText(t, m.Scope, fmt.Sprintf("generation %d is stopping", generation))
		if !strings.Contains(u.StatusText, " at the latest") {
			t.Errorf("systemd is told %q", u.StatusText)
		}
		awaitJournal(t, m, cursor, "listens no more")
		client := waitingClient(t, m, ipv4)
		s := gatewayStatus(t, m.Scope)
		for end := time.Now().Add(bound); s.Verdict == "starting" && time.Now().Before(end); {
			s = gatewayStatus(t, m.Scope) // nothing tells that a second has passed
		}
		if s.Worker.WaitsUntil == nil || time.Until(*s.Worker.WaitsUntil) < time.Minute {
			t.Errorf("the worker ends at %v at the latest, want in about 327 s", s.Worker.WaitsUntil)
		}
		wantStatus(t, m.Scope, 1, "degraded", "clients wait on "+ipv4+" for longer than alive.queue", " at the latest")
		m.Scope.Run(t, gatewayPath, "restart", "--now", "--"+kind(m.Scope))
		client.wantServed(t)
		said := <-restarted
		wantWords(t, said, fmt.Sprintf("generation %d is stopping, until ", generation), " open;", "`gateway restart --"+kind(m.Scope)+" --now`", "ends it now", "<nil>")
		for line := range strings.Lines(said) {
			if line = strings.TrimRight(line, "\r\n"); len(line) > columns {
				t.Errorf("on a terminal of %d columns it says %q", columns, line)
			}
		}
		generation = gatewayStatus(t, m.Scope).Worker.Generation
		stopped := make(chan error, 1)
		go func() {
			_, err := m.Scope.Output(gatewayPath, "stop", "--"+kind(m.Scope))
			stopped <- err
		}()
		m.Scope.WaitUnit(t, service, bound, func(u machine.Unit) bool {
			return u.ActiveState == "deactivating" && strings.Contains(u.StatusText, fmt.Sprintf("generation %d is stopping", generation))
		})
		now := "gateway stop --" + kind(m.Scope) + " --now"
		wantStatus(t, m.Scope, 1, "degraded", fmt.Sprintf(" wait in vain: they are refused when generation %d has stopped, until ", generation), "`"+now+"`")
		m.Scope.Run(t, "/bin/sh", "-c", now)
		if err := <-stopped; err != nil {
			t.Errorf("gateway stop: %v", err)
		}
		wantStatus(t, m.Scope, 3, "down")
	})
}
