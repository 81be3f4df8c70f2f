package sockdiag

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"openclaw-gateway/netaddr"

	"golang.org/x/sys/unix"
)

// TestBlocking: who has only bound an address keeps it as well as who listens there.
func TestBlocking(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netaddr.From(netip.MustParseAddr("127.0.0.1"), uint16(name.(*unix.SockaddrInet4).Port))
	if _, err := net.Listen("tcp4", addr.String()); err == nil {
		t.Fatalf("%s can be bound twice", addr)
	}
	want := 0
	if boundIsShown(t) {
		want = 1
	}
	check(t, Blocking, addr, want)
	check(t, Listening, addr, 0)
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	check(t, Blocking, addr, 1)
	check(t, Blocking, netaddr.From(netip.IPv4Unspecified(), addr.Port()), 1)
	check(t, Blocking, netaddr.From(netip.IPv6Unspecified(), addr.Port()), 0)
	// Connections do not keep it: systemd sets SO_REUSEADDR.
	conn := dial(t, addr)
	check(t, Blocking, netaddr.Of(conn.LocalAddr()), 0)
}

func check(t *testing.T, find func(netaddr.Address) ([]Socket, error), addr netaddr.Address, want int) {
	t.Helper()
	if found, err := find(addr); err != nil || len(found) != want {
		t.Errorf("%s is kept by %+v, %v; want %d sockets", addr, found, err, want)
	}
}

// boundIsShown reports whether the kernel is Linux 6.7 or later.
func boundIsShown(t *testing.T) bool {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major > 6 || major == 6 && minor >= 7
}
