package handoff

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMissing: what a command names that is not there, as far as it is a file beyond doubt.
func TestMissing(t *testing.T) {
	folder := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	there, there2 := write("server.js", ""), write("plain", "#!/bin/sh\n")
	for name, test := range map[string]struct {
		path string
		argv []string
		want string // a part of it; "" for nothing
	}{
		"a script":                  {"/bin/sh", []string{"node", there}, ""},
		"relative":                  {"/bin/sh", []string{"/usr/bin/node", "server.js", "x.js"}, ""},
		"without its ending":        {"/bin/sh", []string{"node", "./server"}, ""},
		"that is not there":         {"/bin/sh", []string{"/usr/bin/node-24", "/gone.js"}, "node-24 is to run /gone.js, which is not there"},
		"relative, not there":       {"/bin/sh", []string{"python3", "app.py"}, folder + "/app.py, which is not there"},
		"an option":                 {"/bin/sh", []string{"python3", "-m", "http.server"}, ""},
		"a command":                 {"/bin/sh", []string{"bun", "start"}, ""},
		"not an interpreter's":      {"/bin/sh", []string{"server", "/var/lib/made-by-it"}, ""},
		"a program":                 {there2, []string{there2}, ""},
		"no interpreter":            {write("orphaned", "#!/gone/interpreter -x\n"), []string{"x"}, `"/gone/interpreter", which is not there`},
		"written on another system": {write("crlf", "#!/bin/sh\r\n"), []string{"x"}, `"/bin/sh\r", which is not there`},
	} {
		got := Missing(test.path, test.argv, folder)
		if (got == nil) != (test.want == "") || got != nil && !strings.Contains(got.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, got, test.want)
		}
	}
}
