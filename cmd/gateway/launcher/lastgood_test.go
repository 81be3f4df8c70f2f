package launcher

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"openclaw-gateway/cmd/gateway/config"
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
