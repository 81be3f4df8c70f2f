package sockdiag

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
)

// AnyAccepted reports whether one of the processes has an accepted connection of one of the addresses, as far as their
// descriptors can be seen in the time that ctx gives.
func AnyAccepted(ctx context.Context, addresses []netip.AddrPort, pids ...int) (bool, error) {
	wanted := map[string]uint64{}
	for _, port := range portsOf(addresses) {
		entries, err := findOn(1<<tcpEstablished|1<<tcpCloseWait, port)
		if err != nil {
			return false, err
		}
		for _, e := range entries {
			// One that nobody has accepted has no inode.
			if e.Inode != 0 && slices.ContainsFunc(addresses, e.reaches) {
				wanted["socket:["+strconv.FormatUint(e.Inode, 10)+"]"] = e.Inode
			}
		}
	}
	for _, pid := range pids {
		// One that has ended meanwhile has none.
		if found, err := Descriptors(ctx, pid, wanted); err == nil && len(found) > 0 {
			return true, nil
		}
	}
	return false, nil
}
