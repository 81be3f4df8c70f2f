package holders

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"openclaw-gateway/listener/sockdiag"
)

const (
	// lookLimit is how long one look into the descriptors of all processes may take. A machine with thousands of processes
	// needs some 100 ms; one user alone can have millions of descriptors, which take a minute.
	lookLimit = 1500 * time.Millisecond
	// closerLimit is the same for all that is looked at once more of those who have been found, together.
	closerLimit = 500 * time.Millisecond
)

// open returns, for each inode, the processes that have it open, without their roles, in the order of their PIDs. Threads are not looked at: they
// share the descriptors of their process. Owners are the users who have made the sockets: their processes come first.
//
// Unseen is how many processes could not be looked into: it takes the same user and no lesser capabilities, or
// CAP_SYS_PTRACE (proc(5), ptrace(2)); and time, see lookLimit. As long as it is not 0 there may be more holders than those returned. A process
// in another PID namespace is neither found nor counted.
func open(ctx context.Context, inodes []uint64, owners ...uint32) (byInode map[uint64][]Holder, unseen int, err error) {
	all, err := procfs.AllProcs()
	if err != nil {
		return nil, 0, fmt.Errorf("list the processes: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	return among(ctx, all, inodes, owners...)
}

func among(ctx context.Context, processes procfs.Procs, inodes []uint64, owners ...uint32) (byInode map[uint64][]Holder, unseen int, err error) {
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
	for i, s := range lookInto(ctx, processes, wanted, owners) {
		switch err := s.err; {
		case err == nil:
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH):
			continue // it has ended
		case errors.Is(err, fs.ErrPermission), errors.Is(err, errUnseen), ctx.Err() != nil && errors.Is(err, ctx.Err()):
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

var errUnseen = errors.New("there was no time to look")

// besides is how many users' processes are looked into at a time.
const besides = 64

// lookInto looks into all processes: nearly all of it is time in the kernel, which takes a few microseconds for each
// descriptor. Those of the owners and of root, whose the managers are, come first. The users are looked into side by side,
// so that the descriptors of one take no time from the others, and those that a user makes for himself (subuid(5)), with
// the highest numbers, last.
func lookInto(ctx context.Context, processes procfs.Procs, wanted map[string]uint64, owners []uint32) []sight {
	sights := make([]sight, len(processes))
	first, others := map[uint32][]int{}, map[uint32][]int{}
	for i, process := range processes {
		sights[i].err = errUnseen
		info, err := os.Stat(filepath.Join("/proc", strconv.Itoa(process.PID)))
		if err != nil {
			sights[i].err = err
			continue
		}
		// Root also where the process is not dumpable, proc(5).
		uid := info.Sys().(*syscall.Stat_t).Uid
		if uid == 0 || slices.Contains(owners, uid) {
			first[uid] = append(first[uid], i)
		} else {
			others[uid] = append(others[uid], i)
		}
	}
	for _, users := range []map[uint32][]int{first, others} {
		var looking sync.WaitGroup
		places := make(chan struct{}, besides)
		for _, uid := range slices.Sorted(maps.Keys(users)) {
			var next atomic.Int64
			theirs := users[uid]
			for range min(runtime.GOMAXPROCS(0), len(theirs)) {
				places <- struct{}{}
				looking.Go(func() {
					defer func() { <-places }()
					for ctx.Err() == nil {
						i := int(next.Add(1)) - 1
						if i >= len(theirs) {
							return
						}
						pid, s := processes[theirs[i]].PID, &sights[theirs[i]]
						if s.found, s.err = sockdiag.Descriptors(ctx, pid, wanted); s.err == nil && len(s.found) > 0 {
							s.holder, s.err = describe(pid)
							if s.err == nil && ending(s.holder) {
								s.err = fs.ErrNotExist
							}
						}
					}
				})
			}
		}
		looking.Wait()
	}
	return sights
}

// ending reports whether a process has given up its memory (exit_mm in the kernel's do_exit), after which it closes its descriptors: of
// a large one that takes some milliseconds, in which nobody can tell what it was.
func ending(h Holder) bool {
	if len(h.Argv) > 0 {
		return false
	}
	_, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", h.PID))
	return errors.Is(err, fs.ErrNotExist)
}

const (
	// decideLimit is how long it may take to say what the processes of one user are: thousands can have one socket open.
	decideLimit = 750 * time.Millisecond
	// decideAllLimit is the same for all users but root together.
	decideAllLimit = 2 * time.Second
)

// decideAll says what holders are, and returns those for whom there was no time. Those of root come first, then the users by
// number, so that those that a user makes for himself come last.
func (l *look) decideAll(ctx context.Context, byInode map[uint64][]Holder) (undecided map[int]bool) {
	all := map[int]Holder{}
	for _, having := range byInode {
		for _, h := range having {
			all[h.PID] = h
		}
	}
	undecided = map[int]bool{}
	for _, h := range slices.SortedFunc(maps.Values(all), func(a, b Holder) int {
		return cmp.Or(cmp.Compare(a.UID, b.UID), cmp.Compare(a.PID, b.PID))
	}) {
		if h.UID != 0 && (l.spent[h.UID] >= decideLimit || l.spentAll >= decideAllLimit) {
			undecided[h.PID] = true
			continue
		}
		start := time.Now()
		l.decide(ctx, &h)
		if took := time.Since(start); h.UID != 0 {
			l.spent[h.UID] += took
			l.spentAll += took
		}
	}
	return undecided
}
