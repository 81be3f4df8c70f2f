package adopt

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/config"
)

// TestEnvironment goes from a unit's variables to the file, and reads that as the launcher does.
func TestEnvironment(t *testing.T) {
	inline := []string{"PATH=/usr/bin", `QUOTED=a "b" $c \d ` + "`e` 'f'", "LINES=one\nAbCd==\ntwo", "EMPTY=", "OPENCLAW_SERVICE_MARKER=openclaw", "OPENCLAW_GATEWAY_PORT=1", "LATER=unit", "NOTIFY_SOCKET=/x", "HASH=a#b ; c", "OUT=1", "KEPT=1", "BACK=1"}
	e := collect(inline, []envFile{
		{Path: "/etc/a.env", Entries: []string{"LATER=file", "A=1", "B=1"}},
		{Path: "-/root/b.env", Denied: true, Entries: []string{"SECRET=s", "B=2", "OPENCLAW_NO_RESPAWN=1"}},
		{Path: "/etc/c.env", Entries: []string{"SECRET=mine"}},
	}, []string{"OUT", "KEPT=2", "BACK"}, []string{"TZ=UTC", "BACK=2"})
	if want := "PATH QUOTED LINES EMPTY HASH KEPT LATER A SECRET TZ BACK"; strings.Join(e.names, " ") != want {
		t.Errorf("the names are %q, want %s", e.names, want)
	}
	if !slices.Equal(e.denied, []string{"-/root/b.env"}) || !slices.Equal(e.theirs, []string{"B"}) || !slices.Equal(e.unset, []string{"OPENCLAW_NO_RESPAWN"}) {
		t.Errorf("of the file that only root reads: %q, %q, %q", e.denied, e.theirs, e.unset)
	}
	path := filepath.Join(t.TempDir(), "environment")
	if err := os.WriteFile(path, environmentFile(e.own, "x.service"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, _, err := config.ReadEnvironmentFile(path)
	if err != nil || !slices.Equal(got, e.own) {
		t.Errorf("read again: %q, %v\nwant %q", got, err, e.own)
	}
	if !slices.Contains(got, "LINES=one\nAbCd==\ntwo") || !slices.Contains(got, "SECRET=mine") || !slices.Contains(got, "LATER=file") {
		t.Errorf("the variables are %q", got)
	}
}

// TestDropIns has a path go into a unit as systemd takes it for itself again.
func TestDropIns(t *testing.T) {
	d := derivation{c: Candidate{Properties: map[string]string{"Id": "claw.service"}}, plan: &Plan{}, env: environment{denied: []string{"-/etc/my bot/100%/*.env"}}}
	if err := d.dropIns(); err != nil || len(d.plan.Files) != 1 {
		t.Fatalf("%v, %d files", err, len(d.plan.Files))
	}
	if text := string(d.plan.Files[0].Content); !strings.Contains(text, "\nEnvironmentFile=-/etc/my bot/100%%/*.env\n") {
		t.Errorf("the drop-in is\n%s", text)
	}
}

func TestNameOf(t *testing.T) {
	for _, c := range []struct {
		unit, profile, want string
		known               bool
	}{
		{"openclaw-gateway.service", "", "default", true},
		{"claw.service", "", "default", true},
		{"openclaw-gateway-work.service", "", "work", true},
		{"clawdbot-gateway-work.service", "", "work", true},
		{"my.service", "My_Bot", "my-bot", true},
		{"openclaw-gateway-" + strings.Repeat("x", 40) + ".service", "", strings.Repeat("x", 40), false},
	} {
		got, known := nameOf(c.unit, c.profile)
		if got.String() != c.want || known != c.known {
			t.Errorf("%s, profile %q: %s %t", c.unit, c.profile, got, known)
		}
	}
}
