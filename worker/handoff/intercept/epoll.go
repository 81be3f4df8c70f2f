package intercept

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// place is a descriptor of the caller's for the socket that is exchanged. There are more than one where it was duplicated before the
// bind: on any of them it may be listened.
type place struct {
	fd      int
	cloexec bool
	watches []watch
}

// watch is an epoll set that watches the socket which is exchanged: it was put there before the bind, as Netty's native transport
// does. The kernel drops it with the last descriptor of that socket, and the program would wait for ever.
type watch struct {
	set    int // the descriptor, the caller's
	events uint32
	data   uint64
}

// placesOf finds those of a socket in a process, the one that a thread has named first.
func placesOf(process, tid, named int, inode uint64) ([]place, error) {
	cloexec, err := closesOnExec(tid, named)
	if err != nil {
		return nil, err
	}
	all := []place{{fd: named, cloexec: cloexec}}
	folder := fmt.Sprintf("/proc/%d/fd", process)
	directory, err := os.Open(folder)
	if err != nil {
		return all, nil
	}
	defer directory.Close()
	names, _ := directory.Readdirnames(mostPlaces)
	var sets []int
	for _, name := range names {
		fd, fdErr := strconv.Atoi(name)
		link, err := os.Readlink(folder + "/" + name)
		switch {
		case fdErr != nil || err != nil:
		case link == "anon_inode:[eventpoll]":
			sets = append(sets, fd)
		case fd != named && inodeOf(link) == inode:
			if cloexec, err := closesOnExec(process, fd); err == nil {
				all = append(all, place{fd: fd, cloexec: cloexec})
			}
		}
	}
	at := map[int]*place{}
	for i := range all {
		at[all[i].fd] = &all[i]
	}
	for _, set := range sets { // each read once: a set may watch as many as there are sets
		watchesOf(process, set, inode, func(fd int, w watch) {
			if p := at[fd]; p != nil {
				p.watches = append(p.watches, w)
			}
		})
	}
	return all, nil
}

// mostPlaces is how many descriptors are looked at: a server that binds has few yet.
const mostPlaces = 1024

// watchesOf finds those that a set has of a socket, each with its descriptor, proc_pid_fdinfo(5). It may have one of another file besides
// that was at the same number: a child has that open still. The kernel waits for who is in epoll_wait(2), and that one's memory perhaps.
func watchesOf(process, set int, inode uint64, found func(fd int, w watch)) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", process, set))
	if err != nil {
		return
	}
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) < 8 || fields[0] != "tfd:" || fields[7] != "ino:"+strconv.FormatUint(inode, 16) {
			continue
		}
		fd, fdErr := strconv.Atoi(fields[1])
		events, eventsErr := strconv.ParseUint(fields[3], 16, 32)
		data, dataErr := strconv.ParseUint(fields[5], 16, 64)
		if errors.Join(fdErr, eventsErr, dataErr) == nil {
			found(fd, watch{set, uint32(events), data})
		}
	}
}

// rewatch has the sets of a process watch the held socket, which is in the places.
func (h *held) rewatch(pidfd int, at []place) {
	_ = h.use(func(ours int) error {
		for _, p := range at {
			for _, watch := range p.watches {
				_ = watch.restore(pidfd, p.fd, ours) // it was there for nobody but who looks for it
			}
		}
		return nil
	})
}

// restore has the set watch the held socket under the number that it has in the caller: from a thread with a table of descriptors of its
// own, in which the held socket has that number.
func (w watch) restore(pidfd, fd, held int) error {
	result := make(chan error)
	go func() {
		// Never unlocked: the thread ends here, and the table with it. The process's first one is main's, in the launcher.
		runtime.LockOSThread()
		result <- func() error {
			// What unshare(2) does as well, which containers forbid.
			if err := unix.CloseRange(math.MaxUint32, math.MaxUint32, unix.CLOSE_RANGE_UNSHARE); err != nil {
				return err
			}
			set, err := unix.PidfdGetfd(pidfd, w.set, 0)
			if err != nil {
				return err
			}
			if set == fd { // out of the way
				if set, err = unix.FcntlInt(uintptr(set), unix.F_DUPFD_CLOEXEC, fd+1); err != nil {
					return err
				}
			}
			if held != fd {
				if err := unix.Dup3(held, fd, unix.O_CLOEXEC); err != nil {
					return err
				}
			}
			event := unix.EpollEvent{Events: w.events, Fd: int32(uint32(w.data)), Pad: int32(uint32(w.data >> 32))}
			return unix.EpollCtl(set, unix.EPOLL_CTL_ADD, fd, &event)
		}()
	}()
	return <-result
}
