package watch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestNoCall does what must not be reported.
func TestNoCall(t *testing.T) {
	tests := map[string]func(t *testing.T, path, dir string){
		"written with the same content":  func(t *testing.T, path, _ string) { write(t, path, before) },
		"replaced with the same content": func(t *testing.T, path, _ string) { replace(t, path, before) },
		"touched":                        func(t *testing.T, _, dir string) { shell(t, dir, "touch config.yaml") },
		"read":                           func(t *testing.T, _, dir string) { shell(t, dir, "cat config.yaml") },
		"mode changed":                   func(t *testing.T, _, dir string) { shell(t, dir, "chmod 0600 config.yaml") },
		"removed":                        func(t *testing.T, path, _ string) { remove(t, path) },
		"renamed away":                   func(t *testing.T, path, _ string) { rename(t, path, path+".old") },
		"neighbours": func(t *testing.T, _, dir string) {
			shell(t, dir, "echo x > other; echo y >> other; mv other another; mkdir d; echo z > d/config.yaml; rm another")
		},
		"a swap file": func(t *testing.T, path, dir string) {
			shell(t, dir, "echo x > .config.yaml.swp; cp config.yaml config.yaml~; rm .config.yaml.swp")
		},
		"removed, and made again with the same content": func(t *testing.T, path, _ string) {
			remove(t, path)
			write(t, path, before)
		},
		"a link in its place to the same content": func(t *testing.T, _, dir string) {
			shell(t, dir, "cp config.yaml other; ln -sfn other config.yaml")
		},
		"a link to itself": func(t *testing.T, path, _ string) {
			remove(t, path)
			symlink(t, filepath.Base(path), path)
		},
	}
	for name, do := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "config.yaml")
			write(t, path, before)
			r := watched(t, path)
			do(t, path, dir)
			r.settled()
		})
	}
}

// TestSavedTwice saves twice within the quiet period, however busy the machine is: before anybody waits.
func TestSavedTwice(t *testing.T) {
	for name, test := range map[string]struct {
		script string
		want   []string
	}{
		"a shell that writes and appends": {"printf level: > config.yaml; echo ' after' >> config.yaml", []string{after}},
		"emptied and filled again":        {"cp config.yaml same; : > config.yaml; cat same > config.yaml", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "config.yaml")
			write(t, path, before)
			w, err := New(path)
			if err != nil {
				t.Fatal(err)
			}
			shell(t, filepath.Dir(path), test.script)
			r := run(t, w, path)
			for _, content := range test.want {
				r.expect(content)
			}
			r.settled()
		})
	}
}

// TestRemovedStaysSeen removes the file for longer than the quiet period.
func TestRemovedStaysSeen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a", "config.yaml")
	makeDirectory(t, filepath.Dir(path))
	write(t, path, before)
	r := watched(t, path)
	remove(t, filepath.Dir(path))
	r.quieten()
	makeDirectory(t, filepath.Dir(path))
	write(t, path, before)
	r.quieten()
	write(t, path, after)
	r.expect(after)
	r.settled()
}

// TestSlowWriter keeps the file open in the middle of a save.
func TestSlowWriter(t *testing.T) {
	tests := map[string]func(t *testing.T, path string){
		"of the file":    func(*testing.T, string) {},
		"of a new file":  func(t *testing.T, path string) { remove(t, path) },
		"of a link's":    func(t *testing.T, path string) { rename(t, path, path+".to"); symlink(t, path+".to", path) },
		"of a hard link": func(t *testing.T, path string) { shell(t, filepath.Dir(path), "ln config.yaml other") },
	}
	for name, setUp := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "config.yaml")
			write(t, path, before)
			r := watched(t, path)
			setUp(t, path)
			r.quieten()
			file := writer(t, path)
			r.quieten()
			put(t, file, "level: ")
			r.quieten()
			put(t, file, "after\n")
			r.quieten()
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}
			r.expect(after)
			r.settled()
		})
	}
}

// TestSlowWriterUnseen has the first half of a save happen before the watcher takes
// note of the new file, whose directory is on the way twice.
func TestSlowWriterUnseen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "config.yaml")
	makeDirectory(t, filepath.Join(dir, "data"))
	write(t, filepath.Join(dir, "data/config.yaml"), before)
	symlink(t, "data/config.yaml", path)
	w, err := New(path)
	if err != nil {
		t.Fatal(err)
	}
	remove(t, path)
	file := writer(t, path)
	put(t, file, "level: ")
	r := run(t, w, path)
	r.quieten()
	put(t, file, "after\n")
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	r.expect(after)
	r.settled()
}

// TestNextEditBegun has the next edit begin when the file is about to be looked at.
func TestNextEditBegun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	w, err := New(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	write(t, path, after)
	if _, err := w.drain(); err != nil {
		t.Fatal(err)
	}
	w.first, w.last = time.Now().Add(-time.Hour), time.Now().Add(-time.Hour)
	put(t, writer(t, path), "half")
	if err := w.look(func() { t.Error("a call in the middle of an edit") }); err != nil {
		t.Fatal(err)
	}
}

