package status

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/test/fixtures"
	"openclaw-gateway/units"
)

// TestUnasked: a manager that does not answer is not one that knows no unit.
func TestUnasked(t *testing.T) {
	t.Setenv("GATEWAY_LISTEN", "127.0.0.1:1")
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	fixtures.SilentManager(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	at := client.NewTarget(ctx, units.User, "")
	const want = "the manager of the user scope does not answer"
	if at.Unasked == nil || !strings.HasPrefix(at.Unasked.Error(), want) {
		t.Fatalf("newTarget says %v", at.Unasked)
	}
	s := Of(t.Context(), at)
	if s.Verdict != api.VerdictDegraded || s.ExitStatus() != 1 || len(s.Problems) == 0 || !strings.HasPrefix(s.Problems[0], want) {
		t.Errorf("the status is %s (exit status %d) with %q", s.Verdict, s.ExitStatus(), s.Problems)
	}
	if err := at.Ask(t.Context(), "/status", new(api.Status)); !errors.Is(err, client.ErrNotRunning) || strings.Contains(err.Error(), "gateway install") {
		t.Errorf("the launcher: %v", err)
	}
}

// TestNoManager: a user without a manager has nothing installed, and that is all.
func TestNoManager(t *testing.T) {
	t.Setenv("GATEWAY_LISTEN", "127.0.0.1:1")
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	at := client.NewTarget(t.Context(), units.User, "")
	if s := Of(t.Context(), at); at.Unasked != nil || s.Verdict != api.VerdictDown || s.ExitStatus() != 3 {
		t.Errorf("%v: %s (exit status %d)", at.Unasked, s.Verdict, s.ExitStatus())
	}
}

// TestOthersLimit: silent launchers of other users keep root waiting for so long, one user less long than all, and nobody is told to
// hang who has not had the time. How long root's own ones need is not theirs.
func TestOthersLimit(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to have launchers of other users: make test")
	}
	var targets []client.Target
	for _, uid := range []int{0, 0, 0, 65533, 65533, 65534, 65534} {
		directory := t.TempDir()
		path := filepath.Join(directory, "control.sock")
		silent, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(silent)
		if err := errors.Join(unix.Bind(silent, &unix.SockaddrUnix{Name: path}), os.Chmod(directory, 0o700), os.Chown(directory, uid, -1)); err != nil {
			t.Fatal(err)
		}
		fixtures.As(t, uid, func() { err = unix.Listen(silent, 8) }) // whose it is from now on
		if err != nil {
			t.Fatal(err)
		}
		targets = append(targets, client.Target{UID: uid, Scope: units.User, Control: path})
	}
	all, _ := All(t.Context(), targets)
	silent := func(i int) string { return "does not answer on " + targets[i].Control }
	for i, want := range []string{silent(0), silent(1), silent(2), silent(3), "it was not asked", "it was not asked", "it was not asked"} {
		if said := strings.Join(all[i].Problems, "; "); !strings.Contains(said, want) || want == "it was not asked" && len(all[i].Problems) != 1 {
			t.Errorf("of launcher %d is said %q, want %q", i, said, want)
		}
	}
}

// TestOverdue: who waits longer than alive.queue is seen from here too, where the launcher cannot look.
func TestOverdue(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		worker api.Worker
		waits  float64
		want   api.Verdict
		said   int
	}{
		"in time":               {api.Worker{State: api.StateReady, QueueLimitS: 2}, 1, api.VerdictOK, 0},
		"too long":              {api.Worker{State: api.StateReady, QueueLimitS: 2, Generation: 3, PID: 77}, 8, api.VerdictHung, 1},
		"nobody asks":           {api.Worker{State: api.StateReady}, 8, api.VerdictOK, 0},
		"the launcher tells":    {api.Worker{State: api.StateReady, QueueLimitS: 2, Hung: new(api.Hung)}, 8, api.VerdictHung, 0},
		"it does not serve yet": {api.Worker{State: api.StateStarting, QueueLimitS: 2}, 8, api.VerdictStarting, 0},
	} {
		s := View{Status: api.Status{Worker: test.worker, Sockets: []api.Socket{{Address: "127.0.0.1:1"}, {Address: "127.0.0.1:2", WaitingS: test.waits}}}}
		s.SetVerdict()
		s.addOverdue()
		if s.Verdict != test.want || len(s.Problems) != test.said {
			t.Errorf("%s: %s, %q, want %s", name, s.Verdict, s.Problems, test.want)
		}
		if test.said > 0 && s.Problems[0] != "generation 3 hangs (pid 77): a client has waited on 127.0.0.1:2 for 8s and is not accepted: the worker hangs, or is full; `gateway restart` replaces it" {
			t.Errorf("%s: %q", name, s.Problems)
		}
	}
}
