package sockdiag

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"

	"openclaw-gateway/netaddr"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

func TestListening(t *testing.T) {
	type found struct {
		Address string
		Exact   bool
	}
	for _, tc := range []struct {
		name, network, bound, ask string // without the port
		want                      []found
	}{
		{"same address", "tcp4", "127.0.0.1", "127.0.0.1", []found{{"127.0.0.1", true}}},
		{"mapped for IPv4", "tcp4", "127.0.0.1", "::ffff:127.0.0.1", []found{{"127.0.0.1", true}}},
		{"other address", "tcp4", "127.0.0.1", "127.0.0.2", nil},
		{"specific for wildcard", "tcp4", "127.0.0.1", "0.0.0.0", []found{{"127.0.0.1", false}}},
		{"wildcard for specific", "tcp4", "0.0.0.0", "127.0.0.1", []found{{"0.0.0.0", false}}},
		{"wildcard for wildcard", "tcp4", "0.0.0.0", "0.0.0.0", []found{{"0.0.0.0", true}}},
		{"IPv4 for IPv6", "tcp4", "127.0.0.1", "::1", nil},
		{"IPv4 for the IPv6 wildcard", "tcp4", "127.0.0.1", "::", []found{{"127.0.0.1", false}}},
		{"IPv4 wildcard for specific IPv6", "tcp4", "0.0.0.0", "::1", nil},
		{"same IPv6", "tcp6", "::1", "::1", []found{{"::1", true}}},
		{"same IPv6 with a zone", "tcp6", "::1", "::1%lo", []found{{"::1", true}}},
		{"IPv6 for IPv4 of the same port", "tcp6", "::1", "127.0.0.1", nil},
		{"IPv6 for the IPv4 wildcard", "tcp6", "::1", "0.0.0.0", nil},
		{"v6only wildcard for specific IPv6", "tcp6", "::", "::1", []found{{"::", false}}},
		{"v6only wildcard for IPv4", "tcp6", "::", "127.0.0.1", nil},
		{"dual wildcard for IPv4", "tcp", "::", "127.0.0.1", []found{{"::", false}}},
		{"dual wildcard for the IPv4 wildcard", "tcp", "::", "0.0.0.0", []found{{"::", false}}},
		{"dual wildcard for IPv6", "tcp", "::", "::1", []found{{"::", false}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, addr := listen(t, tc.network, net.JoinHostPort(tc.bound, "0"))
			sockets, err := Listening(netaddr.From(netip.MustParseAddr(tc.ask), addr.Port()))
			if err != nil {
				t.Fatal(err)
			}
			// The same port of another address is free for anybody on this machine: only this test's own socket is looked at.
			var got []found
			for _, s := range slices.DeleteFunc(sockets, func(s Socket) bool { return s.Inode != inodeOf(t, l) }) {
				got = append(got, found{s.Address.Addr().String(), s.Exact})
				if s.UID != uint32(os.Geteuid()) || s.Address.Port() != addr.Port() {
					t.Errorf("got %+v, want a socket of this user on port %d", s, addr.Port())
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// An AF_INET6 socket that is bound to ::ffff:127.0.0.1, as Java makes them, is in the way on 127.0.0.1.
func TestListeningMappedSocket(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet6{Addr: netip.MustParseAddr("::ffff:127.0.0.1").As16()}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 7); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netaddr.From(netip.MustParseAddr("127.0.0.1"), uint16(name.(*unix.SockaddrInet6).Port))

	got, err := Listening(addr)
	if err != nil {
		t.Fatal(err)
	}
	want := []Socket{{Address: addr, Exact: true, UID: uint32(os.Geteuid()), Backlog: 7}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Socket{}, "Inode"), cmpopts.EquateComparable(netaddr.Address{})); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestListeningExactFirst(t *testing.T) {
	l6, addr := listen(t, "tcp6", "[::]:0")
	l4, _ := listen(t, "tcp4", netaddr.From(netip.IPv4Unspecified(), addr.Port()).String())
	got, err := Listening(addr)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Inode != inodeOf(t, l6) || !got[0].Exact || got[1].Inode != inodeOf(t, l4) || got[1].Exact {
		t.Errorf("got %+v, want [::] as exact and then 0.0.0.0", got)
	}
}

func TestListeningNobody(t *testing.T) {
	l, addr := listen(t, "tcp4", "127.0.0.1:0")
	l.Close()
	if got, err := Listening(addr); err != nil || len(got) > 0 {
		t.Errorf("got %v, %v after the listener was closed, want neither", got, err)
	}
	if _, err := Listening(netaddr.MustParse("127.0.0.1:0")); err == nil {
		t.Error("port 0: got no error")
	}
}

func TestQueueAndConnections(t *testing.T) {
	l, addr := listen(t, "tcp4", "127.0.0.1:0")
	const waiting, accepted = 3, 2
	for range waiting + accepted {
		dial(t, addr)
	}
	for range accepted {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}

	sockets, err := Listening(addr)
	if err != nil || len(sockets) != 1 {
		t.Fatalf("got %v, %v, want one socket", sockets, err)
	}
	if sockets[0].Queued != waiting || sockets[0].Backlog < waiting {
		t.Errorf("got %+v, want %d queued of a larger backlog", sockets[0], waiting)
	}
	for _, tc := range []struct {
		ip   string
		want int
	}{
		{"127.0.0.1", waiting + accepted},
		{"::ffff:127.0.0.1", waiting + accepted},
		{"0.0.0.0", waiting + accepted},
		{"127.0.0.2", 0},
		{"::1", 0},
		{"::", 0}, // none came through an IPv6 socket
	} {
		got, err := Connections(netaddr.From(netip.MustParseAddr(tc.ip), addr.Port()))
		if err != nil || got != tc.want {
			t.Errorf("connections on %s: got %d, %v, want %d", tc.ip, got, err, tc.want)
		}
	}
	// The client's own end has the server's port as its peer, not as its own. From an address that nobody else uses here:
	// the kernel gives one port to several clients whose servers differ.
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 20, 30, 40)}}
	conn, err := dialer.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	client := netaddr.Of(conn.LocalAddr())
	if got, err := Connections(client); err != nil || got != 1 {
		t.Errorf("connections on the client's %s: got %d, %v, want 1", client, got, err)
	}
}

func TestConnectionsOfDualWildcard(t *testing.T) {
	_, addr := listen(t, "tcp", "[::]:0")
	v4 := netaddr.From(netip.MustParseAddr("127.0.0.1"), addr.Port())
	v6 := netaddr.From(netip.MustParseAddr("::1"), addr.Port())
	dial(t, v4)
	dial(t, v4)
	dial(t, v6)
	for asked, want := range map[netaddr.Address]int{addr: 3, v4: 2, v6: 1} {
		if got, err := Connections(asked); err != nil || got != want {
			t.Errorf("connections on %s: got %d, %v, want %d", asked, got, err, want)
		}
	}
}

// What /proc/net/tcp tells is the same, but for the facts that it does not have.
func TestSourcesAgree(t *testing.T) {
	_, addr := listen(t, "tcp6", "[::]:0")
	listen(t, "tcp4", netaddr.From(netip.IPv4Unspecified(), addr.Port()).String())
	dial(t, netaddr.From(netip.MustParseAddr("127.0.0.1"), addr.Port()))
	dial(t, netaddr.From(netip.MustParseAddr("::1"), addr.Port()))
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		for _, state := range []uint32{tcpListen, tcpEstablished} {
			diag, err := sockDiag(family, 1<<state, addr.Port(), 0)
			if err != nil {
				t.Fatal(err)
			}
			file, err := netTCP(family, 1<<state, addr.Port())
			if err != nil {
				t.Fatal(err)
			}
			if len(diag) != 1 {
				t.Errorf("family %d, state %d: got %+v, want one socket", family, state, diag)
			}
			for i := range diag {
				if wantV6Only := family == unix.AF_INET6 && state == tcpListen; diag[i].v6only != wantV6Only {
					t.Errorf("family %d, state %d: got v6only %t", family, state, diag[i].v6only)
				}
				if diag[i].cookie == 0 {
					t.Errorf("family %d, state %d: got no cookie", family, state)
				}
				diag[i].v6only, diag[i].Backlog, diag[i].cookie = false, 0, 0
			}
			if diff := cmp.Diff(diag, file, cmp.AllowUnexported(entry{}), cmpopts.EquateComparable(netaddr.Address{})); diff != "" {
				t.Errorf("family %d, state %d: -sock_diag +/proc/net/tcp\n%s", family, state, diff)
			}
		}
	}
}
