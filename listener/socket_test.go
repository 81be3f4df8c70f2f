package listener_test

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/listener"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/sockets"
)

// bound is how long a test waits for an event that must come.
const bound = 20 * time.Second

// listen binds a host at a port that was free.
func listen(t *testing.T, host string) *listener.Socket {
	t.Helper()
	socket := sockets.AtFreePort(t, host, listener.Bind)
	t.Cleanup(func() { _ = socket.File.Close() })
	return socket
}

func option(t *testing.T, file *os.File, level, name int) (value int) {
	t.Helper()
	sockets.Control(t, file, func(fd int) (err error) {
		value, err = unix.GetsockoptInt(fd, level, name)
		return err
	})
	return value
}

func pipe(t *testing.T) *os.File {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = reader.Close(), writer.Close() })
	return reader
}

// dial connects and returns when the client is in the queue, which is later
// than connect(2) says: the last packet of the handshake may be on its way.
func dial(t *testing.T, socket *listener.Socket) net.Conn {
	t.Helper()
	queue, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(queue)
	sockets.Control(t, socket.File, func(fd int) error {
		return unix.EpollCtl(queue, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET})
	})
	events := make([]unix.EpollEvent, 1)
	// What is there already is told once; from then on each new client is.
	if _, err := unix.EpollWait(queue, events, 0); err != nil {
		t.Fatal(err)
	}
	conn := sockets.Dial(t, socket.Address)
	for deadline := time.Now().Add(bound); ; {
		told, err := unix.EpollWait(queue, events, int(time.Until(deadline).Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			t.Fatal(err)
		case told == 0:
			t.Fatalf("the client was not queued within %s", bound)
		}
		return conn
	}
}

// answer accepts one client, as a worker would, and answers it.
func answer(t *testing.T, socket *listener.Socket, client net.Conn) {
	t.Helper()
	sockets.Control(t, socket.File, func(fd int) error {
		accepted, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		if err != nil {
			return err
		}
		_, err = unix.Write(accepted, []byte("answered"))
		return errors.Join(err, unix.Close(accepted))
	})
	if err := client.SetDeadline(time.Now().Add(bound)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(client)
	if err != nil || string(got) != "answered" {
		t.Fatalf("the client got %q, %v", got, err)
	}
}

func queue(t *testing.T, socket *listener.Socket) (queued, backlog int) {
	t.Helper()
	queued, backlog, err := socket.Queue()
	if err != nil {
		t.Fatal(err)
	}
	return queued, backlog
}

// fullBacklog is what the kernel makes of the backlog that is asked for.
func fullBacklog(t *testing.T) int {
	t.Helper()
	return min(somaxconn(t), listener.Backlog)
}

func somaxconn(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/net/core/somaxconn")
	if err != nil {
		t.Fatal(err)
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return limit
}

func shutdown(t *testing.T, socket *listener.Socket) {
	t.Helper()
	sockets.Control(t, socket.File, func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RDWR) })
	if conn, err := net.Dial("tcp", socket.Address.String()); !errors.Is(err, unix.ECONNREFUSED) {
		_ = conn.Close()
		t.Fatalf("the shut down socket does not refuse clients: %v", err)
	}
}

func TestBind(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "::1", "0.0.0.0", "::"} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			socket := listen(t, host)
			if socket.Address.Addr().String() != host || socket.Address.Port() == 0 {
				t.Errorf("the address is %s", socket.Address)
			}
			if got := sockets.Inode(t, socket.File); got != socket.Inode {
				t.Errorf("the inode is %d, not %d", socket.Inode, got)
			}
			if !sockets.Blocking(t, socket.File) {
				t.Error("the socket is nonblocking")
			}
			if option(t, socket.File, unix.SOL_SOCKET, unix.SO_REUSEADDR) == 0 {
				t.Error("SO_REUSEADDR is not set")
			}
			if option(t, socket.File, unix.SOL_SOCKET, unix.SO_REUSEPORT) != 0 {
				t.Error("SO_REUSEPORT is set")
			}
			if strings.Contains(host, ":") && option(t, socket.File, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY) == 0 {
				t.Error("IPV6_V6ONLY is not set")
			}
			flags := 0
			sockets.Control(t, socket.File, func(fd int) (err error) {
				flags, err = unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
				return err
			})
			if flags&unix.FD_CLOEXEC == 0 {
				t.Error("children inherit the socket")
			}
			if queued, backlog := queue(t, socket); queued != 0 || backlog != fullBacklog(t) {
				t.Errorf("the queue has %d of %d clients, not 0 of %d", queued, backlog, fullBacklog(t))
			}
		})
	}
}

