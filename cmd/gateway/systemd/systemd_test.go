package systemd

import "testing"

// TestCommand: what is printed for a person to paste is one command, whatever a
// unit is called, and it is the unit's user's.
func TestCommand(t *testing.T) {
	t.Parallel()
	tests := []struct {
		manager Manager
		caller  int
		unit    string
		want    string
	}{
		{Manager{}, 0, "openclaw.service", "systemctl stop openclaw.service"},
		{Manager{}, 1000, "openclaw.service", "sudo systemctl stop openclaw.service"},
		{Manager{User: true}, 0, "claw@1.service", "systemctl --user stop claw@1.service"},
		{Manager{User: true, UID: 4_000_000}, 4_000_000, "claw@1.service", "systemctl --user stop claw@1.service"},
		{Manager{User: true, UID: 4_000_000}, 1000, "a.service", "sudo runuser --pty -u 4000000 -- env XDG_RUNTIME_DIR=/run/user/4000000 systemctl --user stop a.service"},
		{Manager{User: true, UID: 4_000_000}, 0, "a.service", "runuser --pty -u 4000000 -- env XDG_RUNTIME_DIR=/run/user/4000000 systemctl --user stop a.service"},
		{Manager{}, 0, `a\x2db.service`, `systemctl stop 'a\x2db.service'`},
		{Manager{}, 0, "a;id>pwn;.service", "systemctl stop 'a;id>pwn;.service'"},
		{Manager{}, 0, "a'b.service", `systemctl stop 'a'"'"'b.service'`},
	}
	for _, test := range tests {
		if got := test.manager.Command(test.caller, "stop", test.unit); got != test.want {
			t.Errorf("%s: %s, want %s", test.unit, got, test.want)
		}
	}
}
