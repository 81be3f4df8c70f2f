package openclaw

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// FuzzInvocation: whatever a process makes its command line, a gateway is one that runs OpenClaw's entry file or its command
// with "gateway", or calls itself by the title; which file that is, is an argument as it stands there.
func FuzzInvocation(f *testing.F) {
	for _, line := range []string{
		"node /x/openclaw/dist/index.js gateway", "openclaw-gateway", "openclaw-gateway  ", "bun run openclaw.mjs gateway run", "node -r x -- /a/dist/entry.js --profile p gateway -x",
		"node --title openclaw-gateway dist/index.js gateway", "", " ", "node", "node --", "node -e x dist/index.js gateway", "-", "gateway gateway", "openclaw --profile",
		"openclaw --log-level gateway", "node run run run dist/index.js gateway \xff", "/dist/index.js gateway", "dist/index.js/ gateway",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		argv := strings.Split(line, " ")
		entry, ok := invocation(argv)
		_, _ = Starts(argv), Kills(argv[0], argv)
		switch {
		case !ok:
		case entry == "":
			if !isTitle(argv[0]) || strings.Join(argv[1:], "") != "" {
				t.Errorf("%q passes for a gateway by its title", argv)
			}
		default:
			at := slices.Index(argv, entry)
			if at < 0 || !isEntry(entry) || !slices.Contains(argv[at+1:], "gateway") {
				t.Errorf("%q passes for a gateway by %q", argv, entry)
			}
			if program := filepath.Base(argv[0]); at > 0 && !runtime().MatchString(program) {
				t.Errorf("%q passes for a gateway, and %q runs no JavaScript", argv, program)
			}
		}
		// One that has ended: what cannot be looked at is gone by its path alone.
		if IsGateway(1<<30, argv) && !ok {
			t.Errorf("%q is a gateway only when it is asked about a process", argv)
		}
	})
}

func TestInvocation(t *testing.T) {
	t.Parallel()
	const entry = "/home/claw/.npm-global/lib/node_modules/openclaw/dist/index.js"
	gateways := []string{
		"node " + entry + " gateway --port 18789", // the incident's
		"/usr/bin/node --max-old-space-size=2048 " + entry + " gateway",
		"/opt/node-v24/bin/node -r /x/hook.cjs " + entry + " gateway run",
		"node22 " + entry + " --profile work gateway --bind loopback",
		"/usr/bin/nodejs " + entry + " --dev gateway",
		"/home/claw/.bun/bin/bun run /opt/openclaw/openclaw.mjs gateway",
		"openclaw gateway",
		"/usr/local/bin/openclaw gateway run --force",
		"node /usr/local/bin/openclaw gateway --port 18789",
		"openclaw-gateway",
		"node dist/index.js gateway", // whose it is says the package
		entry + " gateway",
		"node /usr/lib/node_modules/clawdbot/dist/entry.js gateway --port 18789", // OpenClaw's former names
		"moltbot gateway",
		"/usr/bin/clawdbot gateway run",
		"node /opt/moltbot/moltbot.mjs gateway",
		"clawdbot-gateway",
	}
	others := []string{
		"node " + entry + " gateway status",
		"node " + entry + " agent --message gateway",
		"node " + entry,
		"node -e require('" + entry + "') gateway",
		"node /srv/other/server.js gateway " + entry,
		"openclaw",
		"openclaw tui",
		"python3 /home/claw/openclaw.py gateway",
		"tail -f /tmp/openclaw/openclaw-gateway.log",
		"sh -c node " + entry + " gateway",
		"ssh -N -L 18789:localhost:18789 openclaw gateway",
		"/usr/local/bin/gateway run --config /etc/openclaw-gateway/config.yaml",
		"/usr/local/bin/gateway gateway --port 18789",
		"vim dist/index.js gateway",
		"node --title openclaw-gateway /srv/dist/index.mjs gateway",
		"clawdbot-gateway status",
		"moltbot status",
		"node /opt/moltbot.mjs.d/x.js gateway",
		"nodemon " + entry + " gateway",
	}
	for _, line := range slices.Concat(gateways, others) {
		if _, got := invocation(strings.Fields(line)); got != slices.Contains(gateways, line) {
			t.Errorf("%s: %t", line, got)
		}
	}
	// What process.title leaves of a longer argv.
	if _, got := invocation([]string{"openclaw-gateway", "", "", ""}); !got {
		t.Error("openclaw-gateway, overwritten: false")
	}
	if _, got := invocation([]string{"openclaw", "gateway", "", "", ""}); !got {
		t.Error("openclaw gateway, padded: false")
	}
	if _, got := invocation(nil); got {
		t.Error("no argv: true")
	}
}

