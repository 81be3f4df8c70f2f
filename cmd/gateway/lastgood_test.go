package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"openclaw-gateway/cmd/gateway/config"
)

// TestRemember: what is kept is the last configuration that worked, and nothing
// where that was the defaults.
func TestRemember(t *testing.T) {
	directory := t.TempDir()
	t.Setenv("STATE_DIRECTORY", directory)
	kept := filepath.Join(directory, "last-good.yaml")
	l, _, _ := rigControl(t)
	l.good.Store(&edition{cfg: &config.Config{Path: "/etc/c.yaml", Content: []byte("log: {level: debug}\n")}})
	l.remember()
	if content, err := os.ReadFile(kept); err != nil || string(content) != "log: {level: debug}\n" {
		t.Errorf("%q (%v) is kept", content, err)
	}
	l.good.Store(&edition{cfg: config.Default()})
	for range 2 {
		l.remember()
		if _, err := os.Lstat(kept); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the defaults are good, and the older file is kept (%v)", err)
		}
	}
}
