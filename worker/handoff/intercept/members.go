package intercept

import (
	"bytes"
	"errors"
	"fmt"
	"os"
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

// whyUnseen says of a thread that cannot be looked into why that may be, and what helps.
func whyUnseen(tid int) string {
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", tid))
	who := fmt.Sprintf("cannot look into process %d (%s)", tid, bytes.TrimSpace(name))
	if scope, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); err == nil && strings.TrimSpace(string(scope)) > "1" {
		return fmt.Sprintf("%s, because kernel.yama.ptrace_scope is %s: set it to 1 (sysctl), or take another worker.handoff", who, bytes.TrimSpace(scope))
	}
	return who + ": its program may be executed and not read, or it forbids it (PR_SET_DUMPABLE), or it is another user's: let the launcher's user read the program, or take another worker.handoff"
}
