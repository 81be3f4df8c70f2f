package listener

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"openclaw-gateway/netaddr"

	"golang.org/x/sys/unix"
)

// Bind listens on an address, as systemd would for the socket unit: blocking,
// IPv6 without IPv4, the full backlog, keep-alive; a unix socket for this user alone. An address in use is unix.EADDRINUSE; an
// address that this machine does not have is unix.EADDRNOTAVAIL or, where IPv6
// is switched off, unix.EAFNOSUPPORT.
func Bind(address netaddr.Address) (*Socket, error) { return BindWith(address, Options{}) }

// Options are what an address does not say. DualStack listens for IPv4 clients too where it is the IPv6 wildcard; Access is for
// a unix socket, with users and groups by number.
type Options struct {
	DualStack bool
	Access    netaddr.Access
}

// BindWith is Bind with options.
func BindWith(address netaddr.Address, options Options) (*Socket, error) {
	if address.IsUnix() {
		socket, err := bindUnix(address, options.Access)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", address, err)
		}
		return socket, nil
	}
	dualStack := options.DualStack
	file, err := bind(address, dualStack && address.Addr() == netip.IPv6Unspecified())
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	socket, err := newSocket(file)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: the new socket %w", address, errors.Join(err, file.Close()))
	}
	return socket, nil
}

// Absent reports whether err says that the machine does not have the address.
func Absent(err error) bool {
	return errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT)
}

func bind(address netaddr.Address, dualStack bool) (*os.File, error) {
	name, family, err := sockaddr(address)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	file := os.NewFile(uintptr(fd), address.String())
	if err := listen(fd, family, name, dualStack); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func listen(fd, family int, name unix.Sockaddr, dualStack bool) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return os.NewSyscallError("setsockopt SO_REUSEADDR", err)
	}
	// What is accepted inherits it.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1); err != nil {
		return os.NewSyscallError("setsockopt SO_KEEPALIVE", err)
	}
	if family == unix.AF_INET6 {
		v6only := 1
		if dualStack {
			v6only = 0
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, v6only); err != nil {
			return os.NewSyscallError("setsockopt IPV6_V6ONLY", err)
		}
	}
	if err := unix.Bind(fd, name); err != nil {
		return os.NewSyscallError("bind", err)
	}
	return os.NewSyscallError("listen", unix.Listen(fd, Backlog))
}

func sockaddr(address netaddr.Address) (name unix.Sockaddr, family int, err error) {
	ip, port := address.Addr(), int(address.Port())
	if ip.Is4() {
		return &unix.SockaddrInet4{Port: port, Addr: ip.As4()}, unix.AF_INET, nil
	}
	zone := 0
	if ip.Zone() != "" {
		device, err := net.InterfaceByName(ip.Zone())
		if err != nil {
			return nil, 0, fmt.Errorf("network interface %q: %w", ip.Zone(), err)
		}
		zone = device.Index
	}
	return &unix.SockaddrInet6{Port: port, ZoneId: uint32(zone), Addr: ip.As16()}, unix.AF_INET6, nil
}
