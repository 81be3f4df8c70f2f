package adopt

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/units/instance"
)

// TestMisplaced: what ours is to open is what is open, but for loopback addresses and ports of other things.
func TestMisplaced(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ planned, open, want string }{
		{"127.0.0.1:5 [::1]:5", "127.0.0.1:5 [::1]:5 127.0.0.1:7", ""},
		{"127.0.0.1:5 [::1]:5", "127.0.0.1:5", ""},
		{"0.0.0.0:5", "0.0.0.0:5", ""},
		{"0.0.0.0:5", "[::]:5", ""},
		{"100.64.0.7:5 127.0.0.1:5", "127.0.0.1:5 100.64.0.7:5", ""},
		{"127.0.0.1:5 [::1]:5", "127.0.0.1:9 [::1]:9 127.0.0.1:11", "--port 9"},
		{"127.0.0.1:5 [::1]:5", "127.0.0.1:43211 127.0.0.1:9", "--port 9"},
		{"127.0.0.1:5 [::1]:5", "127.0.0.1:43211", ""}, // on its way
		{"127.0.0.1:50000", "127.0.0.1:50000", ""},
		{"127.0.0.1:5 [::1]:5", "0.0.0.0:5", "--bind lan"},
		{"0.0.0.0:5", "127.0.0.1:5 [::1]:5 0.0.0.0:7", "--bind loopback"},
		{"0.0.0.0:5", "10.0.0.1:5 127.0.0.1:5", "--bind tailnet, or custom,"},
		{"127.0.0.1:5", "10.0.0.1:5 127.0.0.1:5", "--bind tailnet, or custom,"},
	} {
		addresses := func(text string) (all []netaddr.Address) {
			for _, word := range strings.Fields(text) {
				all = append(all, netaddr.MustParse(word))
			}
			return all
		}
		if got := misplaced(addresses(c.planned), addresses(c.open)); got != c.want {
			t.Errorf("%s planned, %s open: %q, want %q", c.planned, c.open, got, c.want)
		}
	}
}

// TestOurs: what systemd has made for the old unit is found where it makes it for ours.
func TestOurs(t *testing.T) {
	t.Parallel()
	d := derivation{
		c:    Candidate{Properties: systemd.Properties{"Id": "claw.service"}},
		p:    systemd.Properties{"StateDirectory": "bot\nbot/more"},
		plan: &Plan{Instance: instance.Default},
		env:  environment{own: []string{"TOKEN_FILE=/run/credentials/claw.service/token", "AT=/run/credentials/claw.service"}, names: []string{"TOKEN_FILE", "AT"}},
	}
	d.Command = []string{"node", "index.js", "gateway", "--password-file", "/run/credentials/claw.service/pw"}
	if err := d.ours(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"TOKEN_FILE=/run/credentials/openclaw-gateway.service/token", "AT=/run/credentials/openclaw-gateway.service", "STATE_DIRECTORY=/var/lib/bot:/var/lib/bot/more",
	}
	if !slices.Equal(d.env.own, want) || d.Command[4] != "/run/credentials/openclaw-gateway.service/pw" || len(d.env.names) != len(want) {
		t.Errorf("%q, %q, %q; want %q", d.env.own, d.env.names, d.Command, want)
	}
}

// TestOwnHome: a gateway of root's that has another home than root's is not moved, as its state is there, and root's may be another one's.
func TestOwnHome(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "a.env")
	if err := os.WriteFile(file, []byte("HOME=/root/agents/alex\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const refused = "has a home of its own (HOME=/root/agents/alex), and only what is in root's is copied for user openclaw (as user openclaw; `"
	me := os.Geteuid() // who reads the files
	for _, c := range []struct {
		variables, files, refused, want string
		of                              int
	}{
		{"HOME=/root/agents/alex", "", refused, "", me},
		{"", file, refused, "", me},
		{"HOME=/root\nOPENCLAW_HOME=/root/agents/alex\nOPENCLAW_STATE_DIR=/root/x", "", "", "OPENCLAW_HOME=/home/openclaw/agents/alex OPENCLAW_STATE_DIR=/home/openclaw/x", me},
		{"HOME=/root/agents/alex", "", "", "HOME=/root/agents/alex", me + 1}, // it stays who it is
	} {
		d := derivation{
			c: Candidate{Properties: systemd.Properties{"Id": "alex.service"}}, p: systemd.Properties{"Environment": c.variables, "EnvironmentFiles": c.files},
			was: account{UID: me + 1, Home: "/root"}, of: account{UID: c.of, Name: "openclaw", Home: "/home/openclaw"}, plan: &Plan{},
		}
		if c.of != me {
			d.of = d.was
		}
		err := d.variables(t.Context())
		if got := strings.Join(d.env.all, " "); c.refused == "" && (err != nil || got != c.want) {
			t.Errorf("%q: %q, %v; want %q", c.variables, got, err, c.want)
		}
		if c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)) {
			t.Errorf("%q, %q: %v, want %q", c.variables, c.files, err, c.refused)
		}
	}
}
