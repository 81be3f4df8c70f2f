package sockdiag

import (
	"context"
	"slices"
	"strconv"

	"openclaw-gateway/netaddr"
)

// AnyAccepted reports whether one of the processes has an accepted connection of one of the addresses, as far as their
// descriptors can be seen in the time that ctx gives.
func AnyAccepted(ctx context.Context, addresses []netaddr.Address, pids ...int) (bool, error) {
	count, err := accepted(ctx, addresses, true, pids)
	return count > 0, err
}

// Accepted counts those.
func Accepted(ctx context.Context, addresses []netaddr.Address, pids ...int) (int, error) {
	return accepted(ctx, addresses, false, pids)
}

func accepted(ctx context.Context, addresses []netaddr.Address, any bool, pids []int) (int, error) {
	wanted := map[string]uint64{}
	for _, port := range portsOf(addresses) {
		entries, err := findOn(1<<tcpEstablished|1<<tcpCloseWait, port)
		if err != nil {
			return 0, err
		}
		for _, e := range entries {
			// One that nobody has accepted has no inode.
			if e.Inode != 0 && slices.ContainsFunc(addresses, e.reaches) {
				wanted["socket:["+strconv.FormatUint(e.Inode, 10)+"]"] = e.Inode
			}
		}
	}
	for _, address := range addresses {
		if !address.IsUnix() {
			continue
		}
		entries, err := unixOn(1<<tcpEstablished, address.Path())
		if err != nil {
			return 0, err
		}
		for _, e := range entries {
			wanted["socket:["+strconv.FormatUint(e.Inode, 10)+"]"] = e.Inode
		}
	}
	seen := map[string]bool{} // several may have the same one
	for _, pid := range pids {
		// One that has ended meanwhile has none.
		found, err := Descriptors(ctx, pid, wanted)
		if err != nil {
			continue
		}
		for socket := range found {
			seen[socket] = true
		}
		if any && len(seen) > 0 {
			break
		}
	}
	return len(seen), nil
}
