package launcher

import (
	"errors"
	"log/slog"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/listener"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/sockets"
)

// TestClosedAtOnce: an address that nobody claims any more refuses clients from that moment on, whoever still has its socket,
// as a poll(2) has that is under way.
func TestClosedAtOnce(t *testing.T) {
	h := newHeldSockets(nil, source{kind: api.FromItself}, slog.New(slog.DiscardHandler))
	address := sockets.Free(t)
	claimed, err := h.claim(1, wish{listen: []netaddr.Address{address}})
	if err != nil {
		t.Fatal(err)
	}
	err = listener.Control(claimed[0].File, func(fd int) error {
		another, err := unix.Dup(fd)
		t.Cleanup(func() { unix.Close(another) })
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	h.dropClaim(1)
	if conn, err := net.Dial("tcp", address.String()); !errors.Is(err, syscall.ECONNREFUSED) {
		if err == nil {
			conn.Close()
		}
		t.Errorf("a client of a closed address gets %v", err)
	}
}
