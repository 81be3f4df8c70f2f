package sockdiag

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"openclaw-gateway/netaddr"

	"golang.org/x/sys/unix"
)

// bound is how long a test waits for what has to happen.
const bound = 30 * time.Second

// watch begins to watch the connections to listeners.
func watch(t *testing.T, listeners ...*net.TCPListener) *Clients {
	t.Helper()
	var sockets []Socket
	for _, l := range listeners {
		sockets = append(sockets, Socket{Address: netaddr.Of(l.Addr()), Inode: inodeOf(t, l)})
	}
	c, err := WatchClients(sockets)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func accept(t *testing.T, l *net.TCPListener) *net.TCPConn {
	t.Helper()
	if err := l.SetDeadline(time.Now().Add(bound)); err != nil {
		t.Fatal(err)
	}
	conn, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func (c *Clients) want(t *testing.T, when string, want int) {
	t.Helper()
	if got, err := c.Connected(); err != nil || got != want {
		t.Errorf("%s: %d clients are connected, want %d (%v)", when, got, want, err)
	}
}

func (c *Clients) wantEnd(t *testing.T, when string) {
	t.Helper()
	if ended, err := c.Ended(time.Now().Add(bound)); err != nil || !ended {
		t.Errorf("%s: no connection has ended (%v)", when, err)
	}
}

// wantNoEnd is for what has happened for certain, and is known to be told at
// once; so it is asked for after something else that is told.
func (c *Clients) wantNoEnd(t *testing.T, when string) {
	t.Helper()
	if ended, err := c.Ended(time.Now().Add(-time.Second)); err != nil || ended {
		t.Errorf("%s: a connection has ended (%v)", when, err)
	}
}

func TestClients(t *testing.T) {
	for _, tc := range []struct{ name, network, bound, connect string }{
		{"IPv4", "tcp4", "127.0.0.1", "127.0.0.1"},
		{"IPv6", "tcp6", "::1", "::1"},
		{"IPv4 wildcard", "tcp4", "0.0.0.0", "127.0.0.1"},
		{"IPv6 wildcard", "tcp6", "::", "::1"},
		{"mapped", "tcp", "::", "127.0.0.1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, addr := listen(t, tc.network, net.JoinHostPort(tc.bound, "0"))
			to := netaddr.From(netip.MustParseAddr(tc.connect), addr.Port())
			c := watch(t, l)
			c.want(t, "nobody has come", 0)

			client := dial(t, to)
			c.want(t, "in the queue", 1)
			server := accept(t, l)
			c.want(t, "accepted", 1)
			c.wantNoEnd(t, "while it is connected")
			client.Close()
			c.want(t, "closed by the client, not by the server", 1)
			server.Close()
			c.wantEnd(t, "closed by both")
			c.want(t, "closed by both", 0)
			c.wantNoEnd(t, "told already")

			dial(t, to)
			accept(t, l).Close()
			c.wantEnd(t, "closed by the server, not by the client")
			c.want(t, "closed by the server, not by the client", 0)

			// A client that nobody can have seen in time.
			client = dial(t, to)
			if err := client.(*net.TCPConn).SetLinger(0); err != nil {
				t.Fatal(err)
			}
			client.Close()
			c.want(t, "reset in the queue", 0)
			accept(t, l).Close()
			c.wantEnd(t, "reset in the queue, then accepted")
		})
	}
}

// TestClientsOfOthers: what happens elsewhere wakes nobody.
func TestClientsOfOthers(t *testing.T) {
	mine, addr := listen(t, "tcp4", "127.0.0.1:0")
	other, otherAddr := listen(t, "tcp4", "127.0.0.1:0")
	// The same port of another address passes the filter in the kernel.
	neighbour, neighbourAddr := listen(t, "tcp4", netaddr.From(netip.MustParseAddr("127.0.0.2"), addr.Port()).String())
	c := watch(t, mine)
	all := watch(t, mine, other, neighbour)
	for _, to := range []struct {
		l    *net.TCPListener
		addr netaddr.Address
	}{{other, otherAddr}, {neighbour, neighbourAddr}} {
		client := dial(t, to.addr)
		server := accept(t, to.l)
		c.want(t, "a client of "+to.addr.String(), 0)
		all.want(t, "a client of "+to.addr.String(), 1)
		client.Close()
		server.Close()
		all.wantEnd(t, to.addr.String())
		c.wantNoEnd(t, to.addr.String())
	}
	dial(t, addr).Close()
	accept(t, mine).Close()
	c.wantEnd(t, "its own client")
}

// TestClientsIgnored: what the launcher has asked of its worker counts neither
// while the worker keeps its end, nor when it closes that.
func TestClientsIgnored(t *testing.T) {
	l, addr := listen(t, "tcp4", "127.0.0.1:0")
	probe, client := dial(t, addr), dial(t, addr)
	servers := map[string]*net.TCPConn{}
	for range 2 {
		conn := accept(t, l)
		servers[conn.RemoteAddr().String()] = conn
	}
	own := []netaddr.Address{
		netaddr.Of(probe.LocalAddr()),
		// A port that the launcher had, and somebody else has now.
		netaddr.Of(client.LocalAddr()),
	}
	c, all := watch(t, l), watch(t, l)
	probe.Close()
	if err := c.Ignore(own); err != nil {
		t.Fatal(err)
	}
	all.want(t, "both", 2)
	c.want(t, "both", 1)
	servers[own[0].String()].Close()
	all.wantEnd(t, "the probe")
	c.wantNoEnd(t, "the probe")
	c.want(t, "the probe is closed", 1)
	client.Close()
	servers[own[1].String()].Close()
	c.wantEnd(t, "the client")
	c.want(t, "the client is closed", 0)
}

// TestClientsMany: of more ends than the kernel keeps the last ones are lost,
// but not that there were some.
func TestClientsMany(t *testing.T) {
	l, addr := listen(t, "tcp4", "127.0.0.1:0")
	c := watch(t, l)
	err := c.raw.Control(func(fd uintptr) {
		if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		dial(t, addr).Close()
		accept(t, l).Close()
	}
	c.wantEnd(t, "many")
}

func TestClientsClosed(t *testing.T) {
	l, _ := listen(t, "tcp4", "127.0.0.1:0")
	c := watch(t, l)
	done := make(chan error, 1)
	go func() {
		_, err := c.Ended(time.Time{})
		done <- err
	}()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err == nil {
			t.Error("Ended returned without an error")
		}
	case <-time.After(bound):
		t.Error("Ended has not returned")
	}
}

// TestClientsOutOfSight: a socket of another network namespace has connections
// that nobody sees here; they must not be taken for none.
func TestClientsOutOfSight(t *testing.T) {
	l, addr := listen(t, "tcp4", "127.0.0.1:0")
	if c, err := WatchClients([]Socket{{Address: addr, Inode: inodeOf(t, l) + 1}}); err == nil {
		c.Close()
		t.Error("watching a socket that is not there succeeded")
	}
}
