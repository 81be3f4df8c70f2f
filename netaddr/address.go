// Package netaddr has the one form in which the addresses of servers go through the program.
package netaddr

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Address is where a server listens, or a client is: an IP address with a port, or a unix socket. It is comparable; the zero
// value is none.
type Address struct {
	tcp  netip.AddrPort
	path string // of a unix socket; one of an abstract name begins with @
}

// unixScheme begins the address of a unix socket.
const unixScheme = "unix:"

// From is the TCP address of an IP address and a port.
func From(ip netip.Addr, port uint16) Address { return TCP(netip.AddrPortFrom(ip, port)) }

// AllOfIPv4 are a port's clients of that family, 0.0.0.0.
func AllOfIPv4(port uint16) Address { return From(netip.IPv4Unspecified(), port) }

// TCP is the address of a TCP socket.
func TCP(address netip.AddrPort) Address { return Address{tcp: address} }

// Unix is that of a unix socket; none of one without a name.
func Unix(path string) Address { return Address{path: path} }

// Of is that of one end of a connection of package net, or of a listener's; none where it is of neither kind.
func Of(end net.Addr) Address {
	switch end := end.(type) {
	case *net.TCPAddr:
		return TCP(end.AddrPort())
	case *net.UnixAddr:
		return Unix(end.Name)
	default:
		return Address{}
	}
}

// Parse reads an address as String writes it.
func Parse(text string) (Address, error) {
	if path, unix := strings.CutPrefix(text, unixScheme); unix {
		if path == "" {
			return Address{}, fmt.Errorf("%q has no path", text)
		}
		return Unix(path), nil
	}
	tcp, err := netip.ParseAddrPort(text)
	return TCP(tcp), err
}

// MustParse is Parse of an address that is known to be one.
func MustParse(text string) Address {
	address, err := Parse(text)
	if err != nil {
		panic(err)
	}
	return address
}

// Addr is the IP address; none of a unix socket.
func (a Address) Addr() netip.Addr { return a.tcp.Addr() }

// Port is the port; 0 of a unix socket.
func (a Address) Port() uint16 { return a.tcp.Port() }

// Path is that of a unix socket; "" of any other.
func (a Address) Path() string { return a.path }

// IsUnix says whether it is a unix socket's.
func (a Address) IsUnix() bool { return a.path != "" }

// AddrPort is the address of a TCP socket as netip has it; none of another.
func (a Address) AddrPort() netip.AddrPort { return a.tcp }

// Net is the address as package net has it.
func (a Address) Net() net.Addr {
	if a.IsUnix() {
		return &net.UnixAddr{Net: "unix", Name: a.path}
	}
	return net.TCPAddrFromAddrPort(a.tcp)
}

// IsValid says whether it is one.
func (a Address) IsValid() bool { return a.IsUnix() || a.tcp.IsValid() }

// String is how it is written for people and in every file: 127.0.0.1:18789, unix:/run/app.sock.
func (a Address) String() string {
	if a.IsUnix() {
		return unixScheme + a.path
	}
	return a.tcp.String()
}

// Compare is for sorting.
func (a Address) Compare(b Address) int {
	return cmp.Or(cmp.Compare(a.path, b.path), a.tcp.Compare(b.tcp))
}

// Overlap reports whether two sockets cannot listen side by side, as the kernel decides it (ipv6_rcv_saddr_equal in
// net/ipv4/inet_connection_sock.c). An IPv6 wildcard that is dual-stack takes the clients of both families; of other addresses that says
// nothing.
func Overlap(a Address, aDual bool, b Address, bDual bool) bool {
	one, other := a.Addr(), b.Addr()
	switch {
	case a == b:
		return true
	case a.IsUnix() || b.IsUnix() || a.Port() != b.Port():
		return false
	case one.Is4() == other.Is4():
		return one.IsUnspecified() || other.IsUnspecified()
	default:
		return one == netip.IPv6Unspecified() && aDual || other == netip.IPv6Unspecified() && bDual
	}
}

// MarshalText is String; empty for none.
func (a Address) MarshalText() ([]byte, error) {
	if a.IsUnix() {
		return []byte(a.String()), nil
	}
	return a.tcp.MarshalText()
}

// UnmarshalText is Parse; empty is none.
func (a *Address) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*a = Address{}
		return nil
	}
	address, err := Parse(string(text))
	if err == nil {
		*a = address
	}
	return err
}

// Access says who may connect to a unix socket. The zero value is the user alone who has made it.
type Access struct {
	Mode        string // in octal digits, "0660"; "": 0600
	User, Group string // names or numbers; "": of whoever has made it
}
