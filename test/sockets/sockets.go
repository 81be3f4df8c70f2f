// Package sockets holds what the tests of several packages do with a socket: hold it as systemd would, connect to it, look
// at it. It imports nothing of ours, so that every package can be tested with it.
package sockets

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"openclaw-gateway/netaddr"

	"golang.org/x/sys/unix"
)

// bound is how long a client may take to be connected.
const bound = 30 * time.Second

// Held is a listening socket.
type Held struct {
	File    *os.File
	Address netaddr.Address
}

// Listen makes one as systemd does: blocking, of one family, with a long queue.
func Listen(at netaddr.Address) (Held, error) {
	network := "tcp6"
	if at.Addr().Is4() {
		network = "tcp4"
	}
	var plain net.ListenConfig
	plain.SetMultipathTCP(false) // of which some options cannot be set
	listener, err := plain.Listen(context.Background(), network, at.AddrPort().String())
	if err != nil {
		return Held{}, err
	}
	l := listener.(*net.TCPListener)
	defer l.Close() // and with it what Go's netpoller knows of it
	held := Held{Address: netaddr.From(at.Addr(), netaddr.Of(l.Addr()).Port())}
	return held, control(l, func(fd int) error {
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = unix.SetNonblock(own, false)
		held.File = os.NewFile(uintptr(own), held.Address.String())
		return err
	})
}

// HoldUnix listens on a unix socket in a folder of the test's, until the test ends.
func HoldUnix(t testing.TB) Held {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a b.sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	held := Held{File: os.NewFile(uintptr(fd), path), Address: netaddr.Unix(path)}
	t.Cleanup(func() { _ = held.File.Close() })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 4096); err != nil {
		t.Fatal(err)
	}
	return held
}

// Hold listens on the hosts, all on the same port, until the test ends.
func Hold(t testing.TB, hosts ...string) []Held {
	t.Helper()
	all := AtFreePort(t, hosts[0], func(first netaddr.Address) (all []Held, err error) {
		for _, host := range hosts {
			held, err := Listen(netaddr.From(netip.MustParseAddr(host), first.Port()))
			if err != nil {
				for _, held := range all {
					_ = held.File.Close()
				}
				return nil, err
			}
			all = append(all, held)
		}
		return all, nil
	})
	t.Cleanup(func() {
		for _, held := range all {
			_ = held.File.Close()
		}
	})
	return all
}

// AtFreePort binds a host at a port that was free. The port is named to the kernel: one that it chose itself is lost by
// shutdown(2).
func AtFreePort[S any](t testing.TB, host string, bind func(netaddr.Address) (S, error)) (socket S) {
	t.Helper()
	for range 100 {
		free, err := Listen(netaddr.From(netip.MustParseAddr(host), 0))
		if err != nil {
			t.Fatal(err)
		}
		if err := free.File.Close(); err != nil {
			t.Fatal(err)
		}
		socket, err = bind(free.Address)
		if errors.Is(err, unix.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return socket
	}
	t.Fatalf("found no free port on %s", host)
	return socket
}

// Refused is an address on which nobody listens, and which nobody else gets while the test takes: it is bound.
func Refused(t testing.TB) netaddr.Address {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return netaddr.From(netip.AddrFrom4(bound.(*unix.SockaddrInet4).Addr), uint16(bound.(*unix.SockaddrInet4).Port))
}

// Free is an address that nobody has, and which only who is told of it gets while the test takes. A port that was the kernel's choice
// would be so again, for a client perhaps: this one is kept on another address.
func Free(t testing.TB) netaddr.Address {
	t.Helper()
	return netaddr.From(netip.AddrFrom4([4]byte{127, 0, 0, 2}), Refused(t).Port())
}

// Server listens by package net, for as long as the test takes.
func Server(t testing.TB, network, address string) (*net.TCPListener, netaddr.Address) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	addr := netaddr.Of(l.Addr())
	return l.(*net.TCPListener), netaddr.From(addr.Addr().Unmap(), addr.Port())
}

// Crowd opens 4,000 descriptors of this process, or fewer if its limit is lower: pairs of connections to one listener.
func Crowd(t testing.TB) (addr netaddr.Address, pairs int) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	pairs = min(2000, int(limit.Cur-100)/2)
	l, addr := Server(t, "tcp4", "127.0.0.1:0")
	for range pairs {
		Dial(t, addr)
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	return addr, pairs
}

// Dial connects, which the kernel does without whoever listens.
func Dial(t testing.TB, address netaddr.Address) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout(address.Net().Network(), address.Net().String(), bound)
	if err != nil {
		t.Fatalf("a client was refused: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Control runs f with the descriptor, and leaves its mode alone.
func Control(t testing.TB, conn syscall.Conn, f func(fd int) error) {
	t.Helper()
	if err := control(conn, f); err != nil {
		t.Fatal(err)
	}
}

func control(conn syscall.Conn, f func(fd int) error) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	return errors.Join(raw.Control(func(fd uintptr) { result = f(int(fd)) }), result)
}

// Blocking is what it and all who share it have.
func Blocking(t testing.TB, conn syscall.Conn) bool {
	t.Helper()
	flags := 0
	Control(t, conn, func(fd int) (err error) {
		flags, err = unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		return err
	})
	return flags&unix.O_NONBLOCK == 0
}

// Inode is the number by which the kernel names it elsewhere.
func Inode(t testing.TB, conn syscall.Conn) uint64 {
	t.Helper()
	var stat unix.Stat_t
	Control(t, conn, func(fd int) error { return unix.Fstat(fd, &stat) })
	return stat.Ino
}

// Queue is how many clients wait to be accepted, and how many may.
func Queue(t testing.TB, conn syscall.Conn) (queued, backlog int) {
	t.Helper()
	Control(t, conn, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			queued, backlog = int(info.Unacked), int(info.Sacked)
		}
		return err
	})
	return queued, backlog
}

// Unaccepted reports whether a connection of this machine has not been accepted yet, named by its two ends: the kernel's table
// shows no inode before accept(2).
func Unaccepted(server, client netaddr.Address) (bool, error) {
	path, ends := "/proc/net/tcp", " "
	if server.Addr().Is6() {
		path = "/proc/net/tcp6"
	}
	for _, end := range []netaddr.Address{server, client} {
		address := end.Addr().AsSlice()
		for i := 0; i < len(address); i += 4 {
			ends += fmt.Sprintf("%08X", binary.NativeEndian.Uint32(address[i:]))
		}
		ends += fmt.Sprintf(":%04X ", end.Port())
	}
	table, err := os.ReadFile(path)
	_, line, found := strings.Cut(string(table), ends)
	fields := strings.Fields(line)
	return found && fields[6] == "0" && (fields[0] == "01" || fields[0] == "08"), err
}
