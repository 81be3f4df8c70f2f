package compilecache

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"openclaw-gateway/test/fixtures"
	"openclaw-gateway/units/instance"
)

// TestPath: it is made for this user alone, and not used where somebody else can write.
func TestPath(t *testing.T) {
	base := filepath.Join(t.TempDir(), "cache")
	c := &Cache{base: base, log: slog.New(slog.DiscardHandler)}
	want := filepath.Join(base, "node")
	for range 2 {
		if got, err := c.Path(); got != want || err != nil {
			t.Fatalf("%s, %v", got, err)
		}
	}
	for _, path := range []string{base, want} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
		if err := os.Chmod(path, 0o770); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Path(); got != "" || err == nil || !strings.Contains(err.Error(), path+" is not a directory that only uid") {
			t.Errorf("where a group may write to %s: %q, %v", path, got, err)
		}
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Path(); err != nil {
			t.Errorf("where others may read: %v", err)
		}
	}
	if err := errors.Join(os.Remove(want), os.Symlink(t.TempDir(), want)); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Path(); err == nil {
		t.Errorf("a link is used: %s", got)
	}
	if err := os.Remove(want); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(want, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Path(); err == nil {
		t.Errorf("a file is used: %s", got)
	}
	if os.Geteuid() == 0 {
		if err := errors.Join(os.Remove(want), os.Mkdir(want, 0o700), os.Chown(want, 65534, 65534)); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Path(); err == nil {
			t.Errorf("another user's is used: %s", got)
		}
		fixtures.As(t, 65534, func() {
			if _, err := (&Cache{base: base}).Path(); err == nil {
				t.Error("one in another user's is used")
			}
		})
	}
	if _, err := (&Cache{}).Path(); err == nil {
		t.Error("nowhere: no error")
	}
}

// TestDirectory: the unit's comes before the user's.
func TestDirectory(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/home/x/cache")
	t.Setenv("CACHE_DIRECTORY", "")
	if got := directory("work"); got != "/home/x/cache/openclaw-gateway-work" {
		t.Errorf("by hand: %s", got)
	}
	t.Setenv("CACHE_DIRECTORY", "/var/cache/openclaw-gateway:/var/cache/more")
	if got := directory(instance.Default); got != "/var/cache/openclaw-gateway" {
		t.Errorf("the unit's: %s", got)
	}
}

// TestTrim: what another Node.js has left goes, and what has become too much; nothing outside of it.
func TestTrim(t *testing.T) {
	folder, outside := t.TempDir(), t.TempDir()
	write := func(path string, size int) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, make([]byte, size), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	left := func() (all []string) {
		t.Helper()
		err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if path != folder {
				all = append(all, strings.TrimPrefix(path, folder+"/"))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	write(filepath.Join(outside, "file"), 1)
	for _, name := range []string{"v22/a", "v22/b/c", "v24/a", "v24/b"} {
		write(filepath.Join(folder, name), 500)
	}
	if err := trim(folder, "", 20000); err != nil || len(left()) != 7 {
		t.Errorf("of a part that is not known: %v, left %q", err, left())
	}
	if err := os.Symlink(outside, filepath.Join(folder, "link")); err != nil {
		t.Fatal(err)
	}
	if err := trim(folder, "v24", 1000); err != nil || !slices.Equal(left(), []string{"v24", "v24/a", "v24/b"}) {
		t.Errorf("%v, left %q", err, left())
	}
	if err := trim(folder, "v24", 999); err != nil || !slices.Equal(left(), []string{"v24"}) {
		t.Errorf("too much: %v, left %q", err, left())
	}
	if _, err := os.Stat(filepath.Join(outside, "file")); err != nil {
		t.Error(err)
	}
	for _, part := range []string{"..", ".", "v26"} {
		if err := trim(folder, part, 0); err != nil || len(left()) > 0 {
			t.Errorf("%s: %v, left %q", part, err, left())
		}
	}
	write(filepath.Join(folder, "v24/a"), 500)
	if err := trim(folder, "", 499); err != nil || !slices.Equal(left(), []string{"v24"}) {
		t.Errorf("too much of a part that is not known: %v, left %q", err, left())
	}
	if _, err := os.Stat(filepath.Join(outside, "file")); err != nil {
		t.Error(err)
	}
}

// TestModules: what is known of the modules is for this user's eyes alone.
func TestModules(t *testing.T) {
	base := filepath.Join(t.TempDir(), "cache")
	c := &Cache{base: base, log: slog.New(slog.DiscardHandler)}
	want := filepath.Join(base, "prewarm")
	if got, err := c.Modules(); got != want || err != nil {
		t.Fatalf("%s, %v", got, err)
	}
	if info, err := os.Stat(want); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for _, mode := range []os.FileMode{0o701, 0o740, 0o770} {
		if err := os.Chmod(want, mode); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Modules(); got != "" || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %q, %v", mode, got, err)
		}
	}
}
