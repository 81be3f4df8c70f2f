package state

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestVersion: what a later version has written is left alone, and told; what says no version is taken for an earlier one's.
func TestVersion(t *testing.T) {
	was := program
	t.Cleanup(func() { program = was })
	program = func() string { return "1.2.3+abc-dirty" }
	for _, test := range []struct {
		last string
		want string
	}{
		{last: "1.2.2"},
		{last: "1.2.3"},
		{last: "1.2.3+other"},
		{last: "1.2.3-rc.1"},
		{last: "unknown"},
		{last: ""},
		{last: "1.2.4", want: "by version 1.2.4 and this is 1.2.3"},
		{last: "2.0.0-rc.1+x", want: "by version 2.0.0-rc.1+x and"},
		{last: "10.0.0", want: "install the later version again"},
	} {
		directory := filepath.Join(t.TempDir(), "state")
		if err := os.Mkdir(directory, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv("STATE_DIRECTORY", directory)
		noted := filepath.Join(directory, versionFile)
		if err := os.WriteFile(noted, []byte(test.last+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		path, err := Path("file")
		if test.want != "" {
			if path != "" || err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), directory) {
				t.Errorf("%q: %q, %v, want %q", test.last, path, err, test.want)
			}
			continue
		}
		if err != nil || path != filepath.Join(directory, "file") {
			t.Errorf("%q: %q, %v", test.last, path, err)
			continue
		}
		if err := Write(path, []byte("x")); err != nil {
			t.Error(err)
		}
		if content, err := os.ReadFile(noted); err != nil || string(content) != "1.2.3+abc-dirty\n" {
			t.Errorf("%q: then %q is noted, %v", test.last, content, err)
		}
	}
}

// TestUnfinished: what a write has left whose process was killed goes with the next one, and with all that a launcher has kept.
func TestUnfinished(t *testing.T) {
	directory := t.TempDir()
	put := func(names ...string) {
		for _, name := range names {
			if err := os.WriteFile(filepath.Join(directory, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	left := func(want ...string) {
		t.Helper()
		entries, err := os.ReadDir(directory)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		if want = slices.Sorted(slices.Values(want)); !slices.Equal(names, want) {
			t.Errorf("there is %q, want %q", names, want)
		}
	}
	others := []string{".binds.json.bak", ".version", "version1", ".version-1", ".other123"}
	put(others...)
	if err := os.Mkdir(filepath.Join(directory, ".version2"), 0o700); err != nil { // somebody else's: we write files alone
		t.Fatal(err)
	}
	others = append(others, ".version2")
	put(".version8735863672918274652", "."+Good+"1", "."+History+"2")
	if err := Write(filepath.Join(directory, Good), []byte("x")); err != nil {
		t.Error(err)
	}
	left(append(slices.Clone(others), Good, versionFile, "."+History+"2")...)
	put("."+Good+"3", Came)
	if err := Clear(directory); err != nil {
		t.Error(err)
	}
	left(others...)
}
