package test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/test/machine"
)

// byHand is a "gateway run" as somebody in a terminal would start it. The lines
// that it logs can be read meanwhile.
type byHand struct {
	command *exec.Cmd

	mu      sync.Mutex
	log     strings.Builder
	written chan struct{} // closed with the next write
}

// runByHand returns when the launcher has printed its address.
func runByHand(t *testing.T, m *machine.Machine, arguments ...string) *byHand {
	t.Helper()
	command := m.Command(t.Context(), gatewayPath, append([]string{"run"}, arguments...)...)
	h := &byHand{command: command, written: make(chan struct{})}
	command.Stderr = h
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil || !strings.Contains(line, "http://127.0.0.1:") {
		_ = command.Wait()
		t.Fatalf("gateway run printed %q (%v)\n%s", line, err, h.logged())
	}
	return h
}

// Write takes what the launcher logs.
func (h *byHand) Write(text []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.written)
	h.written = make(chan struct{})
	return h.log.Write(text)
}

func (h *byHand) logged() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.String()
}

// waitLog waits until one line of the log has all of the words.
func (h *byHand) waitLog(t *testing.T, words ...string) {
	t.Helper()
	late := time.After(bound)
	for {
		h.mu.Lock()
		log, written := h.log.String(), h.written
		h.mu.Unlock()
		for line := range strings.Lines(log) {
			if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
				return
			}
		}
		select {
		case <-written:
		case <-late:
			t.Fatalf("no line with %q within %s in\n%s", words, bound, log)
		}
	}
}

// TestByHand: without systemd the launcher binds the addresses itself, and
// everything else is the same.
func TestByHand(t *testing.T) { inScopes(t, testByHand) }

func testByHand(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	h := runByHand(t, m)
	for _, address := range []string{ipv4, ipv6} {
		if code, body := get(t, m, address, "/healthz"); code != http.StatusOK {
			t.Errorf("%s answered %d %s", address, code, body)
		}
	}
	m.Run(t, gatewayPath, "restart")
	s := gatewayStatus(t, m.Scope)
	if s.Verdict != "ok" || s.Launcher.Holder != "self" || s.Worker.Generation != 2 || s.Unit.Scope != "none" {
		t.Errorf("the status is %+v", s)
	}

	// A second one says who has the address.
	output, err := m.Output("env", "RUNTIME_DIRECTORY=/tmp/second", gatewayPath, "run")
	if err == nil {
		t.Fatalf("a second gateway run succeeded: %s", output)
	}
	for _, word := range []string{ipv4, "address already in use", strconv.Itoa(s.Launcher.PID), "gateway run", "kill"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the second gateway run says %v, which lacks %q", err, word)
		}
	}

	// As by Ctrl-Z.
	m.Run(t, "kill", "-STOP", strconv.Itoa(s.Launcher.PID))
	goOn := fmt.Sprintf("kill -CONT %d", s.Launcher.PID)
	wantStatus(t, m.Scope, 1, "degraded", "its process was stopped by a signal, `"+goOn+"` lets it go on")
	// nsenter has stopped itself as well, and lets it go on with itself.
	stopped := make(chan error, 1)
	go func() {
		stopped <- unix.Waitid(unix.P_PID, h.command.Process.Pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil)
	}()
	select {
	case <-stopped:
	case <-time.After(bound):
		t.Fatal("nsenter has not stopped itself")
	}
	m.Run(t, "sh", "-c", goOn)
	if err := h.command.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, m.Scope, 0, "ok")

	stop := fmt.Sprintf("kill %d", s.Launcher.PID)
	if d := diagnose(t, m.Scope, gatewayPath); d.exit != 0 {
		t.Errorf("gateway doctor finds %s", d.text())
	}
	wantWords(t, m.Run(t, gatewayPath, "doctor"), "service is not installed", fmt.Sprintf("started by hand (pid %d) has %s and %s", s.Launcher.PID, ipv4, ipv6), "stop that first, with `"+stop+"`")

	m.Run(t, "sh", "-c", stop)
	if err := h.command.Wait(); err != nil {
		t.Errorf("gateway run ended with %v\n%s", err, h.logged())
	}
	if left := inodes(t, m); len(left) > 0 {
		t.Errorf("somebody still listens: %v", left)
	}
	if code := exitCode(t, m.Command(t.Context(), gatewayPath, "status")); code != 3 {
		t.Errorf("gateway status of nothing exits with %d, want 3", code)
	}
	unread(t, m)
	hangsUp(t, m)
}

