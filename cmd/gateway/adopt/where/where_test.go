package where

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/say"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestReadOwn reads OpenClaw's configuration wherever it is, and in each form that it may have.
func TestReadOwn(t *testing.T) {
	for _, c := range []struct {
		name              string
		files             map[string]string // below the home
		argv, environment string
		product           string
		want              Settings // paths below the home
		fails             string
	}{
		{name: "none", want: Settings{StateDir: ".openclaw", Path: ".openclaw/openclaw.json"}},
		{
			name:  "JSON5",
			files: map[string]string{".openclaw/openclaw.json": "\ufeff// mine\n{gateway: {port: 0x4965, /* all */ bind: 'lan', tls: {enabled: true,},},}\n"},
			want:  Settings{StateDir: ".openclaw", Path: ".openclaw/openclaw.json", Found: true, Port: 18789, Bind: "lan", TLS: true},
		},
		{
			name:  "includes",
			files: map[string]string{".openclaw/openclaw.json": `{"$include": ["./a.json", "sub/b.json5"], "gateway": {"$include": "g.json", "port": 3}}`, ".openclaw/a.json": `{"gateway": {"port": 1, "bind": "lan"}}`, ".openclaw/sub/b.json5": `{gateway: {bind: "custom"}}`, ".openclaw/g.json": `{"customBindHost": "10.0.0.1", "port": 9}`},
			want:  Settings{StateDir: ".openclaw", Path: ".openclaw/openclaw.json", Found: true, Port: 3, Bind: "custom", CustomHost: "10.0.0.1"},
		},
		{name: "an include that is not there", files: map[string]string{".openclaw/openclaw.json": `{"$include": "./gone.json"}`}, fails: "a file that it includes is not there: "},
		{
			name: "variables of its own",
			files: map[string]string{
				".openclaw/openclaw.json": `{env: {vars: {HOST: "10.0.0.1", BIND: "lan"}, OPENCLAW_GATEWAY_PORT: "5"}, gateway: {bind: "${BIND}", customBindHost: "${HOST}"}}`,
				".openclaw/.env":          "BIND=custom\n",
			},
			want: Settings{StateDir: ".openclaw", Path: ".openclaw/openclaw.json", Found: true, EnvPort: "5", Bind: "custom", CustomHost: "10.0.0.1"},
		},
		{
			name: "a second file of variables, behind the first",
			files: map[string]string{
				".openclaw/openclaw.json": `{gateway: {bind: "${BIND}", customBindHost: "${HOST}"}}`, ".openclaw/.env": "BIND=custom\n",
				".config/openclaw/gateway.env": "BIND=lan\nHOST=10.0.0.1\nOPENCLAW_GATEWAY_PORT=5\n",
			},
			want: Settings{StateDir: ".openclaw", Path: ".openclaw/openclaw.json", Found: true, EnvPort: "5", Bind: "custom", CustomHost: "10.0.0.1"},
		},
		{
			name: "none for a profile", argv: "node index.js --profile work gateway", files: map[string]string{".config/openclaw/gateway.env": "OPENCLAW_GATEWAY_PORT=5\n"},
			want: Settings{StateDir: ".openclaw-work", Path: ".openclaw-work/openclaw.json"},
		},
		{
			name: "the next name, where the one before still has it", product: "moltbot", files: map[string]string{".clawdbot/moltbot.json": `{"gateway": {"port": 6}}`},
			want: Settings{StateDir: ".clawdbot", Path: ".clawdbot/moltbot.json", Found: true, Port: 6},
		},
		{
			name: "the next name, of its own", product: "moltbot", files: map[string]string{".moltbot/moltbot.json": `{"gateway": {"port": 6}}`},
			want: Settings{StateDir: ".moltbot", Path: ".moltbot/moltbot.json", Found: true, Port: 6},
		},
		{name: "one that includes itself", files: map[string]string{".openclaw/openclaw.json": `{"$include": "./openclaw.json"}`}, fails: "include each other"},
		{name: "broken", files: map[string]string{".openclaw/openclaw.json": `{"gateway": {`}, fails: ".openclaw/openclaw.json is no JSON5"},
		{
			name: "a profile by its option", argv: "node index.js --profile work gateway", files: map[string]string{".openclaw-work/openclaw.json": `{gateway: {port: 5}}`},
			want: Settings{StateDir: ".openclaw-work", Path: ".openclaw-work/openclaw.json", Found: true, Port: 5},
		},
		{
			name: "variables", environment: "OPENCLAW_STATE_DIR=$HOME/state OPENCLAW_CONFIG_PATH=~/c.json BIND=tailnet", files: map[string]string{"c.json": `{gateway: {bind: "${BIND}", tailscale: {mode: "serve"}}}`},
			want: Settings{StateDir: "state", Path: "c.json", Found: true, Bind: "tailnet", Tailscale: "serve"},
		},
		{name: "a relative directory", environment: "OPENCLAW_STATE_DIR=state", fails: "give whole paths"},
		{
			name: "what it was called", product: "clawdbot", files: map[string]string{".clawdbot/clawdbot.json": `{gateway: {port: 6, bind: "loopback"}}`},
			want: Settings{StateDir: ".clawdbot", Path: ".clawdbot/clawdbot.json", Found: true, Port: 6, Bind: "loopback"},
		},
	} {
		home := t.TempDir()
		for path, content := range c.files {
			write(t, filepath.Join(home, path), content)
		}
		product := c.product
		if product == "" {
			product = "openclaw"
		}
		environment := strings.Fields(strings.ReplaceAll(c.environment, "$HOME", home))
		got, err := Read(strings.Fields(c.argv), environment, home, product)
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s: %v, want %q", c.name, err, c.fails)
			}
			continue
		}
		c.want.StateDir, c.want.Path = filepath.Join(home, c.want.StateDir), filepath.Join(home, c.want.Path)
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v\nwant %+v", c.name, got, err, c.want)
		}
	}
}

