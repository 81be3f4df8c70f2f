package sockdiag

import (
	"fmt"
	"net/netip"
	"slices"
)

// Blocking returns the sockets that keep addr from being bound by the socket unit, which binds IPv6 without IPv4: those that
// listen, as Listening finds them, and those that are only bound. The kernel names the latter since Linux 6.7; some of
// them would let go, if both sides have set SO_REUSEADDR (socket(7)), but none of them says so.
func Blocking(addr netip.AddrPort) ([]Socket, error) {
	entries, err := findOn(1<<tcpListen|1<<tcpBoundInactive, addr.Port())
	if err != nil {
		return nil, fmt.Errorf("look for what keeps %s: %w", addr, err)
	}
	sockets := conflicting(entries, addr)
	if addr.Addr() == netip.IPv6Unspecified() {
		sockets = slices.DeleteFunc(sockets, func(s Socket) bool { return s.Address.Addr().Is4() })
	}
	return sockets, nil
}
