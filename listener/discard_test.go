package listener

import (
	"net"
	"net/netip"
	"testing"
)

// TestDiscard: the launcher's own connections leave the queue, unless a client
// waits there too, whom nothing may happen to.
func TestDiscard(t *testing.T) {
	socket, err := Bind(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.File.Close() })
	set := Set{socket}
	connect := func() netip.AddrPort {
		t.Helper()
		conn, err := net.Dial("tcp", socket.Address.String())
		if err != nil {
			t.Fatal(err)
		}
		client := conn.LocalAddr().(*net.TCPAddr).AddrPort()
		conn.Close()
		return client
	}
	queued := func(want int) {
		t.Helper()
		if got, err := set.Queued(); err != nil || got != want {
			t.Fatalf("%d connections in the queue, %v, want %d", got, err, want)
		}
	}
	discard := func(clients ...netip.AddrPort) {
		t.Helper()
		if err := set.Discard(socket.Address, clients); err != nil {
			t.Fatal(err)
		}
	}
	own := []netip.AddrPort{connect(), connect()}
	queued(2)
	discard(own...)
	queued(0)

	own = []netip.AddrPort{connect()}
	client := connect()
	discard(own...)
	queued(2)
	discard(own[0], client)
	queued(0)

	if err := set.Discard(netip.MustParseAddrPort("127.0.0.1:1"), own); err == nil {
		t.Error("an address that nobody holds: no error")
	}
}
