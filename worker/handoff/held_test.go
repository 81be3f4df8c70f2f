package handoff_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"openclaw-gateway/worker/handoff"
)

// hold listens on the hosts, all on the same port, as systemd would.
func hold(t *testing.T, hosts ...string) []handoff.Socket {
	t.Helper()
	for range 100 {
		sockets, err := holdOnce(t, hosts)
		if err == nil {
			return sockets
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			t.Fatal(err)
		}
	}
	t.Fatalf("found no port that is free on all of %q", hosts)
	return nil
}

func holdOnce(t *testing.T, hosts []string) (sockets []handoff.Socket, err error) {
	t.Helper()
	defer func() {
		if err != nil {
			for _, socket := range sockets {
				_ = socket.File.Close()
			}
		}
	}()
	port := 0
	for _, host := range hosts {
		ip := netip.MustParseAddr(host)
		var name unix.Sockaddr = &unix.SockaddrInet6{Port: port, Addr: ip.As16()}
		family := unix.AF_INET6
		if ip.Is4() {
			name, family = &unix.SockaddrInet4{Port: port, Addr: ip.As4()}, unix.AF_INET
		}
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return sockets, err
		}
		file := os.NewFile(uintptr(fd), host)
		sockets = append(sockets, handoff.Socket{File: file})
		if family == unix.AF_INET6 {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
				return sockets, err
			}
		}
		if err := unix.Bind(fd, name); err != nil {
			return sockets, err
		}
		if err := unix.Listen(fd, 4096); err != nil {
			return sockets, err
		}
		bound, err := unix.Getsockname(fd)
		if err != nil {
			return sockets, err
		}
		switch bound := bound.(type) {
		case *unix.SockaddrInet4:
			port = bound.Port
		case *unix.SockaddrInet6:
			port = bound.Port
		}
		sockets[len(sockets)-1].Address = netip.AddrPortFrom(ip, uint16(port))
	}
	for _, socket := range sockets {
		t.Cleanup(func() { _ = socket.File.Close() })
	}
	return sockets, nil
}

// control runs f with the descriptor of a file and leaves its mode alone.
func control(t *testing.T, file *os.File, f func(fd int) error) {
	t.Helper()
	raw, err := file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var result error
	if err := raw.Control(func(fd uintptr) { result = f(int(fd)) }); err != nil {
		t.Fatal(err)
	}
	if result != nil {
		t.Fatal(result)
	}
}

// socketName is what /proc/PID/fd shows for a socket.
func socketName(t *testing.T, file *os.File) string {
	t.Helper()
	var stat unix.Stat_t
	control(t, file, func(fd int) error { return unix.Fstat(fd, &stat) })
	return "socket:[" + strconv.FormatUint(stat.Ino, 10) + "]"
}

// backlog is how many clients may wait in the queue of a listening socket.
func backlog(t *testing.T, file *os.File) int {
	t.Helper()
	var info *unix.TCPInfo
	control(t, file, func(fd int) (err error) {
		info, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err
	})
	return int(info.Sacked)
}

func nonblocking(t *testing.T, file *os.File) bool {
	t.Helper()
	flags := 0
	control(t, file, func(fd int) (err error) {
		flags, err = unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		return err
	})
	return flags&unix.O_NONBLOCK != 0
}

// dial connects, which the kernel does without the worker.
func dial(t *testing.T, address netip.AddrPort) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: bound}).DialContext(t.Context(), "tcp", address.String())
	if err != nil {
		t.Fatalf("a client was refused: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
