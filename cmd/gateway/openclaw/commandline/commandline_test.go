package commandline

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/openclaw"
)

func TestGatewayAt(t *testing.T) {
	for line, want := range map[string]int{
		"/usr/bin/node /opt/openclaw/dist/index.js gateway --port 18789":                           0,
		"/usr/bin/node --max-old-space-size=4096 /opt/openclaw/dist/index.js gateway":              0,
		"/usr/bin/openclaw gateway run":                                                            0,
		"/home/a/.nvm/versions/node/v24.16.0/bin/clawdbot gateway --port 1":                        0,
		"/usr/bin/env node /opt/openclaw/openclaw.mjs --profile x gateway":                         1,
		"/usr/bin/nice -n 5 /usr/bin/node /opt/openclaw/dist/index.js gateway":                     3,
		"npx -y openclaw@latest gateway --port 1":                                                  2,
		"npm exec openclaw -- gateway":                                                             2,
		"/usr/bin/node /opt/openclaw/dist/index.js gateway status":                                 -1,
		"/usr/bin/openclaw gateway install":                                                        -1,
		"/usr/bin/openclaw doctor":                                                                 -1,
		"/usr/local/bin/gateway run --config /etc/openclaw-gateway/config.yaml":                    -1,
		"/usr/bin/tar czf /backup/openclaw.tgz /root/.openclaw":                                    -1,
		"/usr/bin/node /srv/shop/server.js gateway":                                                -1,
		"/usr/bin/systemd-inhibit --what=sleep /usr/bin/node /opt/moltbot/dist/entry.js gateway x": -1,
		"/usr/bin/systemd-inhibit --what=sleep /usr/bin/node /opt/moltbot/dist/entry.js gateway":   2,
	} {
		if got := GatewayAt(strings.Fields(line)); got != want {
			t.Errorf("%s: %d, want %d", line, got, want)
		}
	}
}

func TestReadScript(t *testing.T) {
	for _, c := range []struct {
		name, text string
		arguments  []string
		want       string // "" where it starts none
		passes     bool
	}{
		{"OpenClaw's install --wrapper", "#!/bin/sh\nexec node /opt/openclaw/dist/index.js \"$@\"\n", []string{"gateway", "--port", "7"}, "exec node /opt/openclaw/dist/index.js gateway --port 7", true},
		{
			"variables and a continued line", "#!/bin/bash\nset -e\nexport PORT=\"9000\"\nDIR=/opt/openclaw\nexec /usr/bin/node \\\n  \"$DIR/dist/index.js\" gateway run --port ${PORT} --bind ${BIND:-lan}\n", nil,
			"exec /usr/bin/node /opt/openclaw/dist/index.js gateway run --port 9000 --bind lan", false,
		},
		{"nvm", "#!/bin/bash\nsource ~/.nvm/nvm.sh\nnvm use 24 >/dev/null\nopenclaw gateway --port 18789 # the bot\n", nil, "openclaw gateway --port 18789", false},
		{"a comment alone", "#!/bin/sh\n# openclaw gateway\ntar c ~/.openclaw\n", nil, "", false},
		{"a client", "#!/bin/sh\nopenclaw gateway status || exit 1\n", nil, "", false},
		{"a variable for it alone", "export A B=2\nNODE_ENV=production openclaw gateway --port $B\n", nil, "NODE_ENV=production openclaw gateway --port 2", false},
		{"a set variable of the unit's", "exec openclaw gateway --port $P\n", nil, "exec openclaw gateway --port 5", false},
	} {
		got, ok := ReadScript(c.text, c.arguments, []string{"P=5"})
		if ok != (c.want != "") || strings.Join(got.Words, " ") != c.want || got.Passes != c.passes {
			t.Errorf("%s: %q, passes on %t, found %t; want %q", c.name, got.Words, got.Passes, ok, c.want)
		}
	}
}