// TestReplacedWhileWritten replaces a file that somebody has open and goes on to
// write to: what is no longer at the path does not hold up what is.
func TestReplacedWhileWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, before)
	r := watched(t, path)
	file := writer(t, path)
	put(t, file, "half")
	replace(t, path, after)
	put(t, file, "of what nobody will read")
	r.expect(after)
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	r.settled()
}

// TestEmptied wants an empty file reported: the caller can say what is wrong with it.
func TestEmptied(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, before)
	r := watched(t, path)
	write(t, path, "")
	r.expect("")
	r.settled()
}

// TestUnreadable wants a call when the file turns into what cannot be read, because
// the caller can say so, and another when it is right again.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, before)
	r := watched(t, path)
	remove(t, path)
	makeDirectory(t, path)
	r.expect("error: read " + path + ": is a directory")
	remove(t, path)
	r.quieten()
	write(t, path, before)
	r.expect(before)
	r.settled()
}

// TestModeCorrected takes the right to read the file away and gives it back.
func TestModeCorrected(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, before)
	asNobody(t, filepath.Dir(path))
	w, err := New(path)
	if err != nil {
		t.Fatal(err)
	}
	modes := make(chan os.FileMode, 2)
	done := make(chan struct{})
	go func() { // another thread: still root
		defer close(done)
		for mode := range modes {
			if err := os.Chmod(path, mode); err != nil {
				t.Error(err)
			}
		}
	}()
	modes <- 0o000
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	var found []string
	err = w.Run(ctx, func() {
		content, err := os.ReadFile(path)
		found = append(found, string(content))
		switch {
		case errors.Is(err, fs.ErrPermission):
			modes <- 0o644
		default:
			cancel()
		}
	})
	close(modes)
	<-done
	if diff := cmp.Diff([]string{"", before}, found); err != nil || diff != "" {
		t.Errorf("Run: %v; contents found (-want +got):\n%s", err, diff)
	}
}

// TestFiveSaves saves five times in a row: any number of calls, the last content
// last.
func TestFiveSaves(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, before)
	r := watched(t, path)
	for i := range 5 {
		if i%2 == 0 {
			write(t, path, fmt.Sprintf("save %d\n", i))
		} else {
			replace(t, path, fmt.Sprintf("save %d\n", i))
		}
	}
	r.await("save 4\n")
	r.settled()
}

// await waits for a call that finds the content, whatever came before.
func (r *rig) await(content string) {
	r.t.Helper()
	var got []string
	deadline := time.After(bound)
	for {
		select {
		case report := <-r.reports:
			if report == content {
				return
			}
			got = append(got, report)
		case <-deadline:
			r.t.Fatalf("no call within %v for %q; calls: %q", bound, content, got)
		}
	}
}

// TestSavedWithoutPause wants a call while saves follow each other with no quiet
// period between them.
func TestSavedWithoutPause(t *testing.T) {
	for _, way := range []struct {
		name string
		save func(t *testing.T, path, content string)
	}{{"in place", write}, {"renamed over", replace}} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "config.yaml")
			write(t, path, before)
			r := watched(t, path)
			last := ""
			began := time.Now()
			for i := 0; len(r.reports) == 0; i++ {
				last = fmt.Sprintf("save %d\n", i)
				way.save(t, path, last)
				if time.Since(began) > bound {
					t.Fatalf("no call within %v and %d saves", bound, i)
				}
			}
			write(t, path, "the last\n")
			r.await("the last\n")
			r.settled()
		})
	}
}

// TestDue is the table behind "one save, one call" and "nothing is polled".
func TestDue(t *testing.T) {
	start := time.Now()
	tests := []struct {
		name        string
		pending     bool
		edit        edit
		first, last time.Duration // since the start
		want        time.Duration // -1: never
	}{
		{name: "nothing happened", want: -1},
		{name: "being written", edit: writing, want: -1},
		{name: "saved", pending: true, want: quiet},
		{name: "saved again", pending: true, last: quiet / 2, want: quiet/2 + quiet},
		{name: "saved again and again", pending: true, last: limit - quiet/2, want: limit},
		{name: "being written again", pending: true, edit: writing, last: quiet / 2, want: -1},
		{name: "made, perhaps by link(2)", pending: true, edit: begun, want: quiet},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := &Watcher{
				pending: test.pending, edit: test.edit,
				first: start.Add(test.first), last: start.Add(test.last),
			}
			want := time.Time{}
			if test.want >= 0 {
				want = start.Add(test.want)
			}
			if got := w.due(); !got.Equal(want) {
				t.Errorf("due %v after the start, want %v", got.Sub(start), test.want)
			}
		})
	}
}

// TestChangedDuringCall gives the file its former content again after a call found
// another than the one that was reported: the caller has to be told.
func TestChangedDuringCall(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, before)
	w, err := New(path)
	if err != nil {
		t.Fatal(err)
	}
	found := make(chan string, 100)
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	calls := 0
	write(t, path, after)
	err = w.Run(ctx, func() {
		calls++
		if calls == 1 {
			write(t, path, "half of the next edit")
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		found <- string(content)
		if calls == 1 {
			write(t, path, after)
			return
		}
		_ = w.Close()
	})
	close(found)
	var got []string
	for content := range found {
		got = append(got, content)
	}
	if err != nil || len(got) != 2 || got[1] != after {
		t.Errorf("Run: %v; calls found %q, want a second that finds %q", err, got, after)
	}
}

