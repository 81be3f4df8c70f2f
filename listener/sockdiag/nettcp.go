package sockdiag

import (
	"errors"
	"io/fs"
	"net/netip"

	"openclaw-gateway/netaddr"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// netTCP reads the same from /proc/net/tcp and tcp6. These list every socket of the machine and know neither the backlog
// nor IPV6_V6ONLY, so they serve only where sock_diag does not: its kernel module cannot be loaded when the running
// kernel's package has been replaced, and a unit can forbid AF_NETLINK.
func netTCP(family uint8, states uint32, port uint16) ([]entry, error) {
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return nil, err
	}
	//lint:ignore SA1019 deprecated in favour of sock_diag, for which this is the substitute
	read := proc.NetTCP
	if family == unix.AF_INET6 {
		//lint:ignore SA1019 as above
		read = proc.NetTCP6
	}
	lines, err := read()
	if errors.Is(err, fs.ErrNotExist) && family == unix.AF_INET6 {
		return nil, nil // a kernel without IPv6
	}
	if err != nil {
		return nil, err
	}
	var entries []entry
	for _, line := range lines {
		ip, ok := netip.AddrFromSlice(line.LocalAddr)
		other, known := netip.AddrFromSlice(line.RemAddr)
		if !ok || !known || (port != 0 && line.LocalPort != uint64(port)) || states&(1<<line.St) == 0 {
			continue
		}
		e := entry{
			Socket: Socket{Address: netaddr.From(ip.Unmap(), uint16(line.LocalPort)), Inode: line.Inode, UID: uint32(line.UID)},
			ipv6:   family == unix.AF_INET6,
			state:  uint8(line.St),
			remote: netaddr.From(other.Unmap(), uint16(line.RemPort)),
		}
		if line.St == tcpListen {
			e.Queued = int(line.RxQueue)
		}
		entries = append(entries, e)
	}
	return entries, nil
}
