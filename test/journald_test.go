package test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"openclaw-gateway/test/machine"
)

// TestJournaldStopped: what led to a journald that was stopped leads nowhere for good, and a program that writes there dies.
// A later systemd keeps it for journald meanwhile (FileDescriptorStorePreserve=, 254).
func TestJournaldStopped(t *testing.T) {
	t.Parallel()
	in(t, testJournaldStopped, place{name: "system"}, place{name: "user", user: true})
}

func testJournaldStopped(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	root := m.System()
	// Like most, and unlike Python, it dies of SIGPIPE.
	program := "import signal\nsignal.signal(signal.SIGPIPE, signal.SIG_DFL)\nexec(open('" + workersPath + "/tells.py').read())\n"
	m.WriteFile(t, "/tmp/dies-of-sigpipe.py", program, 0o644)
	install(t, m.Scope, m, worker("/usr/bin/python3", "/tmp/dies-of-sigpipe.py")+"restart: {backoff_min: 10ms}\n")
	ask := func(t *testing.T, path string) {
		t.Helper()
		if code, body := get(t, m, ipv4, path); code != http.StatusOK {
			t.Fatalf("%s answered %d %s", ipv4, code, body)
		}
	}
	journald := []string{"systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald.service"}
	ask(t, "/before")
	serving(t, m.Scope, 1)
	root.Systemctl(t, append([]string{"stop"}, journald...)...)
	// The one that lives cannot be helped: the request is its end.
	_, _, _ = tryGet(t.Context(), m, ipv4, "/pipe")
	serving(t, m.Scope, 2)
	ask(t, "/lost")
	ask(t, "/lost")
	if s := gatewayStatus(t, m.Scope); s.Worker.Generation != 2 {
		t.Errorf("without journald the worker is of generation %d, want 2: %+v", s.Worker.Generation, s.Worker.LastExit)
	}
	root.Systemctl(t, append([]string{"start"}, journald...)...)
	m.Run(t, gatewayPath, "restart")
	ask(t, "/after")
	ask(t, "/after")
	if s := gatewayStatus(t, m.Scope); s.Worker.Generation != 3 || len(s.Problems) > 0 {
		t.Errorf("the status is %+v, want generation 3", s)
	}
	m.WaitJournal(t, service, bound, "worker: request /after")
	if lines := root.Run(t, "journalctl", "--no-pager", "--output=cat", "--identifier=gateway"); !strings.Contains(lines, "worker: request /after") {
		t.Errorf("the worker's lines are not by the identifier of the unit's own stream:\n%s", lines)
	}
	// A journal that takes nothing: its queue is full, and it does not read.
	root.Systemctl(t, "kill", "--signal=STOP", "systemd-journald.service")
	root.Run(t, "/usr/bin/python3", "-c", `import socket
for _ in range(10): # the buffer of one is smaller
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.setblocking(False)
        try:
            while True: s.sendto(b"MESSAGE=filling\n", "/run/systemd/journal/socket")
        except BlockingIOError: pass
`)
	m.Run(t, gatewayPath, "restart")
	ask(t, "/full")
	serving(t, m.Scope, 4)
	root.Systemctl(t, "kill", "--signal=CONT", "systemd-journald.service")
	m.Run(t, gatewayPath, "restart")
	m.WaitJournal(t, service, bound, "lines_lost_before=")
	environment := m.Run(t, "sh", "-c", "tr '\\0' '\\n' </proc/$1/environ", "sh", strconv.Itoa(gatewayStatus(t, m.Scope).Worker.PID))
	stream := m.Run(t, "stat", "--dereference", "--format=%d:%i", "/proc/"+strconv.Itoa(gatewayStatus(t, m.Scope).Worker.PID)+"/fd/2")
	if !strings.Contains(environment, "JOURNAL_STREAM="+stream) {
		t.Errorf("standard error is %sand the worker's environment:\n%s", stream, environment)
	}
}