// hangsUp: who closes the terminal has ended the launcher that runs there.
func hangsUp(t *testing.T, m *machine.Machine) {
	const onTerminal = `
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0: os.execv(sys.argv[1], sys.argv[1:])
sys.stdin.read()
os.kill(pid, 1) # of somebody who wants it to reload
seen = b""
while b"applying the configuration" not in seen: seen += os.read(terminal, 4096)
os.close(terminal)
print("exit", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`
	ctx, cancel := context.WithTimeout(t.Context(), 4*bound)
	defer cancel()
	command := m.Command(ctx, "/usr/bin/python3", "-c", onTerminal, gatewayPath, "run")
	var output strings.Builder
	command.Stdout = &output
	stdin, err := command.StdinPipe()
	if err := errors.Join(err, command.Start()); err != nil {
		t.Fatal(err)
	}
	awaitAnswer(t, m)
	if err := errors.Join(stdin.Close(), command.Wait()); err != nil || output.String() != "exit 0\n" {
		t.Errorf("%v, %q", err, output.String())
	}
	if left := inodes(t, m); len(left) > 0 {
		t.Errorf("somebody still listens: %v", left)
	}
}

// unread: a launcher whose output nobody reads, a pipe that is full, starts the next worker, and ends.
func unread(t *testing.T, m *machine.Machine) {
	const fill = `
import os, sys
os.mkfifo("/tmp/unread")
pipe = os.open("/tmp/unread", os.O_RDWR | os.O_NONBLOCK)
try:
    while True: os.write(pipe, b"x" * 4096)
except BlockingIOError: pass
os.set_blocking(pipe, True)
os.dup2(pipe, 1); os.dup2(pipe, 2)
os.execv(sys.argv[1], sys.argv[1:])
`
	ctx, cancel := context.WithTimeout(t.Context(), 4*bound)
	defer cancel()
	command := m.Command(ctx, "/usr/bin/python3", "-c", fill, gatewayPath, "run")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	awaitAnswer(t, m)
	old := gatewayStatus(t, m.Scope)
	kill(t, m, old.Worker.PID)
	awaitAnswer(t, m)
	wantStatus(t, m.Scope, 0, "ok")
	m.Run(t, "kill", strconv.Itoa(old.Launcher.PID))
	if err := command.Wait(); err != nil {
		t.Errorf("gateway run ended with %v", err)
	}
}

// TestByHandWithoutIPv6: an address that the machine lacks is no reason to do
// without the other one.
func TestByHandWithoutIPv6(t *testing.T) { inScopes(t, testByHandWithoutIPv6) }

func testByHandWithoutIPv6(t *testing.T, here place) {
	m := here.boot(t, machine.Options{DisableIPv6: true})
	h := runByHand(t, m)
	if code, body := get(t, m, ipv4, "/healthz"); code != http.StatusOK {
		t.Errorf("%s answered %d %s", ipv4, code, body)
	}
	h.waitLog(t, "[::1]:18789", "level=WARN")
}

// TestWrongSockets: what a unit passes is verified, and refused with a sentence.
func TestWrongSockets(t *testing.T) { inScopes(t, testWrongSockets) }

