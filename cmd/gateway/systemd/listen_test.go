package systemd

import (
	"slices"
	"testing"

	"openclaw-gateway/netaddr"
)

func TestListen(t *testing.T) {
	t.Parallel()
	want := []netaddr.Address{netaddr.MustParse("127.0.0.1:18789"), netaddr.Unix(`/run/x é'"\ (Datagram)`), netaddr.MustParse("[::1]:18789")}
	property := structs("Listen", [][]any{
		{"Datagram", "0.0.0.0:53"},
		{"Stream", "127.0.0.1:18789"},
		{"Stream", `/run/x \303\251\'\"\\ (Datagram)`},
		{"Stream", "@abstract"},
		{"Datagram", "/run/z"},
		{"Stream", "[::1]:18789"},
		{"Stream", `forged\n0.0.0.0:80`},
	})
	if got := (Properties{"Listen": property}).Listen(); !slices.Equal(got, want) {
		t.Errorf("%q: %v, want %v", property, got, want)
	}
	if got := (Properties{}).Listen(); len(got) > 0 {
		t.Errorf("no sockets: %v", got)
	}
}
