package say

import (
	"strings"
	"testing"
)

// TestMasked: what is a secret in a command line is not shown; it says hush here.
func TestMasked(t *testing.T) {
	for _, argv := range [][]string{
		{"g", "--pass", "hush"},
		{"g", "-pass", "hush"},
		{"g", "--key=hush"},
		{"g", "--key", "hush"},
		{"g", "--auth", "hush"},
		{"g", "--auth=hush"},
		{"g", "--proxy-auth", "-hush"},
		{"g", "--token", "hush"},
		{"g", "--api-key", "hush"},
		{"g", "--privateKey", "hush"},
		{"g", "--AUTHKEY=hush"},
		{"g", "--pwd", "hush"},
		{"g", "--dbpass", "hush"},
		{"g", "--cookie", "hush=hush"},
		{"g", "--header=Authorization: Bearer hush"},
		{"curl", "-H", "Authorization: Bearer hush", "http://host/"},
		{"curl", "-H", "authorization:bearer hush"},
		{"curl", "-H", "Authorization: Basic aHVzaDpodXNo"},
		{"curl", "-H", "Authorization: token hush hush"},
		{"curl", "-H", "Proxy-Authorization: Digest username=\"hush\", response=\"hush\""},
		{"curl", "-H", "X-Api-Key: hush"},
		{"curl", "-H", "Cookie: session=hush; other=hush"},
		{"curl", "-H", "X-Auth-Token:hush"},
		{"curl", "-H", "Authorization:", "Bearer", "hush"},
		{"g", "Bearer", "hush"},
		{"g", "Bearer hush"},
		{"g", "--with", "Basic aHVzaDpodXNo"},
		{"sh", "-c", "curl -H 'Authorization: Bearer hush' http://host/ --pass 'hush hush' KEY=hush run"},
		{"sh", "-c", `curl -H "X-Api-Key: hush" --auth="hush hush" x`},
		{"curl -H Authorization: Bearer hush"}, // a process that set its title
		{"g", "https://user:hush@host/path"},
		{"g", "https://hush@host/path"},
		{"g", "nats://hush@host:4222"},
		{"g", "amqps://hush@host", "--broker=mqtt://hush@host"},
		{"g", "--proxy=http://user:hush@host:8080"},
		{"g", "postgres://user:hush@hush@host/db"},
		{"g", "postgres://user:hu/hush@host/db"},
		{"g", "redis://:hush@[::1]:6379/0"},
		{"g", "amqp+ssl://a:hush@h,b://c:hush@i"},
		{"g", "scheme://u:hush@host?x=http://v:hush@host"},
		{"g", "ssh://git:hush@host/"},
		{"g", "http://host/?access_token=hush&x=hush"},
		{"g", "http://host/?key=hush"},
		{"env", "GATEWAY_TOKEN=hush", "DB_PASS=hush hush", "API_KEY=hush", "PROXY_AUTH=hush", "MYSQL_PWD=hush", "APP_KEYS=", "x"},
		{"g", `{"apiKey":"hush","password": "hush"}`},
		{"g", "--password", "hush"},
		{"g", "--passphrase=hush hush"},
		{"g", "--client.secret", "hush"},
		{"curl", "-HCookie: hush", "-HX-Api-Key: hush"},
		{"curl", "--oauth2-bearer", "hush"},
		{"g", "--HTTPAuth", "hush"},
		{"g", "--wpa-psk=hush"},
		{"Incorrect API key provided: sk-hush0123456789abcdef, see"},
		{"sk-ant-api03-hush0123456789-abcdef_AA"},
		{"sk_live_hush0123456789abcdef", "sk-proj-hush0123456789abcdef"},
		{"ghp_hush0123456789abcdef01", "github_pat_hush0123456789abcdef", "glpat-hush0123456789abcdef"},
		{"xoxb-123-hush0123456789", "xapp-1-hush0123456789", "npm_hush0123456789abcdef0123456789ab"},
		{"AIzahush0123456789abcdef0123456789ab", "hf_hush0123456789abcdef0123456789ab"},
		{"GET https://api.telegram.org/bot1234567890:AAhush0123456789abcdef0123456789/getMe"},
		{"bot is 1234567890:AAhush0123456789abcdef0123456789"},
		{"eyJhbGciOiJIUzI1NiJ9.eyJodXNoIjoxfQ.hush"},
		{"g", "--passkey", "hush"},
		{"g", "Server=host;Password=hush;"},
		{"g", "Authorization=Bearer hush"},
		{"export API_KEYS=hush; g"},
		{"g", "https://user:" + strings.Repeat("hush", 5000) + "@host"},
		{"g", "--pass", strings.Repeat("hush", 5000)},
	} {
		if got := CommandLine(argv); strings.Contains(got, "hush") || !strings.Contains(got, hidden) {
			t.Errorf("%q is shown as %s", argv, got)
		}
	}
}

// TestNotMasked: what only looks like a secret is shown.
func TestNotMasked(t *testing.T) {
	for _, argv := range [][]string{
		{"g", "--keyring", "plain"},
		{"g", "--keyboard=plain"},
		{"g", "--passive", "plain"},
		{"g", "--pass-through", "plain"},
		{"g", "--passthrough", "plain"},
		{"g", "--bypass", "plain"},
		{"g", "--compass=plain"},
		{"g", "--keep-alive", "plain"},
		{"g", "--author", "plain"},
		{"g", "--authority=plain"},
		{"g", "--auth-mode", "plain"},
		{"g", "--no-auth", "plain"},
		{"g", "--key-file", "plain"},
		{"g", "--public-key", "plain"},
		{"g", "--max-tokens", "4096"},
		{"g", "sk-short", "risk-of-something-quite-long-here", "2026-01-02T03:04:05", "127.0.0.1:18789"},
		{"g", "--tokenizer=plain"},
		{"g", "--monkey", "plain"},
		{"g", "--keys", "plain"},
		{"g", "-p", "plain"},
		{"git", "clone", "ssh://git@host/repository"},
		{"git", "clone", "git@host:repository"},
		{"g", "git+ssh://git@host/repository", "sftp://plain@host/", "rsync://plain@host/module"},
		{"npm", "--registry", "http://localhost:4873/@scope/package"},
		{"curl", "http://host:8080/path", "https://[::1]:443/"},
		{"curl", "http://auth:8080/", "https://auth.example.com/key"},
		{"curl", "-H", "Accept: text/plain"},
		{"echo", "Basic training"},
		{"PWD=/plain", "OLDPWD=/plain", "HOME=/plain", "SSH_AUTH_SOCK=/plain", "XAUTHORITY=/plain", "KEYMAP=plain", "AUTHOR=plain"},
		{"sh", "-c", "sort-key plain --port 1"},
		{"docker", "run", "-v", "/a:/b:ro", "image:latest"},
	} {
		if got := CommandLine(argv); strings.Contains(got, hidden) {
			t.Errorf("%q is shown as %s", argv, got)
		}
	}
}

// TestIsSecret is of names alone, as doctor asks.
func TestIsSecret(t *testing.T) {
	for name, want := range map[string]bool{
		"OPENCLAW_GATEWAY_TOKEN": true, "api_key": true, "DB_PASSWORD": true, "HOME": false, "OPENCLAW_GATEWAY_PORT": false, "KEYBOARD": false,
		"DB_PASS": true, "PROXY_AUTH": true, "KEY": true, "PWD": false, "PATH": false, "SSH_AUTH_SOCK": false, "PUBLIC_KEY": false, "": false, "_": false,
	} {
		if got := IsSecret(name); got != want {
			t.Errorf("%s: %t, want %t", name, got, want)
		}
	}
}