func TestBindBothWildcards(t *testing.T) {
	t.Parallel()
	for range 100 {
		six := listen(t, "::")
		four, err := listener.Bind(netaddr.From(netip.IPv4Unspecified(), six.Address.Port()))
		if errors.Is(err, unix.EADDRINUSE) {
			continue // by somebody else; a socket for both families would always
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = four.File.Close()
		return
	}
	t.Fatal("0.0.0.0 cannot be bound beside [::]")
}

func TestBindAgainWithOpenConnections(t *testing.T) {
	t.Parallel()
	socket := listen(t, "127.0.0.1")
	client := dial(t, socket)
	// The end that closes first waits in TIME_WAIT, here the server's.
	answer(t, socket, client)
	if err := socket.File.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := listener.Bind(socket.Address)
	if err != nil {
		t.Fatal(err)
	}
	_ = again.File.Close()
}

func TestBindInUse(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "::1"} {
		socket := listen(t, host)
		got, err := listener.Bind(socket.Address)
		if got != nil || !errors.Is(err, unix.EADDRINUSE) || listener.Absent(err) {
			t.Errorf("bound %s twice: %v", socket.Address, err)
			continue
		}
		if want := "listen on " + socket.Address.String() + ": bind: address already in use"; err.Error() != want {
			t.Errorf("the error is %q, not %q", err, want)
		}
	}
}

// Not parallel: it counts what the whole process has.
func TestBindLeaksNothing(t *testing.T) {
	socket := listen(t, "127.0.0.1")
	// The collector would close what was forgotten, some time.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	descriptors := openDescriptors(t)
	for range 100 {
		if _, err := listener.Bind(socket.Address); !errors.Is(err, unix.EADDRINUSE) {
			t.Fatal(err)
		}
	}
	if got := openDescriptors(t); got != descriptors {
		t.Errorf("%d descriptors are open, not %d", got, descriptors)
	}
}

func TestBindAbsent(t *testing.T) {
	t.Parallel()
	// Addresses for documentation: RFC 5737 and RFC 3849.
	for _, address := range []string{"198.51.100.77:18789", "[2001:db8::77]:18789"} {
		got, err := listener.Bind(netaddr.MustParse(address))
		if got != nil || !listener.Absent(err) {
			t.Errorf("%s is not absent: %v", address, err)
			continue
		}
		if !strings.Contains(err.Error(), address) {
			t.Errorf("the error does not name %s: %v", address, err)
		}
	}
	if listener.Absent(nil) {
		t.Error("no error says that an address is absent")
	}
	if _, err := listener.Bind(netaddr.MustParse("[fe80::1%missing]:1")); err == nil || !strings.Contains(err.Error(), `"missing"`) {
		t.Errorf("the error does not name the missing interface: %v", err)
	}
}

// A link-local address has a zone, without which it would not equal the one in
// the configuration.
func TestBindLinkLocal(t *testing.T) {
	t.Parallel()
	devices, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, device := range devices {
		addresses, err := device.Addrs()
		if err != nil {
			t.Fatal(err)
		}
		for _, address := range addresses {
			prefix, err := netip.ParsePrefix(address.String())
			if err != nil {
				t.Fatal(err)
			}
			if prefix.Addr().Is6() && prefix.Addr().IsLinkLocalUnicast() {
				want := prefix.Addr().WithZone(device.Name)
				if got := listen(t, want.String()).Address.Addr(); got != want {
					t.Errorf("%s has become %s", want, got)
				}
			}
		}
	}
}

func TestQueue(t *testing.T) {
	t.Parallel()
	socket := listen(t, "127.0.0.1")
	six := listen(t, "::1")
	var clients []net.Conn
	for want := range 4 {
		if queued, backlog := queue(t, socket); queued != want || backlog != fullBacklog(t) {
			t.Errorf("the queue has %d of %d clients, not %d", queued, backlog, want)
		}
		clients = append(clients, dial(t, socket))
	}
	clients = append(clients, dial(t, six))
	if queued, err := (listener.Set{socket, six}).Queued(); err != nil || queued != len(clients) {
		t.Errorf("the queues have %d clients, not %d: %v", queued, len(clients), err)
	}
	answer(t, socket, clients[0])
	if queued, _ := queue(t, socket); queued != 3 {
		t.Errorf("the queue has %d clients, not 3", queued)
	}
}

