package say

import (
	"strings"
	"testing"
)

func TestCommand(t *testing.T) {
	for _, tc := range []struct {
		argv []string
		want string
	}{
		{[]string{"node", "openclaw.mjs", "gateway", "--port", "18789"}, "node openclaw.mjs gateway --port 18789"},
		{[]string{"g", "--token", "hunter2", "--port", "1"}, "g --token *** --port 1"},
		{[]string{"g", "--token=hunter2", "-v"}, "g --token=*** -v"},
		{[]string{"g", "--token=two words"}, "g --token=***"},
		{[]string{"g", "--gateway-Password", "-hunter2"}, "g --gateway-Password ***"},
		{[]string{"g", "--client_secret", "hunter2"}, "g --client_secret ***"},
		{[]string{"g", "--apiKey", "hunter2", "x"}, "g --apiKey *** x"},
		{[]string{"g", "--reset-token", "--port", "1"}, "g --reset-token --port 1"},
		{[]string{"g", "--token"}, "g --token"},
		{[]string{"env", "OPENCLAW_GATEWAY_TOKEN=hunter2", "node"}, "env OPENCLAW_GATEWAY_TOKEN=*** node"},
		{[]string{"sh", "-c", "g --token hunter2 --port 1"}, `sh -c "g --token *** --port 1"`},
		{[]string{"sh", "-c", "g --token 'hunter 2' -v"}, `sh -c "g --token *** -v"`},
		{[]string{"g --password hunter2"}, `"g --password ***"`}, // a process that set its title
		{[]string{"g", "tokens", "list"}, "g tokens list"},
		{[]string{"g", "a\x1b[31mb\n", "", "\xff"}, `g "a\x1b[31mb\n" "" "\xff"`},
		{nil, "[comm]"},
		{[]string{"", ""}, "[comm]"},
	} {
		if got := Command("comm", tc.argv); got != tc.want {
			t.Errorf("%q:\n got %s\nwant %s", tc.argv, got, tc.want)
		}
	}
	if got, want := Command("comm", []string{strings.Repeat("ä", 300)}), strings.Repeat("ä", 200)+"…"; got != want {
		t.Errorf("a long one: got %q, want %q", got, want)
	}
}

// TestURL: neither a password nor a query is shown.
func TestURL(t *testing.T) {
	for target, want := range map[string]string{
		"/ready?token=x":                      "/ready",
		"https://alice:secret@host.example/p": "https://alice:xxxxx@host.example/p",
		"http://[::1]:80/":                    "http://[::1]:80/",
		"https://hush@host/p":                 "https://xxxxx@host/p",
		"http://no host/":                     "http://no host/",
		"http://u:hush@no host/%?k=hush":      "http://***@no host/%",
	} {
		if got := URL(target); got != want {
			t.Errorf("%q is shown as %q, want %q", target, got, want)
		}
	}
}