func testWrongSockets(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	m.WriteFile(t, configPath(m.Scope), "{}\n", 0o644)
	tests := []struct {
		name, socket, client string
		words                []string
	}{
		{
			"datagram", "ListenDatagram=127.0.0.1:18789", "s = socket.socket(type=socket.SOCK_DGRAM); s.connect(('127.0.0.1', 18789)); s.send(b'x')",
			[]string{"is not a stream socket", ipv4},
		},
		{
			"unix", "ListenStream=/tmp/some.sock", "socket.socket(socket.AF_UNIX).connect('/tmp/some.sock')",
			[]string{"listen is 127.0.0.1:18789 and [::1]:18789, but systemd holds unix:/tmp/some.sock", "run \"gateway install\" again"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			unit := test.name + ".service"
			m.WriteFile(t, "/run/systemd/"+kind(m.Scope)+"/"+unit, "[Service]\nExecStart="+gatewayPath+" run\n", 0o644)
			m.WriteFile(t, "/run/systemd/"+kind(m.Scope)+"/"+test.name+".socket", "[Socket]\n"+test.socket+"\n", 0o644)
			m.Systemctl(t, "daemon-reload")
			m.Systemctl(t, "start", test.name+".socket")
			m.Run(t, "/usr/bin/python3", "-c", "import socket; "+test.client)
			// It stays, for systemd would start it again and again where it is told to.
			u := m.WaitUnit(t, unit, bound, machine.Active)
			m.WaitJournal(t, unit, bound, test.words[0]) // active is a process to systemd here, and not yet one that answers
			for _, word := range test.words {
				wantStatus(t, m.Scope, 1, "degraded", word)
			}
			if again := m.Unit(t, unit); again.MainPID != u.MainPID {
				t.Errorf("it was started again: %+v", again)
			}
			m.Systemctl(t, "stop", test.name+".socket", unit) // the socket first: a datagram that nobody has read would start the service again
		})
	}
	// As OpenClaw's own "gateway install --wrapper" writes it.
	t.Run("a service without sockets", func(t *testing.T) {
		m.WriteFile(t, "/run/systemd/"+kind(m.Scope)+"/bare.service", "[Service]\nExecStart="+gatewayPath+" gateway --port 18789\n", 0o644)
		m.Systemctl(t, "daemon-reload")
		m.Systemctl(t, "start", "bare.service")
		m.WaitUnit(t, "bare.service", bound, func(u machine.Unit) bool { return u.ActiveState == "failed" })
		if journal := lastWords(t, m); !strings.Contains(journal, "systemctl enable --now openclaw-gateway.socket") {
			t.Errorf("the journal does not say which unit to enable:\n%s", journal)
		}
	})
	t.Run("not in listen", func(t *testing.T) {
		install(t, m.Scope, m, "{}\n")
		m.WriteFile(t, configPath(m.Scope), "listen: ['127.0.0.1:18789']\n", 0o644)
		if code, body := get(t, m, ipv4, "/healthz"); code != http.StatusOK {
			t.Errorf("%s answered %d %s", ipv4, code, body)
		}
		serving(t, m.Scope, 1) // it may answer before the launcher knows that it is ready
		if s := gatewayStatus(t, m.Scope); s.Verdict != "degraded" || !strings.Contains(strings.Join(s.Problems, " "), "[::1]:18789, which is not in listen") {
			t.Errorf("the status is %+v, want a problem with [::1]:18789", s)
		}
		m.WriteFile(t, configPath(m.Scope), "listen: ['127.0.0.1:9999']\n", 0o644)
		m.Systemctl(t, "restart", service)
		statusText(t, m.Scope, "listen is 127.0.0.1:9999", "systemd holds 127.0.0.1:18789", "gateway install")
	})
}

// lastWords are what our programs have said in the scope, also those that ended right behind it: by the time that journald
// reads such a line, it can no longer tell the unit of a user's manager.
func lastWords(t testing.TB, m *machine.Machine) string {
	t.Helper()
	m.System().Run(t, "journalctl", "--sync")
	return m.System().Run(t, "journalctl", "--quiet", "--no-pager", "--identifier=gateway", fmt.Sprintf("_UID=%d", m.UID))
}

func exitCode(t *testing.T, command *exec.Cmd) int {
	t.Helper()
	_ = command.Run()
	if command.ProcessState == nil {
		t.Fatalf("%v did not run", command.Args)
	}
	return command.ProcessState.ExitCode()
}
