package systemd

import (
	"slices"
	"testing"

	"openclaw-gateway/netaddr"
)

func TestListen(t *testing.T) {
	t.Parallel()
	want := []netaddr.Address{netaddr.MustParse("127.0.0.1:18789"), netaddr.MustParse("unix:/run/x y"), netaddr.MustParse("[::1]:18789")}
	for _, property := range []string{
		"127.0.0.1:18789 (Stream)\n/run/x y (Stream)\n[::1]:18789 (Stream)",
		"127.0.0.1:18789 (Stream) /run/x y (Stream) [::1]:18789 (Stream)",
		"0.0.0.0:53 (Datagram)\n127.0.0.1:18789 (Stream)\n/run/x y (Stream)\n@abstract (Stream)\n/run/z (Datagram)\n[::1]:18789 (Stream)",
	} {
		if got := (Properties{"Listen": property}).Listen(); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", property, got, want)
		}
	}
	if got := (Properties{}).Listen(); len(got) > 0 {
		t.Errorf("no sockets: %v", got)
	}
}
