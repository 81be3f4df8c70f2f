package launcher

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/launcher/control"
	"openclaw-gateway/cmd/gateway/launcher/history"
	"openclaw-gateway/cmd/gateway/launcher/runtimedir"
	"openclaw-gateway/cmd/gateway/status"
	"openclaw-gateway/test/fixtures"
	"openclaw-gateway/worker"
	"openclaw-gateway/worker/ends"
)

// rigControl serves the control socket of a launcher that waits for its first
// client, and returns how to ask it.
func rigControl(t *testing.T) (*launcher, *control.Control, client.Target) {
	t.Helper()
	// Not t.TempDir, which other users cannot enter.
	directory, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	if err := os.Chmod(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	c, err := control.New(&runtimedir.Directory{Own: directory}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	l := newLauncher(log, new(slog.LevelVar), newHeldSockets(nil, source{kind: api.FromItself}, log), config.Named{}, "hello")
	l.reporter.configured(configReport{path: "/some/config.yaml"})
	l.observe(worker.Status{State: worker.Waiting})
	c.Serve(l)
	return l, c, client.Target{Control: filepath.Join(directory, api.ControlSocket)}
}

// TestControlPeers: only the launcher's own user and root are let in, whatever
// the mode of the socket has become.
func TestControlPeers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to be somebody else: make test")
	}
	_, _, target := rigControl(t)
	info, err := os.Stat(target.Control)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the mode of the control socket is %v (%v)", info.Mode(), err)
	}
	if err := os.Chmod(target.Control, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		uid       int
		path      string
		forbidden bool
	}{{0, "/status", false}, {0, "/history", false}, {65534, "/status", true}, {65534, "/history", true}, {65534, "/watch", true}} {
		var err error
		fixtures.As(t, test.uid, func() {
			// Within this thread, whose user it is.
			var conn net.Conn
			if conn, err = net.Dial("unix", target.Control); err != nil {
				return
			}
			defer conn.Close()
			// One that is let in by mistake watches for ever.
			if err = conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				return
			}
			if _, err = io.WriteString(conn, "GET "+test.path+" HTTP/1.0\r\n\r\n"); err != nil {
				return
			}
			var response *http.Response
			if response, err = http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
				return
			}
			defer response.Body.Close()
			body, _ := io.ReadAll(response.Body)
			if (response.StatusCode == http.StatusForbidden) != test.forbidden {
				t.Errorf("uid %d asks for %s: %s %s", test.uid, test.path, response.Status, body)
			}
			if test.forbidden && (strings.Contains(string(body), "config.yaml") || !strings.Contains(string(body), "root may use")) {
				t.Errorf("uid %d was told %s", test.uid, body)
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestWatchEndpoint: a watcher is told the present state and each change, without
// holding up the supervisor or the launcher's end.
func TestWatchEndpoint(t *testing.T) {
	l, c, target := rigControl(t)
	told, ended := make(chan api.Status), make(chan error, 1)
	go func() { ended <- target.Stream(t.Context(), told) }()
	read := func() api.Status {
		t.Helper()
		select {
		case s := <-told:
			return s
		case err := <-ended:
			t.Fatal(err)
			return api.Status{}
		}
	}
	if s := read(); s.Verdict != api.VerdictWaiting || s.Launcher.PID != os.Getpid() {
		t.Errorf("the first is %+v", s)
	}
	l.observe(worker.Status{State: worker.Starting, Generation: 1, PID: os.Getpid()})
	l.observe(worker.Status{State: worker.Ready, Generation: 1, PID: os.Getpid()})
	if s := read(); s.Worker.State != "starting" {
		t.Errorf("the second is %+v", s.Worker)
	}
	if s := read(); s.Worker.State != "ready" {
		t.Errorf("the third is %+v", s.Worker)
	}
	l.editions.reject(errors.New("line 3 is wrong"))
	if s := read(); s.Config.State != "rejected" || s.Verdict != api.VerdictDegraded {
		t.Errorf("a rejected configuration is told as %+v", s)
	}

	closed := make(chan struct{})
	go func() { c.Close(); close(closed) }()
	if err := <-ended; !errors.Is(err, client.ErrNotRunning) {
		t.Errorf("at the launcher's end: %v", err)
	}
	<-closed
	// Nobody is there any more, so nothing is kept for anybody.
	l.reporter.feed.mu.Lock()
	defer l.reporter.feed.mu.Unlock()
	if n := len(l.reporter.feed.watchers); n != 0 {
		t.Errorf("%d watchers are left", n)
	}
}

// TestTellOrder: a reload that tells of its configuration does not tell of an older
// worker than the supervisor has.
func TestTellOrder(t *testing.T) {
	l, _, _ := rigControl(t)
	changes, leave := l.reporter.feed.join()
	defer leave()
	const generations = 20_000
	var telling sync.WaitGroup
	defer telling.Wait()
	telling.Go(func() {
		for n := range generations {
			l.observe(worker.Status{State: worker.Ready, Generation: n + 1})
		}
	})
	done := make(chan struct{})
	defer close(done)
	telling.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				l.reporter.feed.tell(&l.reporter.observed)
			}
		}
	})
	for last := 0; last < generations; {
		change := <-changes
		if change.Generation < last {
			t.Fatalf("generation %d is told after generation %d", change.Generation, last)
		}
		last = change.Generation
	}
}

