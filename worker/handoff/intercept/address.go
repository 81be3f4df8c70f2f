package intercept

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// The least that the kernel takes for an IPv6 address (SIN6_LEN_RFC2133 in its net/ipv6.h), and with the scope.
const (
	inet6Short = 24
	inet6Whole = unix.SizeofSockaddrInet6
)

// sockaddr is what a bind asks for.
type sockaddr struct {
	family int
	ip     netip.Addr // without a zone; one of IPv6 may hold one of IPv4
	port   uint16
	scope  uint32 // of a link-local address; 0: none
}

// parse reads a struct sockaddr as the kernel does. ok is false for what is no IP address, or is too short for one.
func parse(b []byte) (s sockaddr, ok bool) {
	if len(b) < shortest || len(b) > longest {
		return s, false
	}
	s = sockaddr{family: int(binary.NativeEndian.Uint16(b)), port: binary.BigEndian.Uint16(b[2:])}
	switch s.family {
	case unix.AF_INET:
		s.ip = netip.AddrFrom4([4]byte(b[4:8]))
		return s, true
	case unix.AF_INET6:
		if len(b) < inet6Short {
			return sockaddr{}, false
		}
		s.ip = netip.AddrFrom16([16]byte(b[8:24]))
		if len(b) >= inet6Whole && s.ip.IsLinkLocalUnicast() {
			s.scope = binary.NativeEndian.Uint32(b[24:])
		}
		return s, true
	}
	return sockaddr{}, false
}
