package doctor

import (
	"bytes"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/systemd"
)

// What a kernel may lack, each with the release that brought it.
const (
	pidfdOpen     = "pidfd_open (Linux 5.3)"
	cloneInto     = "clone3 into a control group (Linux 5.7)"
	cgroupKill    = "cgroup.kill (Linux 5.14)"
	cgroup2       = "cgroup2 (mounted on /sys/fs/cgroup or /sys/fs/cgroup/unified)"
	seccompNotify = "seccomp user notification (Linux 5.0), which worker.handoff asks for"
)

// kernel tries what the launcher needs: distributions bring features to old releases,
// and containers forbid system calls on new ones, so the release says little.
func (g *gatherer) kernel() {
	f := g.facts
	var name unix.Utsname
	if err := unix.Uname(&name); err == nil {
		f.Kernel = string(name.Release[:max(0, bytes.IndexByte(name.Release[:], 0))])
	}
	_, lacking := systemd.Bindable([]netip.AddrPort{netip.AddrPortFrom(netip.IPv6Loopback(), 1)})
	f.NoIPv6 = len(lacking) > 0
	if fd, err := unix.PidfdOpen(os.Getpid(), 0); err == nil {
		unix.Close(fd)
	} else {
		f.KernelLacks = append(f.KernelLacks, pidfdOpen)
	}
	if !hasCloneInto() {
		f.KernelLacks = append(f.KernelLacks, cloneInto)
	}
	switch mount := cgroup2Mount(); {
	case mount == "":
		f.KernelLacks = append(f.KernelLacks, cgroup2)
	case !hasCgroupKill(mount):
		f.KernelLacks = append(f.KernelLacks, cgroupKill)
	}
	content, err := os.ReadFile("/proc/sys/net/core/somaxconn")
	if err == nil {
		f.Somaxconn, err = strconv.Atoi(strings.TrimSpace(string(content)))
	}
	if err != nil {
		g.unknown("net.core.somaxconn is not known: %v", err)
	}
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

// hasSeccompNotify asks seccomp(2) for the action. What else the handoff needs,
// SECCOMP_IOCTL_NOTIF_ADDFD, came with Linux 5.9, before cgroup.kill.
func hasSeccompNotify() bool {
	const getActionAvail = 2 // SECCOMP_GET_ACTION_AVAIL of linux/seccomp.h
	action := uint32(unix.SECCOMP_RET_USER_NOTIF)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, getActionAvail, 0, uintptr(unsafe.Pointer(&action)))
	return errno == 0
}
