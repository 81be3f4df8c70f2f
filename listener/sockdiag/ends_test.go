package sockdiag

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/sockets"
)

// TestEnds: the end of a socket that keeps an address is told, also if it listens on another one that conflicts, and of no
// other, and no connection's.
func TestEnds(t *testing.T) {
	t.Parallel()
	for _, bound := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
		listener, address := sockets.Server(t, "tcp4", bound)
		port := address.Port()
		ends, err := WatchEnds(netaddr.From(netip.MustParseAddr("127.0.0.1"), port))
		if err != nil {
			t.Fatal(err)
		}
		defer ends.Close()
		client, err := net.Dial("tcp4", netaddr.From(netip.MustParseAddr("127.0.0.1"), port).String())
		if err != nil {
			t.Fatal(err)
		}
		accepted, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		client.Close()
		accepted.Close()
		other, _ := sockets.Server(t, "tcp4", "127.0.0.1:0")
		other.Close()
		if told, err := ends.Next(time.Now().Add(100 * time.Millisecond)); told || err != nil {
			t.Errorf("%s: told %t, %v, and its socket is open", bound, told, err)
		}
		listener.Close()
		if told, err := ends.Next(time.Now().Add(time.Minute)); !told || err != nil {
			t.Errorf("%s: told %t, %v when its socket has ended", bound, told, err)
		}
	}
}
