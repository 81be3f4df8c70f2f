package read

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOnlyRoots: whatever lets somebody else put another program where root's is.
func TestOnlyRoots(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	owner := os.Geteuid()
	make := func(path string, mode fs.FileMode) string {
		t.Helper()
		full := filepath.Join(base, path)
		err := os.MkdirAll(filepath.Dir(full), 0o755)
		if err == nil && strings.HasSuffix(path, "/") {
			err = os.MkdirAll(full, 0o755)
		} else if err == nil {
			err = os.WriteFile(full, nil, mode)
		}
		if err == nil {
			err = os.Chmod(full, mode)
		}
		if err != nil {
			t.Fatal(err)
		}
		return full
	}
	link := func(path, target string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(base, path)); err != nil {
			t.Fatal(err)
		}
	}
	make("bin/gateway", 0o755)
	make("bin/everybody", 0o757)
	make("bin/group", 0o775)
	make("open/gateway", 0o755)
	make("open/", 0o757)
	make("sticky/gateway", 0o755)
	make("sticky/folder/gateway", 0o755)
	make("sticky/everybody", 0o757)
	make("sticky/", 0o777|fs.ModeSticky)
	link("sticky/link", "../bin/gateway")
	make("groups/deep/gateway", 0o755)
	make("groups/", 0o775)
	link("bin/same", "gateway")
	link("bin/up", "../open/gateway")
	link("bin/twice", "up")
	link("folder", "open")
	link("round", "round")
	link("bin/through", "../folder/../bin/gateway")
	link("bin/gone", "../open/none")
	for path, at := range map[string]string{
		"bin/gateway": "", "bin/same": "", "bin/../bin/./gateway": "",
		"bin/everybody": "bin/everybody", "sticky/everybody": "sticky/everybody", "bin/group": "bin/group",
		"open/gateway": "open", "sticky": "sticky", "sticky/gateway": "", "sticky/folder/gateway": "", "sticky/link": "", "sticky/none": "sticky", "sticky/../open/gateway": "open", "groups/deep/gateway": "groups",
		"bin/up": "open", "bin/twice": "open", "folder/gateway": "open", "bin/through": "open", "bin/gone": "open", "open/none": "open",
	} {
		err := onlyOf([]int{owner}, base, filepath.Join(base, path))
		if owner == 0 && strings.Contains(path, "group") { // root's own group may write
			if err != nil {
				t.Errorf("%s: %v", path, err)
			}
			continue
		}
		others, refused := errors.AsType[*OthersError](err)
		if refused != (at != "") || refused && others.At != filepath.Join(base, at) {
			t.Errorf("%s: %v, want %q to be named", path, err, at)
		}
	}
	if err := onlyOf([]int{owner}, base, filepath.Join(base, "bin/none/deeper")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
	if err := onlyOf([]int{owner}, base, filepath.Join(base, "round")); err == nil || !strings.Contains(err.Error(), "too many levels") {
		t.Errorf("a link to itself: %v", err)
	}
	// A link of another user's in such a folder: whoever is asked for owns nothing here.
	if owner == 0 {
		if err := os.Lchown(filepath.Join(base, "sticky/link"), 1, 1); err != nil {
			t.Fatal(err)
		}
		if others, refused := errors.AsType[*OthersError](onlyOf([]int{0}, base, filepath.Join(base, "sticky/link"))); !refused || others.UID != 1 {
			t.Error("a link of another user's is followed")
		}
	}
	if others, refused := errors.AsType[*OthersError](onlyOf([]int{owner + 1}, base, filepath.Join(base, "bin/gateway"))); !refused || others.UID != owner {
		t.Error("another user's is not refused")
	}
	if err := OnlyRoots("relative"); err == nil {
		t.Error("a relative path")
	}
	// Root is refused a look by a file system of a user's own; a name that is too long fails at the same place.
	if _, refused := errors.AsType[*OthersError](OnlyRoots("/" + strings.Repeat("x", 300) + "/file")); refused != (owner == 0) {
		t.Errorf("what cannot be looked at: %t", refused)
	}
	if err := OnlyRoots("/bin/sh"); err != nil {
		t.Errorf("/bin/sh: %v", err)
	}
}
