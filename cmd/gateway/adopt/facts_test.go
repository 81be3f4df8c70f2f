package adopt

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestGather: what a command starts, by files alone.
func TestGather(t *testing.T) {
	t.Parallel()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const elf = "\x7fELF"
	for path, content := range map[string]string{
		"v24.21.0/bin/node": elf + strings.Repeat(" ", 1<<20), "v24.20.0/bin/node": elf + strings.Repeat(" ", 1<<20), "v20.1.0/bin/node": elf,
		"shims/volta-shim": elf, "shims/mise": elf, "nix/openclaw": elf + "makeCWrapper 'node'", "nvm-exec": "#!/bin/bash\n", "bin/nice": elf, "bin/mise": elf,
		"start.sh":              "#!/bin/bash\n. ~/.nvm/nvm.sh\nexec node $ROOT/openclaw/dist/index.js gateway\n",
		"openclaw/package.json": `{"name": "openclaw", "version": "2026.9.6", "engines": {"node": ">=24.16.0"}}`, "openclaw/dist/index.js": "", "openclaw/dist/entry.js": "",
		"openclaw/openclaw.mjs": "#!/usr/bin/env node\n",
		"old/package.json":      `{"name": "openclaw", "version": "2026.4.2"}`, "old/dist/index.js": "", "old/dist/entry.js": "", "old/openclaw.mjs": "#!/usr/bin/env node\n",
		"clawdbot/package.json": `{"name": "clawdbot", "version": "2026.1.24"}`, "clawdbot/dist/entry.js": "#!/usr/bin/env node\n",
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(content, "$ROOT", root)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"shims/openclaw": "volta-shim", "mise/openclaw": "../shims/mise", "bin/openclaw": "../openclaw/openclaw.mjs", "bin/clawdbot": "../clawdbot/dist/entry.js"} {
		path := filepath.Join(root, link)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
	}
	const node24, entry = "$ROOT/v24.21.0/bin/node", "$ROOT/openclaw/dist/index.js"
	for _, c := range []struct {
		argv    string // of the unit
		path    string // where its PATH has a Node.js; "": 24.21.0
		script  string
		running string // the program that runs
		environ string // of that
		command string // of the worker; "" where it is the same
		again   string
		refused string
	}{
		{argv: "node " + entry + " gateway", command: node24 + " " + entry + " gateway"},
		{argv: "$ROOT/bin/openclaw gateway", command: node24 + " " + entry + " gateway"},
		// Programs of version managers in the place of the command.
		{argv: "$ROOT/shims/openclaw gateway"},
		{argv: "$ROOT/shims/openclaw gateway", path: "none"},
		{argv: "$ROOT/mise/openclaw gateway"},
		{argv: "$ROOT/nix/openclaw gateway"},
		// A version manager finds its own Node.js, and nice does not.
		{argv: "$ROOT/bin/nice -n 3 node " + entry + " gateway", command: "$ROOT/bin/nice -n 3 " + node24 + " " + entry + " gateway"},
		{argv: "$ROOT/nvm-exec node " + entry + " gateway", path: "v20.1.0"},
		{argv: "$ROOT/nvm-exec node " + entry + " gateway", path: "none"},
		{argv: "$ROOT/bin/mise x node@24 -- node " + entry + " gateway"},
		{argv: "$ROOT/bin/nice $ROOT/bin/mise x -- node " + entry + " gateway"},
		// A script may load one.
		{argv: "$ROOT/start.sh", script: "$ROOT/start.sh", path: "v20.1.0"},
		{argv: "$ROOT/start.sh", script: "$ROOT/start.sh", running: "$ROOT/v20.1.0/bin/node", refused: "v20.1.0/bin/node is Node.js 20.1.0"},
		{argv: "node " + entry + " gateway", path: "v20.1.0", refused: "v20.1.0/bin/node is Node.js 20.1.0"},
		// What those before 2026.5 start themselves again by.
		{argv: "$ROOT/v24.21.0/bin/node $ROOT/clawdbot/dist/entry.js gateway", again: "CLAWDBOT_NODE_OPTIONS_READY"},
		{argv: "$ROOT/bin/clawdbot gateway", command: node24 + " $ROOT/bin/clawdbot gateway", again: "CLAWDBOT_NODE_OPTIONS_READY"},
		{argv: node24 + " $ROOT/old/dist/entry.js gateway", again: "OPENCLAW_NODE_OPTIONS_READY"},
		{argv: node24 + " $ROOT/old/openclaw.mjs gateway", again: "OPENCLAW_NODE_OPTIONS_READY"},
		{argv: node24 + " $ROOT/old/dist/index.js gateway"},
		{argv: node24 + " $ROOT/openclaw/dist/entry.js gateway", command: node24 + " " + entry + " gateway"},
		// What runs is another one.
		{argv: "node " + entry + " gateway", running: node24, environ: "HOME=$ROOT", command: node24 + " " + entry + " gateway"},
		{argv: "node " + entry + " gateway", running: "$ROOT/v24.20.0/bin/node", refused: "the one that runs is $ROOT/v24.20.0/bin/node, and the PATH of its unit has " + node24},
		{argv: node24 + " " + entry + " gateway", running: "$ROOT/v24.20.0/bin/node"},
		{argv: node24 + " " + entry + " gateway", environ: "HOME=$ROOT OPENCLAW_STATE_DIR=$ROOT/other", refused: "the one that runs has its state in $ROOT/other"},
		{argv: node24 + " " + entry + " gateway", environ: "HOME=$ROOT/other", refused: "the one that runs has its state in $ROOT/other/.openclaw"},
		{argv: node24 + " " + entry + " --profile work gateway", environ: "OPENCLAW_STATE_DIR=$ROOT/.openclaw-work OPENCLAW_PROFILE=work"},
	} {
		words := func(text string) []string { return strings.Fields(strings.ReplaceAll(text, "$ROOT", root)) }
		at := func(text string) string { return strings.ReplaceAll(text, "$ROOT", root) }
		path := c.path
		if path == "" {
			path = "v24.21.0"
		}
		argv, running := words(c.argv), []string(nil)
		if c.running != "" {
			running = []string{"node", at(entry), "gateway"}
		}
		f := gather(question{
			Home: root, Argv: argv, Environment: []string{"PATH=" + filepath.Join(root, path, "bin"), "HOME=" + root}, Directory: root, Script: at(c.script),
			Running: running, Program: at(c.running), Environ: words(c.environ),
		})
		if c.refused != "" {
			if !strings.Contains(f.Refused, at(c.refused)) {
				t.Errorf("%s: refused is %q, want %q", c.argv, f.Refused, at(c.refused))
			}
			continue
		}
		want := argv
		if c.command != "" {
			want = words(c.command)
		}
		if f.Refused != "" || !slices.Equal(f.Command, want) || f.Again != c.again {
			t.Errorf("%s, PATH with %s: %q, %q, refused %q; want %q, %q", c.argv, path, f.Command, f.Again, f.Refused, want, c.again)
		}
	}
}
