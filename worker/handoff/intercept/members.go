package intercept

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// opens reports whether a process has a socket open, at another descriptor than the first ones that it was passed. It looks at no more
// than are left to look at. blind says that it may have it: it cannot be looked into.
func opens(process int, inode uint64, passed int, left *int) (found, blind bool) {
	folder := fmt.Sprintf("/proc/%d/fd", process)
	directory, err := os.Open(folder)
	if err != nil {
		return false, errors.Is(err, os.ErrPermission)
	}
	defer directory.Close()
	for *left > 0 {
		names, err := directory.Readdirnames(min(256, *left))
		if err != nil {
			return false, false
		}
		*left -= len(names)
		for _, name := range names {
			if fd, err := strconv.Atoi(name); err != nil || fd >= 3 && fd < 3+passed {
				continue
			}
			if link, err := os.Readlink(folder + "/" + name); err == nil && inodeOf(link) == inode {
				return true, false
			}
		}
	}
	return false, true
}

// listens reports whether the kernel has a socket of TCP among those that listen in the network of this process. A descriptor goes
// a moment before its socket does, and of a process that ends all of them go long before the last of their sockets.
func listens(inode uint64) bool {
	return slices.ContainsFunc([]string{"tcp", "tcp6"}, func(table string) bool { // proc_pid_net(5)
		file, err := os.Open("/proc/thread-self/net/" + table)
		if err != nil { // no IPv6
			return false
		}
		defer file.Close()
		lines := bufio.NewScanner(file)
		lines.Scan() // the heading
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			if len(fields) < 10 || fields[3] != listening { // these stand first
				return false
			}
			if fields[9] == strconv.FormatUint(inode, 10) {
				return true
			}
		}
		return false
	})
}

// listening is TCP_LISTEN of linux/net/tcp_states.h.
const listening = "0A"

// parentWith is the parent of a process if that has a socket open as well; 0: it has not.
func parentWith(process int, inode uint64) int {
	parent, err := status(process, "PPid")
	if err != nil || parent == os.Getpid() {
		return 0
	}
	left := mostPlaces
	if found, _ := opens(parent, inode, 0, &left); !found {
		return 0
	}
	return parent
}

// whyOfTwo says why a process gets no held socket that binds its parent's: that could not be exchanged, and listens on it.
func whyOfTwo(process, parent int) string {
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", process))
	return fmt.Sprintf("process %d (%s) binds a socket that process %d has made, which would not get the held one: let the program bind its address itself (without authbind, for one), or take another worker.handoff",
		process, bytes.TrimSpace(name), parent)
}

// whyUnseen says of a thread that cannot be looked into why that may be, and what helps.
func whyUnseen(tid int) string {
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", tid))
	who := fmt.Sprintf("cannot look into process %d (%s), which may want to bind what is held", tid, bytes.TrimSpace(name))
	if scope, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); err == nil && strings.TrimSpace(string(scope)) > "1" {
		return fmt.Sprintf("%s, because kernel.yama.ptrace_scope is %s: set it to 1 (sysctl), or take another worker.handoff", who, bytes.TrimSpace(scope))
	}
	return who + ": its program may be executed and not read, or it forbids it (PR_SET_DUMPABLE), or it is another user's: let the launcher's user read the program, or take another worker.handoff"
}
