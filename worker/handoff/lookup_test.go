package handoff

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDirectory: a home that is none keeps no program from its start.
func TestDirectory(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	closed, file := filepath.Join(folder, "closed"), filepath.Join(folder, "file")
	if err := errors.Join(os.Mkdir(closed, 0o700), os.WriteFile(file, nil, 0o755), os.Symlink("closed", filepath.Join(folder, "link"))); err != nil {
		t.Fatal(err)
	}
	for wished, want := range map[string]string{
		closed: closed, filepath.Join(folder, "link"): filepath.Join(folder, "link"), "/": "/",
		"": "/", ".": "/", file: "/", filepath.Join(folder, "none"): "/", filepath.Join(file, "below"): "/",
	} {
		if got := Directory(wished); got != want {
			t.Errorf("%q: %s, want %s", wished, got, want)
		}
	}
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to be somebody else: make test")
	}
	got := make(chan string)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends as that user
		_ = unix.Setfsuid(65534)
		got <- Directory(closed)
	}()
	if got := <-got; got != "/" {
		t.Errorf("closed to others: %s", got)
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	for _, name := range []string{"one/tool", "two/tool", "two/other", "local"} {
		path := filepath.Join(directory, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(directory, "one/tool"), 0o644); err != nil {
		t.Fatal(err)
	}
	path := "PATH=:.:one:" + filepath.Join(directory, "one") + ":" + filepath.Join(directory, "two")
	for name, want := range map[string]string{
		"tool":                               "two/tool", // the first one cannot be executed
		"other":                              "two/other",
		"./local":                            "local",
		"two/other":                          "two/other",
		filepath.Join(directory, "two/tool"): "two/tool",
		"local":                              "", // not in the PATH
		"sh":                                 "", // in the launcher's, which does not count
		"two":                                "",
	} {
		got, err := Lookup(name, directory, []string{"X=1", path})
		if want != "" {
			want = filepath.Join(directory, want)
		}
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
}
