package holders

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/prometheus/procfs"

	"openclaw-gateway/listener/sockdiag"
)

// ListensOn returns the addresses on which the process pid or one that descends
// from it listens, as far as their descriptors can be seen.
func ListensOn(pid int) ([]netip.AddrPort, error) {
	sockets, err := sockdiag.Everywhere()
	if err != nil {
		return nil, err
	}
	wanted := map[string]uint64{}
	for _, socket := range sockets {
		wanted["socket:["+strconv.FormatUint(socket.Inode, 10)+"]"] = socket.Inode
	}
	processes, err := procfs.AllProcs()
	if err != nil {
		return nil, fmt.Errorf("look for the processes below %d: %w", pid, err)
	}
	parent := map[int]int{}
	for _, process := range processes {
		// One that has ended meanwhile listens nowhere.
		if stat, err := process.Stat(); err == nil {
			parent[process.PID] = stat.PPID
		}
	}
	open := map[uint64]bool{}
	for _, process := range processes {
		ancestor := process.PID
		for ancestor > 1 && ancestor != pid {
			ancestor = parent[ancestor]
		}
		if ancestor != pid {
			continue
		}
		found, err := descriptors(process.PID, wanted)
		if err != nil {
			continue
		}
		for name := range found {
			open[wanted[name]] = true
		}
	}
	var addresses []netip.AddrPort
	for _, socket := range sockets {
		if open[socket.Inode] {
			addresses = append(addresses, socket.Address)
		}
	}
	return addresses, nil
}
