package state

import (
	"os"
	"path/filepath"
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