// TestGateway: whatever a command goes through, the gateway's own words are found, and the variables that it gets on its way.
func TestGateway(t *testing.T) {
	t.Parallel()
	const claw = "/nowhere/node_modules/openclaw/dist/index.js"
	script := filepath.Join(t.TempDir(), "start.sh")
	text := "#!/bin/bash\nexport OPENCLAW_STATE_DIR=$HOME/bot\n[ -f ~/x ] && . ~/x\nOPENCLAW_GATEWAY_PORT=7 exec node " + claw + " \"$@\"\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		argv []string
		own  string // "" where it starts none
		set  string
	}{
		{[]string{"node", claw, "gateway"}, "node " + claw + " gateway", ""},
		{[]string{"nice", "-n", "5", "node", claw, "gateway", "--port", "1"}, "node " + claw + " gateway --port 1", ""},
		{[]string{"env", "OPENCLAW_STATE_DIR=/s", "--", "openclaw", "gateway"}, "openclaw gateway", "OPENCLAW_STATE_DIR=/s"},
		{[]string{"sh", "-c", "cd /x; export A=b; exec node " + claw + " --profile p gateway"}, "node " + claw + " --profile p gateway", "A=b"},
		{[]string{script, "gateway", "run"}, "node " + claw + " gateway run", "OPENCLAW_STATE_DIR=/home/u/bot OPENCLAW_GATEWAY_PORT=7"},
		{[]string{"/bin/bash", "-e", script, "gateway"}, "node " + claw + " gateway", "OPENCLAW_STATE_DIR=/home/u/bot OPENCLAW_GATEWAY_PORT=7"},
		{[]string{script, "gateway", "status"}, "", ""},
		{[]string{filepath.Base(script), "gateway"}, "", ""},
		{[]string{"node", "/nowhere/openclaw-tools/dist/index.js", "gateway"}, "", ""},
		{[]string{"nice", "nginx", "-c", "/etc/openclaw.conf"}, "", ""},
		{nil, "", ""},
	} {
		way, ok := Gateway(c.argv, []string{"HOME=/home/u"})
		if ok != (c.own != "") || strings.Join(way.Words, " ") != c.own || strings.Join(way.Set, " ") != c.set {
			t.Errorf("%q: %q with %q, %t; want %q with %q", c.argv, way.Words, way.Set, ok, c.own, c.set)
		}
	}
}

func TestWords(t *testing.T) {
	for line, want := range map[string][]string{
		`-/bin/sh -c "echo 'a;b' | tee /tmp/x"`:      {"-/bin/sh", "-c", "echo 'a;b' | tee /tmp/x"},
		`/bin/sh -c 'printf "%%s\n" # no comment'`:   {"/bin/sh", "-c", `printf "%%s\n" # no comment`},
		`"/opt/my bot/run" --name=\"x\" a\ b "" (c)`: {"/opt/my bot/run", `--name="x"`, "a b", "", "(c)"},
		"": nil,
	} {
		if got := Words(line); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

func TestExpand(t *testing.T) {
	environment := []string{"A=one two", "B=b", "EMPTY="}
	got := Expand([]string{"$A", "$A", "x${A}y", "$B-z", "$$HOME", "$EMPTY", "${EMPTY}", "$NONE"}, environment)
	want := []string{"$A", "one", "two", "xone twoy", "$B-z", "$HOME", ""}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestOfOneStart: what the unit says itself is known, and what is for a shell stays.
func TestOfOneStart(t *testing.T) {
	for word, want := range map[string]string{
		"${CREDENTIALS_DIRECTORY}/pw": "CREDENTIALS_DIRECTORY", "$SHELL": "SHELL", "$$STATE_DIRECTORY/x": "", "${NONE}": "", "${CACHE_DIRECTORY}/x": "",
		"export T=$(cat $CREDENTIALS_DIRECTORY/t)": "", "--log=$XDG_RUNTIME_DIR/x": "", "export T=$(cat ${CREDENTIALS_DIRECTORY}/t)": "CREDENTIALS_DIRECTORY",
	} {
		if got := OfOneStart([]string{"node", word}, []string{"CACHE_DIRECTORY=/x"}); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
}

func TestOptions(t *testing.T) {
	argv := strings.Fields("gateway --port 1 --verbose --port=2 --force --bind lan")
	if got := openclaw.Option(argv, "--port"); got != "2" {
		t.Errorf("the last --port is %q", got)
	}
	got := WithoutOption(WithoutOption(argv, "--port", true), "--force", false)
	if want := "gateway --verbose --bind lan"; strings.Join(got, " ") != want {
		t.Errorf("%q, want %q", got, want)
	}
}
