// Package kernel tries what the launcher needs of the kernel: distributions bring features to old releases, and containers
// forbid system calls on new ones, so the release says little.
package kernel

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What a kernel may lack, each with the release that brought it.
const (
	PidfdOpen     = "pidfd_open (Linux 5.3)"
	CloneInto     = "clone3 into a control group (Linux 5.7)"
	CgroupKill    = "cgroup.kill (Linux 5.14)"
	Cgroup2       = "cgroup2 (mounted on /sys/fs/cgroup or /sys/fs/cgroup/unified)"
	SeccompNotify = "seccomp user notification (Linux 5.0), which worker.handoff asks for"
)

// Release is that of the kernel, uname(2); "" where it does not say.
func Release() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return ""
	}
	return string(name.Release[:max(0, bytes.IndexByte(name.Release[:], 0))])
}

// Lacks tries what the launcher needs, and returns what is not there.
func Lacks() (lacking []string) {
	if fd, err := unix.PidfdOpen(os.Getpid(), 0); err == nil {
		unix.Close(fd)
	} else {
		lacking = append(lacking, PidfdOpen)
	}
	if !hasCloneInto() {
		lacking = append(lacking, CloneInto)
	}
	switch mount := cgroup2Mount(); {
	case mount == "":
		lacking = append(lacking, Cgroup2)
	case !hasCgroupKill(mount):
		lacking = append(lacking, CgroupKill)
	}
	return lacking
}

// Somaxconn is net.core.somaxconn, the longest queue of a listening socket.
func Somaxconn() (int, error) {
	content, err := os.ReadFile("/proc/sys/net/core/somaxconn")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(content)))
}

// hasCloneInto asks for a clone into a control group by a descriptor that cannot be
// open: a kernel that knows the flag says EBADF (cgroup_css_set_fork in
// kernel/cgroup/cgroup.c), one that does not E2BIG or EINVAL, and one without clone3
// ENOSYS. Nothing is ever cloned.
func hasCloneInto() bool {
	arguments := struct { // struct clone_args of linux/sched.h
		Flags, Pidfd, ChildTID, ParentTID, ExitSignal, Stack, StackSize, TLS, SetTID, SetTIDSize, Cgroup uint64
	}{Flags: unix.CLONE_INTO_CGROUP, ExitSignal: uint64(unix.SIGCHLD), Cgroup: 1<<31 - 1}
	_, _, errno := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&arguments)), unsafe.Sizeof(arguments), 0)
	runtime.KeepAlive(&arguments)
	return errno == unix.EBADF
}

func cgroup2Mount() string {
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var stat unix.Statfs_t
		if err := unix.Statfs(mount, &stat); err == nil && stat.Type == unix.CGROUP2_SUPER_MAGIC {
			return mount
		}
	}
	return ""
}

// hasCgroupKill reports whether control groups have the file; the root has not. Where
// there is none but the root it takes yes for an answer.
func hasCgroupKill(mount string) bool {
	groups, err := filepath.Glob(filepath.Join(mount, "*", "cgroup.procs"))
	if err != nil || len(groups) == 0 {
		return true
	}
	_, err = os.Stat(filepath.Join(filepath.Dir(groups[0]), "cgroup.kill"))
	return !errors.Is(err, fs.ErrNotExist)
}

// HasSeccompNotify asks seccomp(2) for the action. What else the handoff needs,
// SECCOMP_IOCTL_NOTIF_ADDFD, came with Linux 5.9, before cgroup.kill.
func HasSeccompNotify() bool {
	const getActionAvail = 2 // SECCOMP_GET_ACTION_AVAIL of linux/seccomp.h
	action := uint32(unix.SECCOMP_RET_USER_NOTIF)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, getActionAvail, 0, uintptr(unsafe.Pointer(&action)))
	return errno == 0
}
