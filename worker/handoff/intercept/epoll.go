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

// watch is an epoll set that watches the socket which is exchanged: it was put there before the bind, as Netty's native transport
// does. The kernel drops it with the last descriptor of that socket, and the program would wait for ever.
type watch struct {
	set    int // the descriptor, the caller's
	events uint32
	data   uint64
}

// watchesOf finds those of a socket at a descriptor, proc_pid_fdinfo(5). A set may have one of another file besides that was at the same
// number: a child has that open still.
func watchesOf(process, fd int, inode uint64) (all []watch) {
	folder := fmt.Sprintf("/proc/%d/fd", process)
	directory, err := os.Open(folder)
	if err != nil {
		return nil
	}
	defer directory.Close()
	names, _ := directory.Readdirnames(mostWatching)
	for _, name := range names {
		if link, err := os.Readlink(folder + "/" + name); err != nil || link != "anon_inode:[eventpoll]" {
			continue
		}
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", process, name))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(content)) {
			fields := strings.Fields(line)
			if len(fields) < 8 || fields[0] != "tfd:" || fields[1] != strconv.Itoa(fd) || fields[7] != "ino:"+strconv.FormatUint(inode, 16) {
				continue
			}
			set, setErr := strconv.Atoi(name)
			events, eventsErr := strconv.ParseUint(fields[3], 16, 32)
			data, dataErr := strconv.ParseUint(fields[5], 16, 64)
			if errors.Join(setErr, eventsErr, dataErr) == nil {
				all = append(all, watch{set, uint32(events), data})
			}
		}
	}
	return all
}

// mostWatching is how many descriptors are looked at: a server that binds has few yet.
const mostWatching = 1024

// restore has the set watch the held socket under the number that it has in the caller: from a thread with a table of descriptors of its
// own, in which the held socket has that number.
func (w watch) restore(pidfd, fd, held int) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here, and the table with it
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
