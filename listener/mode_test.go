package listener

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// A holder may pass sockets that are nonblocking; a worker that was written for
// those must not find them blocking because the one before it was not.
func TestRestoreNonblocking(t *testing.T) {
	t.Parallel()
	address := netip.MustParseAddrPort("127.0.0.1:0")
	file, err := bind(address, false)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	set := func(nonblocking bool) {
		t.Helper()
		if err := (&Socket{File: file}).control(func(fd int) error { return unix.SetNonblock(fd, nonblocking) }); err != nil {
			t.Fatal(err)
		}
	}
	set(true)
	socket, err := newSocket(file)
	if err != nil {
		t.Fatal(err)
	}
	set(false)
	if err := socket.Restore(); err != nil {
		t.Fatal(err)
	}
	err = socket.control(func(fd int) error {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if flags&unix.O_NONBLOCK == 0 {
			t.Error("the socket is blocking")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAddrPort(t *testing.T) {
	t.Parallel()
	devices, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	device := devices[0]
	local := netip.MustParseAddr("fe80::1").As16()
	for _, test := range []struct {
		name unix.Sockaddr
		want string
	}{
		{&unix.SockaddrInet4{Port: 80, Addr: [4]byte{127, 0, 0, 1}}, "127.0.0.1:80"},
		{&unix.SockaddrInet6{Port: 80, Addr: netip.IPv6Loopback().As16()}, "[::1]:80"},
		{&unix.SockaddrInet6{Port: 80, Addr: local, ZoneId: uint32(device.Index)}, "[fe80::1%" + device.Name + "]:80"},
		{&unix.SockaddrInet6{Port: 80, Addr: local, ZoneId: 4_000_000}, "[fe80::1%4000000]:80"},
	} {
		if got, ip := addrPort(test.name); !ip || got.String() != test.want {
			t.Errorf("the address of %+v is %s, not %s", test.name, got, test.want)
		}
	}
	if got, ip := addrPort(&unix.SockaddrUnix{Name: "/run/socket"}); ip {
		t.Errorf("a path has the address %s", got)
	}
}
