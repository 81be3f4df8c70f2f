package announce

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker"
	"openclaw-gateway/worker/ends"
)

// TestAnnounce: what systemd is told, state by state.
func TestAnnounce(t *testing.T) {
	addresses := []netaddr.Address{netaddr.MustParse("127.0.0.1:18789")}
	exit := &ends.Exit{Generation: 1, Code: 1}
	states := map[string]worker.Status{
		"waiting":  {State: worker.Waiting},
		"starting": {State: worker.Starting, Generation: 1, PID: 10},
		"ready":    {State: worker.Ready, Generation: 1, PID: 10, ReadyAfter: 8123 * time.Millisecond},
		"stopping": {State: worker.Stopping, Generation: 1, PID: 10},
		"let in":   {State: worker.Starting, Generation: 2, PID: 11, Released: time.Now().Add(time.Hour)},
		"followed": {State: worker.Ready, Generation: 2, PID: 11},
		"lets go":  {State: worker.Stopping, Generation: 1, PID: 10, Successor: worker.Beside{Generation: 2, State: worker.BesideParked}},
		"ends": {
			State: worker.Stopping, Generation: 1, PID: 10, Successor: worker.Beside{Generation: 2, State: worker.BesideParked, Modules: 1000},
		},
		"begins": {State: worker.Starting, Generation: 2, PID: 11, Prewarmed: true, Released: time.Now().Add(time.Hour)},
		"backoff": {
			State: worker.BackingOff, Generation: 1, Failures: 2, LastExit: exit, Problem: "generation 1 ended: exit code 1",
			NextStart: time.Date(2026, 1, 1, 12, 30, 5, 0, time.UTC),
		},
		"boots": {
			State: worker.Ready, Generation: 1, PID: 10, ReadyAfter: 8123 * time.Millisecond,
			Successor: worker.Beside{Generation: 2, PID: 11, State: worker.BesideBooting},
		},
		"stands by": {
			State: worker.Ready, Generation: 2, PID: 11, ReadyAfter: 50 * time.Millisecond,
			Successor: worker.Beside{Generation: 3, PID: 12, State: worker.BesideParked, Standby: true},
		},
		"leaves":        {State: worker.Ready, Generation: 2, PID: 11, ReadyAfter: 50 * time.Millisecond, Leaving: worker.Beside{Generation: 1, PID: 10}},
		"leaves alone":  {State: worker.BackingOff, Generation: 2, Problem: "the next generation starts later", Leaving: worker.Beside{Generation: 1, PID: 10}},
		"idle":          {State: worker.Stopping, Generation: 1, PID: 10, Ending: ends.ReasonIdle},
		"waiting again": {State: worker.Waiting, Generation: 1, LastExit: exit},
		"failed":        {State: worker.Failed, Generation: 1, LastExit: exit, Problem: "generation 1 ended: exit code 78"},
	}
	tests := []struct {
		name   string
		states []string // "give up" is the end of the patience with the first start
		want   []string // without STATUS=
	}{
		{"on demand", []string{"waiting", "starting", "ready"}, []string{"READY=1", "RELOADING=1", "READY=1"}},
		{"a client waits already", []string{"starting", "ready"}, []string{"READY=1"}},
		{"restart", []string{"starting", "ready", "stopping", "starting", "ready"}, []string{"READY=1", "RELOADING=1", "READY=1"}},
		{"the first generation fails", []string{"starting", "backoff", "starting"}, []string{"READY=1", "RELOADING=1"}},
		{"for good", []string{"starting", "failed"}, []string{"READY=1", "RELOADING=1"}},
		{"handover", []string{"starting", "ready", "let in", "followed", "a second later"}, []string{"READY=1"}},
		{"handover, the next one", []string{"starting", "ready", "let in", "long after", "followed"}, []string{"READY=1"}},
		{"handover, slow", []string{"starting", "ready", "let in", "a second later", "followed"}, []string{"READY=1", "RELOADING=1", "READY=1"}},
		{"handover, with a second port", []string{"starting", "ready", "lets go", "let in", "kept waiting", "followed"}, []string{"READY=1"}},
		{"handover, with a second port that is kept", []string{"starting", "ready", "lets go", "kept waiting", "let in", "followed"}, []string{"READY=1", "RELOADING=1", "READY=1"}},
		{"prewarmed", []string{"starting", "ready", "ends", "begins", "followed"}, []string{"READY=1", "RELOADING=1", "READY=1"}},
		{"a prewarmed standby", []string{"starting", "ready", "begins", "followed"}, []string{"READY=1", "RELOADING=1", "READY=1"}},
		{"slow", []string{"starting", "give up", "ready"}, []string{"READY=1", "RELOADING=1", "READY=1"}},
		{"ready before the patience ends", []string{"starting", "ready", "give up"}, []string{"READY=1"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			said := listenToNotify(t)
			a := new(Announcer)
			for _, name := range test.states {
				switch name {
				case "give up":
					a.EndStartJob()
					continue
				case "a second later", "long after", "kept waiting":
					a.endGrace(map[string]int{"a second later": 2, "long after": 1, "kept waiting": -1}[name])
					continue
				}
				a.Observe(states[name], addresses)
			}
			var got []string
			for _, message := range said() {
				if !strings.HasPrefix(message, "STATUS=") {
					line, _, _ := strings.Cut(message, "\n")
					got = append(got, line)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
		})
	}

	t.Run("words", func(t *testing.T) {
		said := listenToNotify(t)
		a := new(Announcer)
		var got []string
		for _, name := range []string{"waiting", "starting", "ready", "ready", "stopping", "backoff", "failed", "idle", "waiting again", "boots", "leaves", "stands by", "leaves alone"} {
			a.Observe(states[name], addresses)
			// Now: the queue of such a socket is short (net.unix.max_dgram_qlen).
			messages := said()
			if len(messages) > 1 {
				t.Errorf("%s: systemd has more than one message to read: %q", name, messages)
			}
			for _, message := range messages {
				if _, text, ok := strings.Cut("\n"+message, "\nSTATUS="); ok {
					got = append(got, text)
				}
			}
		}
		want := []string{
			"waiting for the first client on 127.0.0.1:18789",
			"generation 1 is starting (pid 10)",
			"generation 1 serves 127.0.0.1:18789 (pid 10, ready after 8.1s)",
			"generation 1 is stopping (pid 10)",
			"generation 1 ended: exit code 1; 2 failures in a row; next start at 12:30:05",
			"generation 1 ended: exit code 78",
			"generation 1 is stopping (pid 10): nobody was connected",
			"waiting for the next client on 127.0.0.1:18789",
			"generation 1 serves 127.0.0.1:18789 (pid 10, ready after 8.1s); generation 2 is booting (pid 11)",
			"generation 2 serves 127.0.0.1:18789 (pid 11, ready after 50ms); generation 1 is leaving (pid 10)",
			"generation 2 serves 127.0.0.1:18789 (pid 11, ready after 50ms); a standby is parked (generation 3, pid 12)",
			"the next generation starts later; generation 1 is leaving (pid 10)",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("STATUS= (-want +got):\n%s", diff)
		}
	})
}

// TestAnnounceEvil: what a worker says does not reach a terminal by way of systemd, nor is a message so long that systemd does
// not take it, READY=1 and all.
func TestAnnounceEvil(t *testing.T) {
	said := listenToNotify(t)
	a := new(Announcer)
	a.Observe(worker.Status{State: worker.Failed, Problem: "no\x1b]0;x\a\u202e\xff\\\nnext" + strings.Repeat("\x1b", 4000)}, nil)
	messages := said()
	last := messages[len(messages)-1]
	_, text, _ := strings.Cut(last, "\nSTATUS=")
	if len(last) >= 4096 || !strings.HasPrefix(text, `no\\x1b]0;x\\a\\u202e\\xff\\; next\\x1b\\x1b`) || !strings.HasSuffix(text, "…") {
		t.Errorf("systemd is told %d bytes: %.100q", len(last), last)
	}
}

// listenToNotify makes the notify socket; what it returns reads all that has
// been said so far.
func listenToNotify(t *testing.T) (said func() []string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func() []string {
		Notify("END")
		var messages []string
		buffer := make([]byte, 4096)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				t.Fatal(err)
			}
			if string(buffer[:n]) == "END" {
				return messages
			}
			messages = append(messages, string(buffer[:n]))
		}
	}
}
