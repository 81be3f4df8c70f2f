package launcher

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/test/sockets"
	"openclaw-gateway/worker/generation"
)

// rigReading is a launcher that has applied a configuration with an environment file, beside which others can be put.
func rigReading(t *testing.T) (e *editions, tried *applied, folder string, put func(name, text string)) {
	t.Helper()
	_, e, tried, folder, put = rigLauncher(t)
	return e, tried, folder, put
}

func rigLauncher(t *testing.T) (l *launcher, e *editions, tried *applied, folder string, put func(name, text string)) {
	t.Helper()
	l, _, _ = rigControl(t)
	folder = t.TempDir()
	t.Cleanup(func() { l.held.retainClaims(func(int) bool { return false }) })
	put = func(name, text string) {
		t.Helper()
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	put("environment", "A=1\n")
	tried = new(applied)
	e = l.editions
	e.files, e.supervisor = config.Named{Path: filepath.Join(folder, "config.yaml")}, tried
	put("config.yaml", fmt.Sprintf("listen: ['%s']\nworker: {environment_file: %s/environment}\n", sockets.Free(t), folder))
	if err := e.reload(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	return l, e, tried, folder, put
}

// TestOvertaken: what was read first and comes last is not put over what was read later, and has its outcome.
func TestOvertaken(t *testing.T) {
	e, tried, folder, put := rigReading(t)
	slow := e.read()
	put("environment", "A=2\n")
	quick := e.read()
	ready, err := e.applyRead(quick, false)
	if err != nil || *tried != 2 {
		t.Fatalf("the later: %v, %d editions", err, *tried)
	}
	if again, err := e.applyRead(slow, false); again != ready || err != nil || *tried != 2 {
		t.Errorf("the earlier: %v, %d editions", err, *tried)
	}
	if got := e.latest.Load().fromFile; fmt.Sprint(got) != "[A=2]" {
		t.Errorf("the worker has %s", got)
	}

	slow = e.read()
	put("config.yaml", "listen: 5\n")
	if _, err := e.applyRead(e.read(), false); err == nil {
		t.Error("a wrong file was applied")
	}
	if _, err := e.applyRead(slow, false); err == nil || !strings.Contains(err.Error(), "listen") || *tried != 2 {
		t.Errorf("one before the wrong file: %v, %d editions", err, *tried)
	}
	e.environment.follow(0, folder+"/old")
	if e.environment.path != folder+"/environment" {
		t.Errorf("edits of %s are noticed", e.environment.path)
	}
}

// TestOddEnvironment: what an environment file says that is hardly meant is a note, and one that has been emptied is refused.
func TestOddEnvironment(t *testing.T) {
	l, e, tried, folder, put := rigLauncher(t)
	path := folder + "/environment"
	put("environment", "A=1\nexport B=hush\n")
	want := "worker.environment_file: " + path + ":2 begins with export, which only a shell knows, and is ignored: leave that word out"
	if err := e.reload(t.Context(), false); err != nil || *tried != 1 || fmt.Sprint(l.Status().Notes) != "["+want+"]" {
		t.Errorf("with a line of a shell: %v, %d editions, notes %q, want %q", err, *tried, l.Status().Notes, want)
	}
	text, err := os.ReadFile(e.files.Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, empty := range []string{"", "\ufeff", "\n \r\n"} {
		put("environment", empty)
		err := e.reload(t.Context(), true)
		if err == nil || !strings.Contains(err.Error(), path+" is empty, and had variables") || *tried != 1 || fmt.Sprint(e.current().fromFile) != "[A=1]" {
			t.Errorf("emptied: %v, %d editions, in use is %s", err, *tried, e.current().fromFile)
		}
		if answer := e.check(api.CheckRequest{Path: e.files.Path, Content: text}, false); !strings.Contains(answer.Rejected, path+" is empty") {
			t.Errorf("a check of one that was emptied: %+v", answer)
		}
	}
	if err := os.Rename(e.files.Path, folder+"/away"); err != nil {
		t.Fatal(err)
	}
	if notes := strings.Join(l.Status().Notes, "\n"); !strings.Contains(notes, e.files.Path+" is gone: put it back") {
		t.Errorf("without the configuration the notes are %q", notes)
	}
	if err := os.Rename(folder+"/away", e.files.Path); err != nil {
		t.Fatal(err)
	}
	put("environment", "# none\n")
	if err := e.reload(t.Context(), true); err != nil || *tried != 2 || len(l.Status().Notes) > 0 || len(e.current().fromFile) > 0 {
		t.Errorf("a comment alone: %v, %d editions, notes %q", err, *tried, l.Status().Notes)
	}
	put("environment", "")
	if err := e.reload(t.Context(), true); err != nil || *tried != 2 || fmt.Sprint(l.Status().Notes) != "[worker.environment_file: "+path+" is empty]" {
		t.Errorf("empty, without variables before: %v, %d editions, notes %q", err, *tried, l.Status().Notes)
	}
}

// TestNoFile: whatever lies there instead of a file rejects the edit, keeps no other waiting, and is noticed to have gone.
func TestNoFile(t *testing.T) {
	e, tried, folder, put := rigReading(t)
	text, err := os.ReadFile(e.files.Path)
	if err != nil {
		t.Fatal(err)
	}
	soon := func(what string, f func() error) error {
		t.Helper()
		done := make(chan error, 1)
		go func() { done <- f() }()
		select {
		case err := <-done:
			return err
		case <-time.After(time.Minute):
			t.Fatalf("%s has not ended after a minute", what)
			return nil
		}
	}
	reload := func() error {
		return soon("a reload", func() error { return e.reload(context.Background(), false) })
	}
	traps := map[string]func(path string) error{
		"is a named pipe":     func(path string) error { return unix.Mkfifo(path, 0o600) },
		"is a directory":      func(path string) error { return os.Mkdir(path, 0o700) },
		"is a device":         func(path string) error { return os.Symlink("/dev/zero", path) },
		"made by the kernel":  func(path string) error { return os.Symlink("/proc/self/environ", path) },
		"bigger than 8 MiB":   func(path string) error { return sparse(path) },
		"too many levels of ": func(path string) error { return os.Symlink(path, path) },
	}
	for name, content := range map[string]string{"config.yaml": string(text), "environment": "A=1\n"} {
		path := filepath.Join(folder, name)
		for want, lay := range traps {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := lay(path); err != nil {
				t.Fatal(err)
			}
			err := reload()
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s that %s: %v", name, want, err)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			put(name, content)
			if err := reload(); err != nil || *tried != 1 {
				t.Errorf("%s is back: %v, %d editions", name, err, *tried)
			}
		}
	}
	if err := unix.Mkfifo(folder+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(folder+"/pipe", folder+"/environment"); err != nil {
		t.Fatal(err)
	}
	if err := reload(); err == nil {
		t.Error("a pipe is an environment")
	}
	_ = soon("the end", func() error { e.end(); return nil })
}

// sparse makes a file that nobody can read to its end.
func sparse(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return file.Truncate(8 << 40)
}

// onLine is called with each line of a log.
type onLine func(message string)

func (f onLine) Enabled(context.Context, slog.Level) bool { return true }
func (f onLine) WithAttrs([]slog.Attr) slog.Handler       { return f }
func (f onLine) WithGroup(string) slog.Handler            { return f }
func (f onLine) Handle(_ context.Context, record slog.Record) error {
	f(record.Message)
	return nil
}

// TestFirstEdit: an edit of the environment file that comes before there is a supervisor waits for that.
func TestFirstEdit(t *testing.T) {
	_, e, tried, _, put := rigLauncher(t)
	put("environment", "export A=1\n")
	e.supervisor = nil
	read := false
	e.log = slog.New(onLine(func(message string) {
		if !strings.HasPrefix(message, "environment file: ") {
			return
		}
		read = true
		if e.mu.TryLock() {
			e.mu.Unlock()
			t.Error("an edit would be applied while the first configuration is read")
		}
	}))
	cfg, err := e.files.LoadAfter("")
	e.begin(cfg, err, func(generation.Spec, *generation.Spec) applier { return tried })
	if !read {
		t.Error("the environment file was not read")
	}
}
