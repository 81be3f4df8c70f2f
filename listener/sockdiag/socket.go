package sockdiag

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"openclaw-gateway/netaddr"

	"golang.org/x/sys/unix"
)

// Socket is a TCP or unix socket of this network namespace.
type Socket struct {
	// Address is where it is bound. An IPv4-mapped IPv6 address is given as the IPv4 address that it is; a zone is left
	// out.
	Address netaddr.Address
	// DualStack says that it is the IPv6 wildcard's and takes IPv4 clients too; false where the kernel has no sock_diag for TCP.
	DualStack bool
	// Exact tells a socket on the very address that was asked for from one on another address that keeps it from being
	// bound.
	Exact bool
	// Inode is the number in the "socket:[…]" of a /proc/PID/fd.
	Inode uint64
	// UID is the user who made the socket, and may be another than the one who uses it now.
	UID uint32
	// Queued is how many connections wait to be accepted. Backlog is how many may, and 0 where the kernel has no
	// sock_diag for TCP.
	Queued, Backlog int
}

// entry is a socket with what is needed to compare its address with another.
type entry struct {
	Socket
	ipv6   bool // an AF_INET6 socket, whatever its address
	v6only bool // IPV6_V6ONLY, see ipv6(7)
	state  uint8
	remote netaddr.Address // the other end of a connection; an IPv4-mapped address as the IPv4 address that it is
	silent time.Duration   // since this end has sent data, or since the handshake if it never has; 0 unless it was asked for
	cookie uint64          // the kernel's name for the socket, which no other ever gets; 0 where it has no sock_diag
}

// Listening returns the sockets in state LISTEN that have the address addr or that conflict with it: a wildcard with every
// address of its family, and an IPv6 wildcard that is not IPV6_V6ONLY with every IPv4 address too. When addr itself is
// the IPv6 wildcard it is taken for one that is not V6ONLY. Zones are ignored. The exact ones come first. Of a unix socket it
// is who listens at the file that its path leads to now. Nobody listening is no error.
func Listening(addr netaddr.Address) ([]Socket, error) {
	if addr.IsUnix() {
		return unixSockets(addr.Path())
	}
	return conflicting(1<<tcpListen, addr)
}

// Blocking returns the sockets that keep addr from being bound by the socket unit, which binds IPv6 without IPv4: those that
// listen, as Listening finds them, and those that are only bound. The kernel names the latter since Linux 6.7; some of
// them would let go, if both sides have set SO_REUSEADDR (socket(7)), but none of them says so.
func Blocking(addr netaddr.Address) ([]Socket, error) {
	if addr.IsUnix() {
		return unixSockets(addr.Path())
	}
	sockets, err := conflicting(1<<tcpListen|1<<tcpBoundInactive, addr)
	if addr.Addr() == netip.IPv6Unspecified() {
		sockets = slices.DeleteFunc(sockets, func(s Socket) bool { return s.Address.Addr().Is4() })
	}
	return sockets, err
}

// Using returns what keeps the port of addr in any state, without listening there perhaps: a connection, or a socket that
// is only bound. One that no process has any more has no Inode.
func Using(addr netaddr.Address) ([]Socket, error) {
	if addr.IsUnix() {
		return unixSockets(addr.Path())
	}
	return conflicting(1<<(tcpBoundInactive+1)-1, addr)
}

// Connections returns how many connections in state ESTABLISHED have the local address addr, those that wait in the
// accept queue included. A wildcard counts every connection that a listener on it can have been given.
func Connections(addr netaddr.Address) (int, error) {
	if addr.IsUnix() {
		return unixConnections(addr.Path())
	}
	entries, err := findOn(1<<tcpEstablished, addr.Port())
	if err != nil {
		return 0, fmt.Errorf("count connections on %s: %w", addr, err)
	}
	count := 0
	for _, e := range entries {
		if e.reaches(addr) {
			count++
		}
	}
	return count, nil
}

// reaches reports whether a listener on addr can have been given the connection.
func (e entry) reaches(addr netaddr.Address) bool {
	local, wanted := e.Address.Addr(), addr.Addr().Unmap().WithZone("")
	switch {
	case e.Address.Port() != addr.Port():
		return false
	case wanted == netip.IPv4Unspecified():
		return local.Is4()
	case wanted == netip.IPv6Unspecified():
		return e.ipv6
	default:
		return local == wanted
	}
}

// findOn returns the TCP sockets of both families with this local port.
func findOn(states uint32, port uint16) ([]entry, error) {
	if port == 0 {
		return nil, errors.New("port 0 is no port to look for: give the one that was bound")
	}
	return find(states, port)
}

// find is findOn, for which port 0 is every port.
func find(states uint32, port uint16) ([]entry, error) {
	var all []entry
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		entries, err := sockDiag(family, states, port, 0)
		if err != nil {
			var second error
			if entries, second = netTCP(family, states, port); second != nil {
				return nil, errors.Join(err, second)
			}
		}
		all = append(all, entries...)
	}
	return all, nil
}

// conflicting returns the sockets in one of the states that keep addr from being bound, the exact ones first.
func conflicting(states uint32, addr netaddr.Address) ([]Socket, error) {
	entries, err := findOn(states, addr.Port())
	if err != nil {
		return nil, fmt.Errorf("look for sockets on %s: %w", addr, err)
	}
	var sockets []Socket
	for _, e := range entries {
		if e.conflicts(addr) {
			s := e.Socket
			s.Exact = s.Address.Addr() == addr.Addr().Unmap().WithZone("")
			sockets = append(sockets, s)
		}
	}
	slices.SortStableFunc(sockets, func(a, b Socket) int {
		switch {
		case a.Exact && !b.Exact:
			return -1
		case b.Exact && !a.Exact:
			return 1
		}
		return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Inode, b.Inode))
	})
	return sockets, nil
}

// conflicts reports whether addr cannot be bound while e listens; the kernel's table knows no zones.
func (e entry) conflicts(addr netaddr.Address) bool {
	return netaddr.Overlap(e.Address, !e.v6only, netaddr.From(addr.Addr().Unmap().WithZone(""), addr.Port()), true)
}
