package listener

import (
	"cmp"
	"net"
	"net/netip"
	"testing"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/sockopts"

	"golang.org/x/sys/unix"
)

// A holder may pass sockets that are nonblocking; a worker that was written for
// those must not find them blocking because the one before it was not.
func TestRestoreNonblocking(t *testing.T) {
	t.Parallel()
	address := netaddr.MustParse("127.0.0.1:0")
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

// TestRestoreOptions: what a worker has set on the shared socket is not the next one's. With TCP_DEFER_ACCEPT the kernel keeps a
// client back that waits to be spoken to, as those of SMTP and MySQL do.
func TestRestoreOptions(t *testing.T) {
	t.Parallel()
	socket, err := Bind(netaddr.MustParse("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.File.Close()
	var before sockopts.State
	err = socket.control(func(fd int) error {
		before = sockopts.Read(fd)
		return cmp.Or(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 60), unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0))
	})
	if err != nil {
		t.Fatal(err)
	}
	queue := func(how string, want int) {
		t.Helper()
		client, err := net.Dial("tcp", socket.Address.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() }) // which counts as having said something
		// Its last packet of the handshake has not left the machine, so the kernel has acted on it.
		if queued, _, err := socket.Queue(); err != nil || queued != want {
			t.Errorf("%s: %d clients wait to be accepted that have said nothing, want %d (%v)", how, queued, want, err)
		}
	}
	queue("set by a worker", 0)
	if err := socket.Restore(); err != nil {
		t.Fatal(err)
	}
	queue("restored", 1)
	err = socket.control(func(fd int) error {
		if changed := before.Apply(fd); changed > 0 {
			t.Errorf("%d options were not restored", changed)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAddressOf(t *testing.T) {
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
		{&unix.SockaddrUnix{Name: "/run/socket"}, "unix:/run/socket"},
	} {
		if got := addressOf(test.name); got.String() != test.want {
			t.Errorf("the address of %+v is %s, not %s", test.name, got, test.want)
		}
	}
}