// TestIsGateway: whose a file named dist/index.js is, its package says.
func TestIsGateway(t *testing.T) {
	folder := t.TempDir()
	write := func(path, content string) string {
		path = filepath.Join(folder, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("checkout/package.json", `{"name": "openclaw", "version": "2026.9.6", "engines": {"node": ">=24"}}`)
	write("other/package.json", `{"name": "other"}`)
	write("openclaw/package.json", `{"name": "openclaw-fork-of-something-else"}`)
	write("broken/package.json", `{`)
	write("before/package.json", `{"name": "clawdbot", "version": "2026.1.24"}`)
	link := filepath.Join(folder, "openclaw-link")
	if err := os.Mkdir(link, 0o755); err != nil {
		t.Fatal(err)
	}
	link = filepath.Join(link, "openclaw")
	if err := os.Symlink(write("checkout/openclaw.mjs", ""), link); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(folder, "checkout"))
	for entry, want := range map[string]bool{
		write("checkout/dist/index.js", ""):                  true,
		write("other/dist/index.js", ""):                     false,
		write("openclaw/dist/index.js", ""):                  false,
		write("broken/dist/index.js", ""):                    false,
		write("before/dist/entry.js", ""):                    true,
		"/nowhere/node_modules/moltbot/dist/index.js":        true,
		"/nowhere/node_modules/openclaw/dist/index.js":       true, // of an update that has replaced it
		"/nowhere/node_modules/openclaw-tools/dist/index.js": false,
		"/nowhere/dist/index.js":                             false,
		"dist/index.js":                                      true,
		link:                                                 true,
	} {
		if got := IsGateway(os.Getpid(), []string{"node", entry, "gateway"}); got != want {
			t.Errorf("%s: %t, want %t", entry, got, want)
		}
	}
	// Only PM2 writes so over an argv, and this test is no child of its.
	if titled := []string{"node /nowhere/openclaw/dist/index.js", "", ""}; IsGateway(os.Getpid(), titled) || !Named(titled) || Named([]string{"node /x/app.js", ""}) || Named([]string{titled[0], "x"}) {
		t.Error("what PM2 has written over an argv")
	}
	if !PM2([]string{"PM2 v7.0.4: God Daemon (/root/.pm2)", ""}) || PM2([]string{"node"}) || PM2(nil) {
		t.Error("what PM2 has written over its own argv")
	}
	if IsGateway(os.Getpid(), []string{"sleep", "1"}) {
		t.Error("sleep is a gateway")
	}

	pkg, err := ReadPackage(filepath.Join(folder, "checkout/dist/index.js"))
	if err != nil || pkg.Version != "2026.9.6" || pkg.Engines.Node != ">=24" {
		t.Errorf("the package is %+v, %v", pkg, err)
	}
}

// TestInstalled: what lies there is what a link leads to now.
func TestInstalled(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for name, content := range map[string]string{
		"1/openclaw/package.json": `{"name": "openclaw", "version": "2026.8.4"}`, "2/openclaw/package.json": `{"name": "openclaw", "version": "2026.9.6"}`,
		"3/openclaw/package.json": `{"name": "other", "version": "1.0.0"}`,
	} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Join(filepath.Dir(path), "dist"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{path, filepath.Join(filepath.Dir(path), "dist/index.js")} {
			if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	link := filepath.Join(folder, "openclaw")
	for target, want := range map[string]string{"1": "2026.8.4", "2": "2026.9.6", "3": "", "4": ""} {
		if err := os.Symlink(target+"/openclaw", link); err != nil {
			t.Fatal(err)
		}
		if got := Installed(link + "/dist/index.js"); got != want {
			t.Errorf("through a link to %s: %q, want %q", target, got, want)
		}
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
	}
	if got := Installed("dist/index.js"); got != "" {
		t.Errorf("of a path that is not absolute: %q", got)
	}
}

// TestKills: the rules are OpenClaw's own, as Kills says.
func TestKills(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		"/usr/local/bin/gateway run --config /etc/openclaw-gateway/config.yaml":   false,
		"/usr/local/bin/gateway gateway --port 18789":                             false, // as OpenClaw's wrapper
		"/opt/openclaw/bin/gateway run":                                           false,
		"/opt/openclaw-launcher run":                                              true,
		"/opt/OpenClaw run":                                                       true,
		"/usr/local/bin/gateway gateway /opt/node_modules/openclaw/dist/index.js": true,
		"openclaw-gateway":                                                        true,
	} {
		argv := strings.Fields(line)
		if got := Kills(filepath.Base(argv[0]), argv); got != want {
			t.Errorf("%s: %t, want %t", line, got, want)
		}
	}
	if Kills("gateway", nil) || !Kills("openclaw", nil) {
		t.Error("without argv the name decides")
	}
}

// TestStarts: a unit's command line, with no process to look at.
func TestStarts(t *testing.T) {
	t.Parallel()
	if !Starts([]string{"/usr/bin/node", "/nowhere/node_modules/openclaw/dist/index.js", "gateway"}) {
		t.Error("OpenClaw's entry file: false")
	}
	if !Marked([]string{"A=1", "CLAWDBOT_SERVICE_MARKER=clawdbot"}) || Marked([]string{"CLAWDBOT_SERVICE_MARKER=other"}) {
		t.Error("the mark of a unit by a former name")
	}
	if port, _ := PortOf(nil, []string{"MOLTBOT_GATEWAY_PORT=1"}); port != 1 {
		t.Error("the port of an environment by a former name")
	}
	if Starts([]string{"/usr/bin/node", "/nowhere/dist/index.js", "gateway"}) || Starts(nil) {
		t.Error("anybody's entry file: true")
	}
}

func TestPerhaps(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"[Service]\nExecStart=/usr/bin/node /opt/node_modules/openclaw/dist/index.js gateway\n": true,
		"[Service]\nExecStart=node dist/index.js gateway --port 1\n":                            true,
		"[Service]\nEnvironment=OPENCLAW_SERVICE_MARKER=openclaw\n":                             true,
		"[Unit]\nDescription=Some API gateway\n[Service]\nExecStart=/usr/bin/api\n":             false,
	} {
		if got := perhaps([]byte(text)); got != want {
			t.Errorf("%q: %t, want %t", text, got, want)
		}
	}
}