func TestPortOf(t *testing.T) {
	for _, c := range []struct {
		argv, environment string
		own               Settings
		product           string
		want              int
	}{
		{"", "", Settings{}, "openclaw", 18789},
		{"gateway --port 1 --port 2", "OPENCLAW_GATEWAY_PORT=3", Settings{Port: 4}, "openclaw", 2},
		{"gateway", "OPENCLAW_GATEWAY_PORT=3", Settings{Port: 4}, "openclaw", 3},
		{"gateway", "OPENCLAW_GATEWAY_PORT=127.0.0.1:3", Settings{Port: 4}, "openclaw", 3},
		{"gateway", "CLAWDBOT_GATEWAY_PORT=3", Settings{}, "clawdbot", 3},
		{"gateway", "OPENCLAW_GATEWAY_PORT=no", Settings{Port: 4}, "openclaw", 4},
		{"--profile work gateway", "", Settings{}, "openclaw", 41984},
		{"gateway", "OPENCLAW_PROFILE=work", Settings{Port: 7}, "openclaw", 7},
		{"--dev gateway", "", Settings{}, "openclaw", 19001},
		{"gateway --port none", "", Settings{}, "openclaw", 0},
	} {
		argv, environment := strings.Fields(c.argv), strings.Fields(c.environment)
		got, why, err := Port(argv, environment, c.own, c.product, Profile(argv, environment))
		if got != c.want || (err != nil) != (c.want == 0) {
			t.Errorf("%q with %q: %d (%s), %v; want %d", c.argv, c.environment, got, why, err, c.want)
		}
	}
}

func TestBind(t *testing.T) {
	tailnet := netip.MustParseAddr("100.64.0.7")
	for _, c := range []struct {
		said  string
		own   Settings
		here  Machine
		want  string // bind and addresses
		fails string
	}{
		{"", Settings{}, Machine{}, "loopback 127.0.0.1:5 and [::1]:5", ""},
		{"", Settings{}, Machine{Container: true}, "lan 0.0.0.0:5", ""},
		{"", Settings{Tailscale: "serve"}, Machine{Container: true}, "loopback 127.0.0.1:5 and [::1]:5", ""},
		{"", Settings{Bind: "auto"}, Machine{}, "loopback 127.0.0.1:5 and [::1]:5", ""},
		{"", Settings{Bind: "lan"}, Machine{}, "lan 0.0.0.0:5", ""},
		{"gateway --bind loopback", Settings{Bind: "lan"}, Machine{}, "loopback 127.0.0.1:5 and [::1]:5", ""},
		{"", Settings{Bind: "tailnet"}, Machine{Tailnet: tailnet}, "tailnet 100.64.0.7:5 and 127.0.0.1:5", ""},
		{"", Settings{Bind: "tailnet"}, Machine{}, "", "tailscale up"},
		{"", Settings{Bind: "custom", CustomHost: "10.0.0.1"}, Machine{}, "custom 10.0.0.1:5 and 127.0.0.1:5", ""},
		{"", Settings{Bind: "custom", CustomHost: "0.0.0.0"}, Machine{}, "custom 0.0.0.0:5", ""},
		{"", Settings{Bind: "custom", CustomHost: "127.0.0.1"}, Machine{}, "custom 127.0.0.1:5 and [::1]:5", ""},
		{"", Settings{Bind: "custom"}, Machine{}, "", "customBindHost"},
		{"", Settings{Bind: "everywhere"}, Machine{}, "", "does not know"},
	} {
		got, err := Bind(strings.Fields(c.said), c.own, 5, c.here)
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%q %+v: %v, want %q", c.said, c.own, err, c.fails)
			}
			continue
		}
		if text := got.Bind + " " + say.List(say.Texts(got.Listen)); err != nil || text != c.want {
			t.Errorf("%q %+v: %s (%s), %v; want %s", c.said, c.own, text, got.Why, err, c.want)
		}
	}
}
