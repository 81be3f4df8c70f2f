package systemd

import (
	"net/netip"
	"slices"
	"testing"
)

func TestListen(t *testing.T) {
	t.Parallel()
	want := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:18789"), netip.MustParseAddrPort("[::1]:18789")}
	for _, property := range []string{
		"127.0.0.1:18789 (Stream)\n[::1]:18789 (Stream)",
		"127.0.0.1:18789 (Stream) [::1]:18789 (Stream)",
		"0.0.0.0:53 (Datagram)\n127.0.0.1:18789 (Stream)\n/run/x y (Stream)\n[::1]:18789 (Stream)",
	} {
		if got := (Properties{"Listen": property}).Listen(); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", property, got, want)
		}
	}
	if got := (Properties{}).Listen(); len(got) > 0 {
		t.Errorf("no sockets: %v", got)
	}
}
