package handoff

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestCaches: who is told where to keep what is compiled.
func TestCaches(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	in := func(name string) string { return filepath.Join(folder, name) }
	for name, content := range map[string]string{
		"node": "\x7fELF", "server.js": "", "openclaw.mjs": "#!/usr/bin/env node\n", "tool": "#!/usr/bin/env node\n", "sh": "\x7fELF", "bun": "\x7fELF",
	} {
		if err := os.WriteFile(in(name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink("openclaw.mjs", in("openclaw")), os.Symlink("node", in("node-of-mine"))); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		argv    []string
		environ []string
		want    bool
	}{
		{[]string{"node", in("server.js")}, nil, true},
		{[]string{"node", "server.js"}, []string{"NODE_OPTIONS=x", "NODE_DISABLE_COMPILE_CACHE="}, true},
		{[]string{"node-of-mine", "/x/dist/index.js", "gateway"}, nil, true},
		{[]string{"node", "server.js"}, []string{"NODE_COMPILE_CACHE=/mine"}, false},
		{[]string{"node", "server.js"}, []string{"NODE_COMPILE_CACHE="}, false},
		{[]string{"node", "server.js"}, []string{"NODE_DISABLE_COMPILE_CACHE=1"}, false},
		{[]string{"node", in("openclaw.mjs"), "gateway"}, nil, false},
		{[]string{"node", "--no-warnings", "openclaw", "gateway"}, nil, false},
		{[]string{"node", "/gone/clawdbot.mjs", "gateway"}, nil, false},
		{[]string{"tool"}, nil, false},
		{[]string{"sh", "-c", "exec node server.js"}, nil, false},
		{[]string{"bun", "server.js"}, nil, false},
	} {
		if got := Direct(in(test.argv[0]), test.argv, folder) && Caches(test.environ); got != test.want {
			t.Errorf("%q with %q: %t", test.argv, test.environ, got)
		}
	}
}
