package holders

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"openclaw-gateway/listener/sockdiag"
)

// open returns, for each inode, the processes that have it open, without their roles, in the order of their PIDs. Threads are not looked at: they
// share the descriptors of their process.
//
// Unseen is how many processes could not be looked into: it takes the same user and no lesser capabilities, or
// CAP_SYS_PTRACE (proc(5), ptrace(2)). As long as it is not 0 there may be more holders than those returned. A process
// in another PID namespace is neither found nor counted.
func open(inodes ...uint64) (byInode map[uint64][]Holder, unseen int, err error) {
	all, err := procfs.AllProcs()
	if err != nil {
		return nil, 0, fmt.Errorf("list the processes: %w", err)
	}
	return among(all, inodes)
}

func among(processes procfs.Procs, inodes []uint64) (byInode map[uint64][]Holder, unseen int, err error) {
	byInode = make(map[uint64][]Holder, len(inodes))
	wanted := make(map[string]uint64, len(inodes))
	for _, inode := range inodes {
		if inode != 0 { // a socket that belongs to no file: still in an accept queue, or in TIME_WAIT
			wanted[fmt.Sprintf("socket:[%d]", inode)] = inode
		}
	}
	if len(wanted) == 0 {
		return byInode, 0, nil
	}

	slices.SortFunc(processes, func(a, b procfs.Proc) int { return a.PID - b.PID })
	if len(processes) == 0 || processes[0].PID != 1 {
		unseen++ // mounted with hidepid=, proc(5): what is hidden cannot be counted, but PID 1 always exists
	}
	for i, s := range lookInto(processes, wanted) {
		switch err := s.err; {
		case err == nil:
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH):
			continue // it has ended
		case errors.Is(err, fs.ErrPermission):
			unseen++
			continue
		default:
			return nil, 0, fmt.Errorf("look into process %d: %w", processes[i].PID, err)
		}
		for link, path := range s.found {
			// Looked at again: between the two the process may have ended, and another have got its number.
			if now, _ := os.Readlink(path); now == link {
				byInode[wanted[link]] = append(byInode[wanted[link]], s.holder)
			}
		}
	}
	return byInode, unseen, nil
}

// sight is what was found in a process.
type sight struct {
	found  map[string]string
	holder Holder // only where something was found
	err    error
}

// lookInto looks into all processes, on all processors: nearly all of it is time in the kernel, which takes a few
// microseconds for each descriptor.
func lookInto(processes procfs.Procs, wanted map[string]uint64) []sight {
	sights := make([]sight, len(processes))
	var next atomic.Int64
	var looking sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		looking.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(processes) {
					return
				}
				s := &sights[i]
				if s.found, s.err = sockdiag.Descriptors(processes[i].PID, wanted); s.err == nil && len(s.found) > 0 {
					s.holder, s.err = describe(processes[i].PID)
				}
			}
		})
	}
	looking.Wait()
	return sights
}
