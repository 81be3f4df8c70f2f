package listener

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/sockopts"

	"golang.org/x/sys/unix"
)

// Backlog is the length of the accept queue that a listening socket is given,
// in connections, where nobody has asked for another one; the kernel caps it at
// net.core.somaxconn (listen(2)). The socket unit asks systemd for the same number.
const Backlog = 4096

// Socket is one listening TCP or unix socket.
type Socket struct {
	// File keeps the descriptor open. It stays reachable for as long as the
	// launcher lives: the garbage collector closes a file that nobody holds.
	File *os.File
	// Address is the local address, as the kernel tells it.
	Address netaddr.Address
	// DualStack says that the address, the IPv6 wildcard, takes IPv4 clients too
	// (IPV6_V6ONLY in ipv6(7)).
	DualStack bool
	// Inode identifies the socket on this machine: every process that holds
	// it shows the same number in /proc/PID/fd.
	Inode uint64
	// Name is what systemd calls it (FileDescriptorName= in systemd.socket(5)); "" where it was bound here.
	Name string

	nonblocking bool
	options     sockopts.State // in which it came
	backlog     atomic.Int32   // 0: Backlog
	// Of a unix socket: its file, if it was bound here, and the clients that wait.
	made os.FileInfo
	seen sightings
	dead atomic.Bool
}

// String is the address as a person writes it: *:18789 of a dual-stack socket.
func (s *Socket) String() string {
	if s.DualStack {
		return fmt.Sprintf("*:%d", s.Address.Port())
	}
	return s.Address.String()
}

// Backlog is how many clients may wait to be accepted, as far as the kernel lets them.
func (s *Socket) Backlog() int { return cmp.Or(int(s.backlog.Load()), Backlog) }

// Dead reports whether somebody has shut a unix socket down, as far as a Watch has noticed: from then on the kernel refuses its
// clients, also when it listens again. Nothing but another socket mends that.
func (s *Socket) Dead() bool { return s.dead.Load() }

// newSocket verifies that file is a listening TCP or unix socket and takes note of the
// mode and the options in which it came. The error says what it is instead.
func newSocket(file *os.File) (*Socket, error) {
	s := &Socket{File: file}
	err := s.control(func(fd int) error {
		kind, kindErr := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		listening, listeningErr := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		name, nameErr := unix.Getsockname(fd)
		flags, flagsErr := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		var stat unix.Stat_t
		statErr := unix.Fstat(fd, &stat)
		err := cmp.Or(kindErr, listeningErr, nameErr, flagsErr, statErr)
		address := addressOf(name)
		switch {
		case errors.Is(err, unix.ENOTSOCK):
			return errors.New("is not a socket")
		case err != nil:
			return fmt.Errorf("cannot be examined: %w", err)
		case strings.HasPrefix(address.Path(), "@"):
			return fmt.Errorf("is an abstract unix socket (%s): every process could connect to it, so name a path", address)
		case !address.IsValid():
			return fmt.Errorf("is a socket of another family (%T), or has no address", name)
		case kind != unix.SOCK_STREAM:
			return fmt.Errorf("is not a stream socket (%s): it has no connections that could wait for a worker, as those of UDP have none", address)
		case listening == 0:
			return fmt.Errorf("is not a listening socket (%s)", address)
		}
		if address.Addr() == netip.IPv6Unspecified() {
			v6only, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
			s.DualStack = err == nil && v6only == 0
		}
		s.Address, s.Inode, s.nonblocking, s.options = address, stat.Ino, flags&unix.O_NONBLOCK != 0, sockopts.Read(fd)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Restore puts the socket back into the mode in which it came, with the options that it had, and gives it the
// full backlog. It is called before each generation, and when the launcher leaves the socket to systemd: a worker's runtime may
// have made the shared description non-blocking (Node.js and Go do), may have had the kernel keep back each client until it has
// said something (TCP_DEFER_ACCEPT: Bun and Apache do), may have shrunk the backlog (Node.js listens with 511), or may have
// called shutdown(2) on it, after which only listen(2) makes the kernel queue clients again.
func (s *Socket) Restore() error {
	err := s.control(func(fd int) error {
		s.options.Apply(fd)
		return unix.SetNonblock(fd, s.nonblocking)
	})
	if err != nil {
		return fmt.Errorf("restore the mode of %s: %w", s.Address, err)
	}
	return s.Listen()
}

// Listen gives the socket the full backlog; the queue keeps its clients.
func (s *Socket) Listen() error {
	if err := s.control(func(fd int) error { return unix.Listen(fd, s.Backlog()) }); err != nil {
		return fmt.Errorf("listen on %s: %w", s.Address, err)
	}
	return nil
}

// Queue returns how many clients wait to be accepted and how many may wait.
// For a listening socket the kernel reports both in tcp_info, as tcpi_unacked
// and tcpi_sacked (tcp_get_info in net/ipv4/tcp.c).
func (s *Socket) Queue() (queued, backlog int, err error) {
	if s.Address.IsUnix() {
		return s.unixQueue()
	}
	err = s.control(func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return err
		}
		queued, backlog = int(info.Unacked), int(info.Sacked)
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("read the queue of %s: %w", s.Address, err)
	}
	return queued, backlog, nil
}

// Accept takes one client from the queue, on a descriptor that does not block; when
// there is none the error is unix.EAGAIN, also where accept4(2) would block. Nobody
// else accepts meanwhile, so the client that poll(2) tells of is still there after it.
func (s *Socket) Accept() (accepted int, client netaddr.Address, err error) {
	err = s.control(func(fd int) error {
		polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(polled, 0); err != nil {
			return err
		}
		if polled[0].Revents != unix.POLLIN {
			return unix.EAGAIN // with POLLHUP, Waiting makes it listen again
		}
		var name unix.Sockaddr
		accepted, name, err = unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if client = addressOf(name); !s.Address.IsUnix() {
			client = netaddr.From(client.Addr().Unmap(), client.Port()) // of a dual-stack socket
		}
		return err
	})
	return accepted, client, err
}

func (s *Socket) control(f func(fd int) error) error { return Control(s.File, f) }

// Control runs f with the descriptor, which cannot be closed meanwhile.
func Control(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	if err := raw.Control(func(fd uintptr) { result = f(int(fd)) }); err != nil {
		return err
	}
	return result
}

// addressOf is none of another family, and of a unix socket without a name.
func addressOf(name unix.Sockaddr) netaddr.Address {
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return netaddr.From(netip.AddrFrom4(name.Addr), uint16(name.Port))
	case *unix.SockaddrInet6:
		return netaddr.From(netip.AddrFrom16(name.Addr).WithZone(zone(name.ZoneId)), uint16(name.Port))
	case *unix.SockaddrUnix:
		return netaddr.Unix(name.Name)
	default:
		return netaddr.Address{}
	}
}

// zone names the network interface of a link-local address; all other addresses
// have index 0 and no zone.
func zone(index uint32) string {
	if index == 0 {
		return ""
	}
	device, err := net.InterfaceByIndex(int(index))
	if err != nil {
		return strconv.FormatUint(uint64(index), 10)
	}
	return device.Name
}
