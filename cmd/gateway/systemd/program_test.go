package systemd

import (
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/read"
)

func TestSecure(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		program string
		others  read.OthersError
		want    string
	}{
		{"/home/claw/gateway", read.OthersError{At: "/home/claw", UID: 1000}, "install -m 755 /home/claw/gateway /usr/local/bin/gateway"},
		{programPlace, read.OthersError{At: programPlace}, "chmod go-w /usr/local/bin/gateway"},
		{programPlace, read.OthersError{At: "/usr/local/bin"}, "chmod go-w /usr/local/bin"},
		{programPlace, read.OthersError{At: "/usr/local"}, "chmod go-w /usr/local /usr/local/bin"},
		{programPlace, read.OthersError{At: "/"}, "chmod go-w / /usr /usr/local /usr/local/bin"},
		{programPlace, read.OthersError{At: programPlace, UID: 1000}, "chown root: /usr/local/bin/gateway && chmod go-w /usr/local/bin/gateway"},
	} {
		commands, path := Secure(0, test.program, &test.others)
		if got := strings.Join(commands, " && "); got != test.want || path != programPlace {
			t.Errorf("%s at %s: %s, %s, want %s", test.program, test.others.At, got, path, test.want)
		}
	}
}
