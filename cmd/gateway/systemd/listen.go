package systemd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/units/instance"

	"golang.org/x/sys/unix"
)

// Listen is where a socket unit listens for TCP and on unix sockets with a path: a line of Listen= is "127.0.0.1:18789 (Stream)".
// UDP and the like are left out.
func (p Properties) Listen() []netaddr.Address {
	var listen []netaddr.Address
	for _, line := range p.List("Listen") {
		where, stream := strings.CutSuffix(line, " (Stream)")
		if !stream {
			continue
		}
		if strings.HasPrefix(where, "/") {
			listen = append(listen, netaddr.Unix(where))
		} else if address, err := netaddr.Parse(where); err == nil {
			listen = append(listen, address)
		}
	}
	return listen
}

// Unremovable is the first of the addresses at whose path something else than a socket lies, which systemd would remove to bind
// there.
func Unremovable(addresses []netaddr.Address) (address netaddr.Address, found bool) {
	for _, address := range addresses {
		if info, err := os.Lstat(address.Path()); address.IsUnix() && err == nil && info.Mode().Type() != os.ModeSocket {
			return address, true
		}
	}
	return netaddr.Address{}, false
}

// Misplaced says who else than root decides what lies at the path of a unix socket; nil where nobody does, and of another address.
// A manager that is root would follow whatever links they put there, and remove what it finds.
func Misplaced(address netaddr.Address) *read.OthersError {
	if !address.IsUnix() {
		return nil
	}
	others, _ := errors.AsType[*read.OthersError](read.OnlyRoots(filepath.Dir(address.Path())))
	return others
}

// Elsewhere says that of such an address, and what an instance is to listen on instead.
func Elsewhere(address netaddr.Address, others *read.OthersError, name instance.Name) string {
	return fmt.Sprintf("others than root decide what lies at the path of %s (%s %s), and systemd, which makes and removes the file there, is root: "+
		"name a path in listen whose folders are root's alone, such as unix:/run/%s.sock", address, others.At, others.Why, name.Directory())
}

// Bindable returns those of the addresses for which this kernel has sockets, and those for which it has none: without IPv6
// (ipv6.disable=1, some sandboxes) systemd leaves the line of such an address out, or refuses the whole socket unit for it.
func Bindable(addresses []netaddr.Address) (can, cannot []netaddr.Address) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	if !errors.Is(err, unix.EAFNOSUPPORT) {
		return addresses, nil
	}
	for _, address := range addresses {
		if !address.Addr().Is6() {
			can = append(can, address)
		} else {
			cannot = append(cannot, address)
		}
	}
	return can, cannot
}