func TestRestoreMode(t *testing.T) {
	t.Parallel()
	socket := listen(t, "127.0.0.1")
	// What a worker in Go does.
	taken, err := net.FileListener(socket.File)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if sockets.Blocking(t, socket.File) {
		t.Fatal("net.FileListener has left the socket blocking, so this test shows nothing")
	}
	if err := (listener.Set{socket}).Restore(); err != nil {
		t.Fatal(err)
	}
	if !sockets.Blocking(t, socket.File) {
		t.Error("the socket is still nonblocking")
	}
}

func TestRestoreBacklog(t *testing.T) {
	t.Parallel()
	for name, restore := range map[string]func(listener.Set) error{"Restore": listener.Set.Restore, "Listen": listener.Set.Listen} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket := listen(t, "127.0.0.1")
			clients := []net.Conn{dial(t, socket), dial(t, socket)}
			sockets.Control(t, socket.File, func(fd int) error { return unix.Listen(fd, 11) })
			if _, backlog := queue(t, socket); backlog != 11 {
				t.Fatalf("the backlog is %d, not 11", backlog)
			}
			if err := restore(listener.Set{socket}); err != nil {
				t.Fatal(err)
			}
			if queued, backlog := queue(t, socket); queued != 2 || backlog != fullBacklog(t) {
				t.Errorf("the queue has %d of %d clients, not 2 of %d", queued, backlog, fullBacklog(t))
			}
			for _, client := range clients {
				answer(t, socket, client)
			}
		})
	}
}

func TestRestoreAfterShutdown(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			socket := listen(t, host)
			shutdown(t, socket)
			if err := (listener.Set{socket}).Restore(); err != nil {
				t.Fatal(err)
			}
			answer(t, socket, dial(t, socket))
			if got := sockets.Inode(t, socket.File); got != socket.Inode {
				t.Errorf("the inode is %d, not %d", got, socket.Inode)
			}
			if _, backlog := queue(t, socket); backlog != fullBacklog(t) {
				t.Errorf("the backlog is %d", backlog)
			}
		})
	}
}

func TestClosedSocketIsNamed(t *testing.T) {
	t.Parallel()
	socket, other := listen(t, "127.0.0.1"), listen(t, "::1")
	sockets.Control(t, other.File, func(fd int) error { return unix.Listen(fd, 11) })
	if err := socket.File.Close(); err != nil {
		t.Fatal(err)
	}
	set := listener.Set{socket, other}
	_, queued := set.Queued()
	for name, err := range map[string]error{
		"Restore": set.Restore(), "Listen": set.Listen(), "Queued": queued, "AwaitClient": set.AwaitClient(t.Context()),
	} {
		if err == nil || !strings.Contains(err.Error(), socket.Address.String()) {
			t.Errorf("%s: the error does not name %s: %v", name, socket.Address, err)
		}
	}
	if _, backlog := queue(t, other); backlog != fullBacklog(t) {
		t.Error("the other socket was not restored")
	}
}

func awaiting(ctx context.Context, set listener.Set) <-chan error {
	done := make(chan error, 1)
	go func() { done <- set.AwaitClient(ctx) }()
	return done
}

func returned(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(bound):
		t.Fatalf("AwaitClient had not returned in %s", bound)
		return nil
	}
}

func TestSetBacklog(t *testing.T) {
	t.Parallel()
	socket := listen(t, "127.0.0.1")
	set := listener.Set{socket}
	for _, test := range []struct{ given, want int }{{0, listener.Backlog}, {300, 300}, {0, 300}, {1 << 40, math.MaxInt32}} {
		set.SetBacklog(test.given)
		if err := set.Restore(); err != nil {
			t.Fatal(err)
		}
		if _, backlog := queue(t, socket); socket.Backlog() != test.want || backlog != min(test.want, somaxconn(t)) {
			t.Errorf("after %d: %d, and %d in the kernel, want %d", test.given, socket.Backlog(), backlog, test.want)
		}
	}
}
