package listener

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"

	"golang.org/x/sys/unix"
)

// Absent reports whether this machine lacks the address of a socket: systemd binds it all the same (FreeBind= in
// systemd.socket(5)), and nobody can connect to it. A wildcard is never absent.
func (sockets Set) Absent(address netaddr.Address) bool {
	socket := sockets.on(address)
	return socket != nil && !address.IsUnix() && !address.Addr().IsUnspecified() && !socket.away() && own(address.Addr()) == no
}

// Reach returns where this process can connect to a socket: at its address, over loopback where it listens on all of
// them. It can not where the file of a unix socket is not its own any more or is not for this user, where the machine lacks the address, where the socket is bound to a network device (BindToDevice= in
// systemd.socket(5)), whose clients come over that alone, nor where it lives in another network namespace.
func (sockets Set) Reach(address netaddr.Address) (target netaddr.Address, can bool) {
	socket, ip := sockets.on(address), address.Addr()
	if socket == nil {
		return address, false
	}
	if address.IsUnix() {
		return address, socket.canConnect()
	}
	switch {
	case ip == netip.IPv4Unspecified(), socket.DualStack: // IPv4 may be all that there is
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case ip == netip.IPv6Unspecified():
		ip = netip.IPv6Loopback()
	}
	return netaddr.From(ip, address.Port()), !socket.away() && !socket.onDevice() && own(ip) == yes
}

// Displaced reports whether somebody else listens where the path of a unix socket leads to now.
func (sockets Set) Displaced(address netaddr.Address) bool {
	socket := sockets.on(address)
	if socket == nil || !address.IsUnix() || sockdiag.UnixAtPath(socket.Inode, address.Path()) {
		return false
	}
	listening, err := sockdiag.Listening(address)
	return err == nil && len(listening) > 0
}

// QueuedOn returns how many clients wait to be accepted on one address.
func (sockets Set) QueuedOn(address netaddr.Address) (int, error) {
	socket := sockets.on(address)
	if socket == nil {
		return 0, fmt.Errorf("read the queue of %s: nobody holds it", address)
	}
	queued, _, err := socket.Queue()
	return queued, err
}

func (sockets Set) on(address netaddr.Address) *Socket {
	if i := slices.Index(sockets.Addresses(), address); i >= 0 {
		return sockets[i]
	}
	return nil
}

func (s *Socket) away() bool {
	elsewhere, err := s.Elsewhere()
	return err == nil && elsewhere
}

// onDevice reports whether the socket is bound to a device that is not loopback.
func (s *Socket) onDevice() bool {
	name := ""
	err := s.control(func(fd int) (err error) {
		name, err = unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
		return err
	})
	if name = strings.TrimRight(name, "\x00"); err != nil || name == "" {
		return false
	}
	device, err := net.InterfaceByName(name)
	return err != nil || device.Flags&net.FlagLoopback == 0
}

// own reports whether an address is this machine's. Only for such a one the kernel chooses the address itself, or a loopback
// one, as the other end's (ip_route_output_key_hash_rcu in net/ipv4/route.c, rule 1 of RFC 6724). No packet is sent: who has
// the address of another machine, as a failover may leave it, must not ask that one. To bind it would not tell where
// net.ipv4.ip_nonlocal_bind is set. Where the kernel does not answer, the address counts as the machine's; where this process may have
// no socket of that family (RestrictAddressFamilies= in systemd.exec(5)), it can connect to none, and cannot tell.
func own(ip netip.Addr) answer {
	const discard = 9 // any port would do
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, discard)))
	if errors.Is(err, unix.EAFNOSUPPORT) && (ip.Is4() || hasIPv6()) {
		return unknown
	}
	if err != nil {
		none := []error{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EADDRNOTAVAIL, unix.EAFNOSUPPORT, unix.EINVAL, unix.ENODEV}
		if slices.ContainsFunc(none, func(none error) bool { return errors.Is(err, none) }) {
			return no
		}
		return yes
	}
	defer conn.Close()
	source := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
	if source.IsLoopback() || source.WithZone("") == ip.WithZone("") {
		return yes
	}
	return no
}

type answer int

const (
	unknown answer = iota
	no
	yes
)

// hasIPv6 reports whether the kernel has IPv6, which may be switched off all the same.
func hasIPv6() bool {
	_, err := os.Stat("/proc/self/net/if_inet6")
	return err == nil
}
