package launcher

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/launcher/history"
	"openclaw-gateway/cmd/gateway/state"
	"openclaw-gateway/test/fixtures"
	"openclaw-gateway/worker"
	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/signs"
)

// privateDirectory is a state directory, as systemd makes it.
func privateDirectory(t *testing.T) string {
	t.Helper()
	directory := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("STATE_DIRECTORY", directory)
	return directory
}

// TestHistoryKept: the next launcher knows the last hundred generations, also the one that died with its launcher, and goes
// on counting.
func TestHistoryKept(t *testing.T) {
	directory := privateDirectory(t)
	l, _, _ := rigControl(t)
	hung := signs.Hung{Since: time.Now(), By: signs.ByQueue}
	for n := 1; n <= history.Length+10; n++ {
		status := worker.Status{State: worker.Ready, Generation: n, PID: 1000 + n, Started: time.Now(), ReadyAfter: time.Second}
		l.observe(status)
		status.Hung = &hung
		l.observe(status)
		l.reporter.history.Add(ends.Exit{
			Generation: n, PID: 1000 + n, Code: 1, Reason: ends.ReasonCrash, At: time.Now(), Detail: strings.Repeat("\x1b", 1<<14),
			ReadyAfter: time.Second, Lived: time.Minute,
		})
	}
	l.observe(worker.Status{State: worker.Starting, Generation: 200, PID: 1200, Started: time.Now()})
	l.reporter.history.Kept.Wait()
	before := l.History()
	if info, err := os.Stat(filepath.Join(directory, history.File)); err != nil || info.Size() > history.Limit || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v: %v", info, err)
	}

	l, _, _ = rigControl(t)
	h := l.History()
	if n := len(h.Generations); n != history.Length || l.reporter.history.Newest != 200 || len(h.Notes) != 0 {
		t.Fatalf("%d generations, the newest %d, %q", n, l.reporter.history.Newest, h.Notes)
	}
	first, last := h.Generations[0], h.Generations[history.Length-1]
	if want := before.Generations[1]; first.Generation != want.Generation || first.PID != want.PID || *first.ReadyAfterMS != 1000 || !first.Ended.Equal(*want.Ended) ||
		len(first.Hung) != 1 || first.Hung[0].By != "queue" || first.Hung[0].Until == nil || len(first.Detail) > history.LongestKept+len("…") {
		t.Errorf("the oldest is %+v, was %+v", first, want)
	}
	if last.Generation != 200 || last.State != "ended" || last.Ended == nil || last.Signal != "SIGKILL" || last.Reason != "stop" || !strings.Contains(last.Detail, "its launcher was killed") {
		t.Errorf("the newest is %+v", last)
	}
	l.observe(worker.Status{State: worker.Starting, Generation: 201, PID: 1201, Started: time.Now()})
	if g := l.History().Generations; len(g) != history.Length+1 || g[history.Length].Generation != 201 || g[history.Length].Ended != nil {
		t.Errorf("the newest of %d is %+v", len(g), g[len(g)-1])
	}
	l.reporter.history.Kept.Wait()
}

// TestHistoryOfOthers: what is not understood is left out with a sentence, and what it counted counts.
func TestHistoryOfOthers(t *testing.T) {
	good := `{"generation":7,"ended":"2026-01-01T00:00:00Z","of a later release":{"x":1}}` + "\n"
	for name, test := range map[string]struct {
		content string
		lives   int
		newest  int
		note    string
	}{
		"none":           {"", 0, 0, ""},
		"unknown fields": {good, 1, 7, ""},
		"torn":           {good + `{"generation":8,"sta`, 1, 7, "1 line of PATH left out: line 2 is torn"},
		"another form":   {good + `{"generation":9,"state":{"new":"form"}}` + "\n", 1, 9, "1 line of PATH left out: line 2 is torn or no entry of a history"},
		"no JSON":        {"what\n\n\x00\n" + good, 1, 7, "3 lines of PATH left out: line 1 is torn"},
		"no number":      {`{"generation":-4}` + "\n" + `{"generation":9223372036854775807}` + "\n", 0, 0, "2 lines"},
		"too big":        {strings.Repeat(" ", history.Limit) + good, 0, 0, "is bigger than"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(privateDirectory(t), history.File)
			if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			l, _, _ := rigControl(t)
			h, notes := l.History(), strings.Join(l.History().Notes, "\n")
			if len(h.Generations) != test.lives || l.reporter.history.Newest != test.newest ||
				!strings.Contains(notes, strings.ReplaceAll(test.note, "PATH", path)) || (notes == "") != (test.note == "") {
				t.Errorf("%d generations, the newest %d, %q", len(h.Generations), l.reporter.history.Newest, notes)
			}
		})
	}
}

