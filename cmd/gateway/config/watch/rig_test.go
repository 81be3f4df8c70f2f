package watch

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// bound is how long a test waits for what must happen.
const bound = 30 * time.Second

// rig is a running watcher. Its calls become the contents that the caller found.
type rig struct {
	t       *testing.T
	path    string
	reports chan string
}

// watched begins to watch the file at path until the test ends.
func watched(t *testing.T, path string) *rig {
	t.Helper()
	w, err := New(path)
	if err != nil {
		t.Fatal(err)
	}
	return run(t, w, path)
}

// run runs a watcher until the test ends.
func run(t *testing.T, w *Watcher, path string) *rig {
	t.Helper()
	// Room for all calls of a test, so that none of them waits for the test.
	r := &rig{t: t, path: path, reports: make(chan string, 10_000)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- w.Run(ctx, func() {
			content, err := os.ReadFile(path)
			if err != nil {
				content = []byte("error: " + err.Error())
			}
			r.reports <- string(content)
		})
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(bound):
			t.Errorf("Run still runs %v after its context is done", bound)
		}
	})
	return r
}

// expect waits for a call that finds the content, and fails if there was another.
func (r *rig) expect(content string) {
	r.t.Helper()
	select {
	case got := <-r.reports:
		if got != content {
			r.t.Fatalf("a call found %q, want %q", got, content)
		}
	case <-time.After(bound):
		r.t.Fatalf("no call within %v for %q", bound, content)
	}
}

// settled saves the file with a content of its own, and fails unless that is all
// that is still reported.
func (r *rig) settled() {
	r.t.Helper()
	r.quieten()
	const sentinel = "sentinel\n"
	replace(r.t, r.path, sentinel)
	var got []string
	for len(got) == 0 || got[len(got)-1] != sentinel {
		select {
		case content := <-r.reports:
			got = append(got, content)
		case <-time.After(bound):
			r.t.Fatalf("no call within %v for the last save; calls before it: %q", bound, got)
		}
	}
	if diff := cmp.Diff([]string{sentinel}, got); diff != "" {
		r.t.Errorf("calls after the test's own (-want +got):\n%s", diff)
	}
}

// quieten returns when what has happened to the file until now has had its quiet
// period, and a call if it was to have one. The clock is two edits in sequence of
// another file with a watcher of its own: each takes a quiet period that begins
// later.
func (r *rig) quieten() {
	r.t.Helper()
	clock := filepath.Join(r.t.TempDir(), "clock")
	other := watched(r.t, clock)
	for _, tick := range []string{"one", "two"} {
		write(r.t, clock, tick)
		other.expect(tick)
	}
}

// write saves as a shell does: truncated and written in place.
func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// replace saves as renameio does: another file renamed over it.
func replace(t *testing.T, path, content string) {
	t.Helper()
	write(t, path+".new", content)
	rename(t, path+".new", path)
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func makeDirectory(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

// shell runs commands in a directory.
func shell(t *testing.T, directory, commands string) {
	t.Helper()
	cmd := exec.Command("sh", "-euc", commands)
	cmd.Dir = directory
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", commands, err, output)
	}
}

// writer opens the file as a program that takes its time to save it.
func writer(t *testing.T, path string) *os.File {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file
}

func put(t *testing.T, file io.StringWriter, content string) {
	t.Helper()
	if _, err := file.WriteString(content); err != nil {
		t.Fatal(err)
	}
}
