package handoff

import (
	"os"
	"path/filepath"
	"testing"
)

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
