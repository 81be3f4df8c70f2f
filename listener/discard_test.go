package listener

import (
	"net"
	"testing"

	"openclaw-gateway/netaddr"

	"golang.org/x/sys/unix"
)

// TestDiscard: the launcher's own connection leaves the queue, unless a client
// waits there too, whom nothing may happen to. Nor is it discarded in silence when
// it is somebody else's after all.
func TestDiscard(t *testing.T) {
	socket, err := Bind(netaddr.MustParse("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.File.Close() })
	set := Set{socket}
	connect := func() netaddr.Address {
		t.Helper()
		conn, err := net.Dial("tcp", socket.Address.String())
		if err != nil {
			t.Fatal(err)
		}
		client := netaddr.Of(conn.LocalAddr())
		conn.Close()
		return client
	}
	queued := func(want int) {
		t.Helper()
		if got, err := set.Queued(); err != nil || got != want {
			t.Fatalf("%d connections in the queue, %v, want %d", got, err, want)
		}
	}
	discard := func(client netaddr.Address) {
		t.Helper()
		if err := set.Discard(socket.Address, client); err != nil {
			t.Fatal(err)
		}
	}
	own := connect()
	queued(1)
	discard(own)
	queued(0)
	discard(own)
	queued(0)

	own = connect()
	connect()
	discard(own)
	queued(2)
	for range 2 {
		conn, _, err := socket.Accept()
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(conn)
	}
	connect()
	if err := set.Discard(socket.Address, own); err == nil {
		t.Error("somebody else's connection: no error")
	}

	if err := set.Discard(netaddr.MustParse("127.0.0.1:1"), own); err == nil {
		t.Error("an address that nobody holds: no error")
	}
}
