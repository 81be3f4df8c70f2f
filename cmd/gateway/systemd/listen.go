package systemd

import (
	"net/netip"
	"strings"
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
