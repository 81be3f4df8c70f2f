package systemd

import (
	"errors"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// Listen is where a socket unit listens for TCP: Listen= is "127.0.0.1:18789 (Stream)",
// one a line or several in one. Paths, UDP and the like are left out.
func (p Properties) Listen() []netip.AddrPort {
	var listen []netip.AddrPort
	words := strings.Fields(p["Listen"])
	for i, kind := range words {
		if i == 0 || kind != "(Stream)" {
			continue
		}
		if address, err := netip.ParseAddrPort(words[i-1]); err == nil {
			listen = append(listen, address)
		}
	}
	return listen
}

// Bindable returns those of the addresses for which this kernel has sockets, and those for which it has none: without IPv6
// (ipv6.disable=1, some sandboxes) systemd leaves the line of such an address out, or refuses the whole socket unit for it.
func Bindable(addresses []netip.AddrPort) (can, cannot []netip.AddrPort) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	if !errors.Is(err, unix.EAFNOSUPPORT) {
		return addresses, nil
	}
	for _, address := range addresses {
		if address.Addr().Is4() {
			can = append(can, address)
		} else {
			cannot = append(cannot, address)
		}
	}
	return can, cannot
}