// TestFeed: a watcher that does not read misses the oldest changes, and blocks
// nobody.
func TestFeed(t *testing.T) {
	var f feed
	var observed atomic.Pointer[worker.Status]
	f.tell(&observed)
	observed.Store(&worker.Status{Generation: 1})
	f.tell(&observed) // nobody watches
	changes, leave := f.join()
	for n := range feedLength + 10 {
		observed.Store(&worker.Status{Generation: n})
		f.tell(&observed)
	}
	if first := <-changes; first.Generation != 10 {
		t.Errorf("the oldest kept change is %d, want 10", first.Generation)
	}
	leave()
	observed.Store(&worker.Status{Generation: 99})
	f.tell(&observed)
	last := worker.Status{}
	for len(changes) > 0 {
		last = <-changes
	}
	if last.Generation != feedLength+9 {
		t.Errorf("the last change is %d, want %d", last.Generation, feedLength+9)
	}
}

// TestHistory: the last hundred ended generations and the one that lives, the
// newest at the end.
func TestHistory(t *testing.T) {
	l, _, target := rigControl(t)
	start := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for n := 1; n <= history.Length+30; n++ {
		exit := ends.Exit{Generation: n, Code: 1, Reason: ends.ReasonCrash, At: start.Add(time.Duration(n) * time.Minute), Lived: time.Minute}
		if n%2 == 0 {
			exit.ReadyAfter = time.Second
		}
		l.reporter.history.Add(exit)
	}
	l.observe(worker.Status{State: worker.Starting, Generation: 131, PID: 7, Started: time.Now()})
	var h api.History
	if err := target.Ask(t.Context(), "/history", &h); err != nil {
		t.Fatal(err)
	}
	if n := len(h.Generations); n != history.Length+1 {
		t.Fatalf("%d generations, want %d", n, history.Length+1)
	}
	first, second, last := h.Generations[0], h.Generations[1], h.Generations[history.Length]
	if first.Generation != 31 || first.ReadyAfterMS != nil || second.ReadyAfterMS == nil || *second.ReadyAfterMS != 1000 {
		t.Errorf("the oldest are %+v and %+v", first, second)
	}
	if !first.Started.Equal(start.Add(30*time.Minute)) || first.LivedMS != 60000 || first.State != "ended" {
		t.Errorf("the oldest is %+v", first)
	}
	if last.Generation != 131 || last.Ended != nil || last.State != "starting" {
		t.Errorf("the newest is %+v", last)
	}
	rows := strings.Split(strings.TrimSpace(status.HistoryText(h)), "\n")
	if len(rows) != history.Length+2 || !strings.Contains(rows[1], "never") || !strings.Contains(rows[2], "1s") ||
		!strings.Contains(rows[1], "exit code 1  0       crash") || !strings.Contains(rows[history.Length+1], "starting") {
		t.Errorf("%d rows: %q %q %q", len(rows), rows[1], rows[2], rows[len(rows)-1])
	}

	// Ended, but the supervisor has not said what it does next.
	l.reporter.history.Add(ends.Exit{Generation: 131, Code: -1, Signal: unix.SIGKILL, At: time.Now()})
	if g := l.History().Generations; g[len(g)-1].Signal != "SIGKILL" || len(g) != history.Length {
		t.Errorf("the newest of %d is %+v", len(g), g[len(g)-1])
	}
}

// TestStatusNamesFile: whoever reads the status may be in another directory than the launcher.
func TestStatusNamesFile(t *testing.T) {
	l, _, _ := rigControl(t)
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for named, want := range map[string]string{"c.yaml": filepath.Join(here, "c.yaml"), "/etc/c.yaml": "/etc/c.yaml", "": ""} {
		l.reporter.configured(configReport{path: named})
		if got := l.Status().Config.Path; got != want {
			t.Errorf("%q is shown as %q, want %q", named, got, want)
		}
	}
}
