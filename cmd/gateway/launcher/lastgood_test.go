package launcher

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/test/sockets"
	"openclaw-gateway/worker"
)

// TestSave: what is kept is the last configuration that worked, and nothing
// where that was the defaults. It may hold secrets, and no file with them is made
// where everybody makes files.
func TestSave(t *testing.T) {
	directory, shared := t.TempDir(), t.TempDir()
	t.Setenv("STATE_DIRECTORY", directory)
	t.Setenv("TMPDIR", shared)
	kept := filepath.Join(directory, "last-good.yaml")
	l, _, _ := rigControl(t)
	if err := os.Chtimes(shared, time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	l.editions.good.Store(&edition{cfg: &config.Config{Path: "/etc/c.yaml", Content: []byte("log: {level: debug}\n")}})
	l.editions.goodKept.Keep()
	l.editions.goodKept.Wait()
	if content, err := os.ReadFile(kept); err != nil || string(content) != "log: {level: debug}\n" {
		t.Errorf("%q (%v) is kept", content, err)
	}
	if info, err := os.Stat(shared); err != nil || info.ModTime() != time.Unix(1, 0) {
		t.Errorf("a file was made in TMPDIR (%v)", err)
	}
	l.editions.good.Store(&edition{cfg: config.Default()})
	for range 2 {
		l.editions.goodKept.Keep()
		l.editions.goodKept.Wait()
		if _, err := os.Lstat(kept); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the defaults are good, and the older file is kept (%v)", err)
		}
	}
}

// TestFileGone: once a configuration was read, its file's absence is an edit that is rejected, in this life of the launcher and in
// the next, and not the wish for the defaults.
func TestFileGone(t *testing.T) {
	directory := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(directory, "config"))
	t.Setenv("STATE_DIRECTORY", directory)
	path := config.DefaultPath(true, "")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(command string) {
		t.Helper()
		if err := os.WriteFile(path, []byte("listen: ['"+sockets.Free(t).String()+"']\nworker: {command: ["+command+"]}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("/bin/good")
	l, _, _ := rigControl(t)
	t.Cleanup(func() { l.held.retainClaims(func(int) bool { return false }) })
	var tried applied
	e := l.editions
	e.supervisor = &tried
	if err := e.reload(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	l.observe(worker.Status{State: worker.Ready, Generation: 1, Edition: 1})
	e.goodKept.Wait()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	gone := func(what, path string, err error) {
		t.Helper()
		if err == nil || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path+": ") {
			t.Errorf("%s: %v", what, err)
		}
	}
	gone("a reload", path, e.reload(t.Context(), false))
	if shown := l.Status().Config; tried != 1 || e.current().cfg.Path != path || shown.State != "rejected" || shown.Path != path {
		t.Errorf("edition %d of %s is in use, and the status has %+v", tried, e.current().cfg.Path, shown)
	}
	if answer := e.check(api.CheckRequest{}, false); !strings.Contains(answer.Rejected, path) {
		t.Errorf("a check of no file: %+v", answer)
	}
	if keptGood() == "" {
		t.Error("the last good configuration is not kept any more")
	}
	_, err := config.Named{}.LoadAfter(keptGood())
	gone("the next launcher", config.Named{}.Watched(), err)
	write("/bin/better")
	if err := e.reload(t.Context(), false); err != nil || tried != 2 {
		t.Errorf("with another file: %v, %d editions", err, tried)
	}
}
