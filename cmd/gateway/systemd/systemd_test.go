package systemd

import (
	"os"
	"testing"
)

// TestCommand: what is printed for a person to paste is one command, whatever a
// unit is called.
func TestCommand(t *testing.T) {
	t.Parallel()
	tests := []struct {
		manager Manager
		unit    string
		want    string
	}{
		{Manager{}, "openclaw.service", "systemctl stop openclaw.service"},
		{Manager{User: true, UID: os.Geteuid()}, "claw@1.service", "systemctl --user stop claw@1.service"},
		{Manager{User: true, UID: 4_000_000}, "a.service", "runuser -u 4000000 -- env XDG_RUNTIME_DIR=/run/user/4000000 systemctl --user stop a.service"},
		{Manager{}, `a\x2db.service`, `systemctl stop 'a\x2db.service'`},
		{Manager{}, "a;id>pwn;.service", "systemctl stop 'a;id>pwn;.service'"},
		{Manager{}, "a'b.service", `systemctl stop 'a'\''b.service'`},
	}
	for _, test := range tests {
		if got := test.manager.Command("stop", test.unit); got != test.want {
			t.Errorf("%s: %s, want %s", test.unit, got, test.want)
		}
	}
}