// TestNotKept: what cannot be kept is a problem until it can.
func TestNotKept(t *testing.T) {
	directory := privateDirectory(t)
	if err := unix.Mount("tmpfs", directory, "tmpfs", 0, "size=16k,mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(directory, unix.MNT_DETACH) })
	l, _, _ := rigControl(t)
	problem := func() string { return strings.Join(l.Status().Problems, "\n") }
	if p := problem(); p != "" {
		t.Errorf("a problem: %q", p)
	}
	ballast := filepath.Join(directory, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("the disk takes a megabyte")
	}
	l.reporter.history.Add(ends.Exit{Generation: 1})
	l.reporter.history.Kept.Wait()
	want := fmt.Sprintf("the history of the generations is not kept for the next start of the launcher: write %s: no space left on device: make room for %s",
		filepath.Join(directory, "version"), directory)
	if p := problem(); p != want {
		t.Errorf("the problem is %q, want %q", p, want)
	}
	changes, leave := l.reporter.feed.join()
	defer leave()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	l.Status() // which tries again, if the look before does not still
	<-changes
	if p := problem(); p != "" {
		t.Errorf("there is room again, and the problem is %q", p)
	}
	if h, err := os.ReadFile(filepath.Join(directory, history.File)); err != nil || !strings.Contains(string(h), `"generation":1,`) {
		t.Errorf("%q: %v", h, err)
	}
}

// TestStateDirectory: it is this user's alone, and not chosen by others.
func TestStateDirectory(t *testing.T) {
	private := privateDirectory(t)
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	own, others := filepath.Join(t.TempDir(), "own"), filepath.Join(open, "others")
	for _, link := range []string{own, others} {
		if err := os.Symlink(private, link); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ directory, want string }{
		{private, ""},
		{private + ":/somewhere/else", ""},
		{own, ""},
		{"", ""},
		{open, "is not a directory that only uid 0 can write to"},
		{others, "is a link that others can change"},
		{filepath.Join(private, "none"), "no such file or directory"},
	} {
		t.Setenv("STATE_DIRECTORY", test.directory)
		if _, err := state.Path("file"); (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.directory, err, test.want)
		}
	}
	t.Setenv("STATE_DIRECTORY", private)
	fixtures.As(t, 65534, func() {
		if _, err := state.Path("file"); err == nil {
			t.Error("another user's is taken")
		}
	})
	// What stands there is replaced, and not followed.
	target := filepath.Join(t.TempDir(), "target")
	if err := os.Symlink(target, filepath.Join(private, history.File)); err != nil {
		t.Fatal(err)
	}
	l, _, _ := rigControl(t)
	l.reporter.history.Add(ends.Exit{Generation: 1})
	l.reporter.history.Kept.Wait()
	if _, err := os.Lstat(target); err == nil {
		t.Error("a link is followed")
	}
	var s api.Status
	if s = l.Status(); len(s.Problems) != 0 {
		t.Errorf("problems: %q", s.Problems)
	}
}

// TestAllKept: whatever the next launcher would not find is a problem, until it is written.
func TestAllKept(t *testing.T) {
	l, _, _ := rigControl(t)
	for _, kept := range l.reporter.kept {
		if kept.Changed == nil {
			t.Errorf("who watches is not told that %s not kept", kept.What)
		}
		kept.Fail(errors.New("no room"))
		want := kept.What + " not kept for the next start of the launcher: no room"
		if problems := l.Status().Problems; !slices.Contains(problems, want) {
			t.Errorf("%q is no problem of %q", want, problems)
		}
		if kept.Wait(); slices.ContainsFunc(l.Status().Problems, func(problem string) bool { return strings.HasPrefix(problem, kept.What) }) {
			t.Errorf("%s still not kept", kept.What)
		}
	}
	for _, kept := range []*state.Keeper{&l.alarm.Kept, &l.binds.kept, &l.reporter.history.Kept} {
		if !slices.Contains(l.reporter.kept, kept) {
			t.Errorf("nobody is told that %s not kept", kept.What)
		}
	}
}