// TestOverflow loses events, the edit's among them.
func TestOverflow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "config.yaml")
	write(t, path, before)
	text, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Fatal(err)
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	w, err := New(path)
	if err != nil {
		t.Fatal(err)
	}
	// Of a neighbour, so that nothing but the loss itself tells of the edit.
	neighbour := filepath.Join(dir, "neighbour")
	write(t, neighbour, "")
	for range limit/4 + 1 { // four events each
		rename(t, neighbour, neighbour+"~")
		rename(t, neighbour+"~", neighbour)
	}
	write(t, path, after)
	wantCall(t, w)
}

// wantCall fails when the watcher has not told of an edit in time.
func wantCall(t *testing.T, w *Watcher) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	called := false
	if err := w.Run(ctx, func() { called = true; cancel() }); err != nil || !called {
		t.Errorf("Run: %v, called: %v, want a call within %v", err, called, bound)
	}
}

// TestBetweenNewAndRun edits the file before anybody waits for it.
func TestBetweenNewAndRun(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yaml")
	w, err := New(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, after)
	wantCall(t, w)
}

// TestRelativePath keeps the directory that was the working one.
func TestRelativePath(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	w, err := New("config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	write(t, filepath.Join(dir, "config.yaml"), after)
	wantCall(t, w)
}

// TestClose ends Run from elsewhere, before it waits and while.
func TestClose(t *testing.T) {
	w, err := New(filepath.Join(t.TempDir(), "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(context.Background(), func() { t.Error("a call for nothing") }) }()
	for range 2 {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(bound):
		t.Fatalf("Run still runs %v after Close", bound)
	}
}

// TestWatchesAreGivenBack goes through many directories and wants no watch left on
// those that are no longer on the way.
func TestWatchesAreGivenBack(t *testing.T) { // not beside others: it counts the process's watches
	dir := t.TempDir()
	path := filepath.Join(dir, "current", "config.yaml")
	makeDirectory(t, filepath.Join(dir, "0"))
	symlink(t, "0", filepath.Join(dir, "current"))
	others := inKernel(t)
	w, err := New(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	count := len(w.chain)
	for i := 1; i <= 50; i++ {
		next := strconv.Itoa(i)
		makeDirectory(t, filepath.Join(dir, next))
		symlink(t, next, filepath.Join(dir, "next"))
		rename(t, filepath.Join(dir, "next"), filepath.Join(dir, "current"))
		if _, err := w.drain(); err != nil {
			t.Fatal(err)
		}
	}
	kernel := inKernel(t) - others
	if len(w.chain) != count || kernel != count {
		t.Errorf("%d watches kept, %d in the kernel, want %d", len(w.chain), kernel, count)
	}
}

// inKernel counts the watches of this process.
func inKernel(t *testing.T) (watches int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if info, err := os.ReadFile("/proc/self/fdinfo/" + fd.Name()); err == nil {
			watches += strings.Count(string(info), "inotify wd:")
		}
	}
	return watches
}

// TestNewFails wants errors that say what to do.
func TestNewFails(t *testing.T) {
	if _, err := New(""); err == nil {
		t.Error("an empty path is taken")
	}

	hidden := filepath.Join(t.TempDir(), "hidden")
	makeDirectory(t, hidden)
	if err := os.Chmod(hidden, 0o311); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(hidden, 0o700) })
	asNobody(t, filepath.Dir(hidden))
	_, err := New(filepath.Join(hidden, "config.yaml"))
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), hidden+":") {
		t.Errorf("in a directory that cannot be read: %v", err)
	}
}

// TestHiddenOnTheWay passes through a directory that may not be read.
func TestHiddenOnTheWay(t *testing.T) {
	hidden := filepath.Join(t.TempDir(), "hidden")
	path := filepath.Join(hidden, "open", "config.yaml")
	makeDirectory(t, filepath.Dir(path))
	if err := os.Chmod(hidden, 0o311); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(hidden, 0o700) })
	asNobody(t, filepath.Dir(hidden))
	w, err := New(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var called atomic.Bool
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	wrote := make(chan error, 1)
	go func() { wrote <- os.WriteFile(path, []byte(after), 0o644) }() // another thread: still root
	if err := w.Run(ctx, func() { called.Store(true); cancel() }); err != nil || !called.Load() {
		t.Errorf("Run: %v, called: %v, want a call within %v; written: %v", err, called.Load(), bound, <-wrote)
	}
}

// asNobody takes root's right to everything from the thread of the test, if it has
// it, and opens the way to the directory.
func asNobody(t *testing.T, directory string) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	for _, d := range []string{directory, filepath.Dir(directory)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	runtime.LockOSThread()
	t.Cleanup(func() {
		_, _ = unix.SetfsuidRetUid(0)
		runtime.UnlockOSThread()
	})
	if _, err := unix.SetfsuidRetUid(65534); err != nil {
		t.Fatal(err)
	}
}
