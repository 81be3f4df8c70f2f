package netaddr

import (
	"encoding/json"
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestAddress(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"127.0.0.1:18789", "[::1]:80", "0.0.0.0:1", "[fe80::1%lo]:65535", "unix:/run/app.sock", "unix:@abstract"} {
		address, err := Parse(text)
		if err != nil || address.String() != text || !address.IsValid() {
			t.Errorf("%s is read as %s, %v", text, address, err)
		}
		encoded, err := json.Marshal(address)
		if err != nil || string(encoded) != `"`+text+`"` {
			t.Errorf("%s is %s in JSON, %v", text, encoded, err)
		}
		var decoded Address
		if err := json.Unmarshal(encoded, &decoded); err != nil || decoded != address {
			t.Errorf("%s is read as %s, %v", encoded, decoded, err)
		}
	}
	for _, text := range []string{"", "127.0.0.1", "localhost:80", "[::1]:65536", "unix:", "/run/app.sock"} {
		if address, err := Parse(text); err == nil || address.IsValid() {
			t.Errorf("%q is read as %s", text, address)
		}
	}
}

func TestOf(t *testing.T) {
	t.Parallel()
	for _, want := range []Address{From(netip.IPv6Loopback(), 80), Unix("/run/app.sock")} {
		if got := Of(want.Net()); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got := Of(&net.IPAddr{}); got.IsValid() {
		t.Errorf("got %s of no server's address", got)
	}
}

func TestOverlap(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string // one that begins with * is dual-stack
		want bool
	}{
		{"127.0.0.1:1", "127.0.0.1:1", true},
		{"127.0.0.1:1", "127.0.0.1:2", false},
		{"127.0.0.1:1", "127.0.0.2:1", false},
		{"127.0.0.1:1", "0.0.0.0:1", true},
		{"127.0.0.1:1", "[::]:1", false},
		{"127.0.0.1:1", "*[::]:1", true},
		{"127.0.0.1:1", "*[::]:2", false},
		{"0.0.0.0:1", "[::]:1", false},
		{"0.0.0.0:1", "*[::]:1", true},
		{"0.0.0.0:1", "*[::1]:1", false}, // not a wildcard
		{"[::1]:1", "[::]:1", true},
		{"[::]:1", "*[::]:1", true},
		{"[fe80::1%2]:1", "[fe80::1%3]:1", false},
		{"unix:/run/a", "unix:/run/a", true},
		{"unix:/run/a", "unix:/run/b", false},
		{"unix:/run/a", "*[::]:0", false},
	} {
		a, aDual := strings.CutPrefix(test.a, "*")
		b, bDual := strings.CutPrefix(test.b, "*")
		one, other := MustParse(a), MustParse(b)
		if got := Overlap(one, aDual, other, bDual); got != test.want {
			t.Errorf("%s and %s: %t", test.a, test.b, got)
		}
		if got := Overlap(other, bDual, one, aDual); got != test.want {
			t.Errorf("%s and %s: %t", test.b, test.a, got)
		}
	}
}
