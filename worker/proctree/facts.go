package proctree

import (
	"bytes"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// Now is the present moment as Start has it; 0 where the kernel does not say.
func Now() uint64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0
	}
	return uint64(now.Nano()) / (uint64(time.Second) / userHZ)
}

// Since is when the process started, to the second: the clocks that lead there are read one after the other, and the
// answer should be the same each time.
func (p Process) Since() time.Time {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return time.Time{}
	}
	boot := time.Now().Add(-time.Duration(now.Nano()))
	return boot.Add(time.Duration(p.Start) * time.Second / userHZ).Round(time.Second)
}

// userHZ is the clock ticks in a second of Start: 100 on every architecture that Go has (USER_HZ, time(7)).
const userHZ = 100

// UID is the effective user of a process.
func UID(pid int) (uint32, error) {
	uids, err := UIDs(pid)
	return uint32(uids[1]), err
}

// UIDs are the real, effective, saved and file system user of a process. Of one that has executed a program of somebody else's
// (setuid) they differ, and whoever the real one is has chosen its arguments.
func UIDs(pid int) ([4]uint64, error) {
	process, err := procfs.NewProc(pid)
	if err != nil {
		return [4]uint64{}, err
	}
	status, err := process.NewStatus()
	return status.UIDs, err
}

// What is read of what a process was started with, in bytes. The arguments are for telling what it is; of both together
// execve(2) takes 2 MiB under the usual limit of the stack. There is no end to them otherwise: a process may point the
// kernel at any of its memory instead (PR_SET_MM_MAP in PR_SET_MM(2const), for which it needs no privilege).
const (
	argvLimit    = 128 << 10
	environLimit = 2 << 20
)

// Argv is as the process gives it, and may hold secrets; nil where it has ended or erased it, or where
// the kernel does not answer. Of a longer one than 128 KiB it
// is the beginning.
func Argv(pid int) []string {
	content, err := head(pid, "cmdline", argvLimit)
	if err != nil || len(content) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(content), "\x00"), "\x00")
}

// Cgroup returns the control group of a process, as systemd names it: the path in the unified hierarchy, or in systemd's
// own where that is empty; "" when the process has gone.
func Cgroup(pid int) string {
	process, err := procfs.NewProc(pid)
	if err != nil {
		return ""
	}
	cgroups, _ := process.Cgroups() // none when it goes meanwhile
	return cgroupPath(cgroups)
}

// cgroupPath chooses the line of /proc/PID/cgroup that systemd goes by, cgroups(7). On a hybrid host the v1 line
// name=systemd stands beside "0::"; with v1 alone there is no "0::", or one that nobody uses, "0::/".
func cgroupPath(cgroups []procfs.Cgroup) string {
	found := ""
	for _, c := range cgroups {
		path := strings.TrimSuffix(c.Path, " (deleted)")
		switch {
		case c.HierarchyID == 0 && path != "/":
			return path
		case c.HierarchyID == 0 && found == "", slices.Contains(c.Controllers, "name=systemd"):
			found = path
		}
	}
	return found
}

// UnitOf returns the innermost unit in a cgroup's path, and whether it belongs to the manager of a user, which itself is
// the system's unit user@UID.service. A delegated unit has cgroups of its own below it, which are no units.
func UnitOf(path string) (unit string, user bool) {
	within := false
	for part := range strings.SplitSeq(path, "/") {
		if !strings.HasSuffix(part, ".service") && !strings.HasSuffix(part, ".scope") && !strings.HasSuffix(part, ".socket") {
			continue
		}
		// systemd puts "_" before a name that the kernel would take for a file of its own (cg_escape).
		unit, user = strings.TrimPrefix(part, "_"), within
		within = within || strings.HasPrefix(part, "user@")
	}
	return unit, user
}

// Service returns the service whose control group a process is in, the last one on its path; "" for none, and for a
// process that has ended.
func Service(pid int) string {
	service := ""
	for part := range strings.SplitSeq(Cgroup(pid), "/") {
		if strings.HasSuffix(part, ".service") {
			service = part
		}
	}
	return service
}

// Ancestry yields a process and those that it descends from, one after the other, as far as they live; not PID 1.
func Ancestry(pid int) iter.Seq[Process] {
	return func(yield func(Process) bool) {
		for pid > 1 {
			process, err := Find(pid)
			if err != nil || !yield(process) {
				return
			}
			pid = process.PPID
		}
	}
}

// Descends reports whether a process is another, or descends from it; not of PID 1.
func Descends(pid, from int) bool {
	for ancestor := range Ancestry(pid) {
		if ancestor.PID == from {
			return true
		}
	}
	return false
}

// Environ returns the environment with which a process was started, entries that end with NUL; of a longer one than 2 MiB the
// beginning.
func Environ(pid int) ([]byte, error) { return head(pid, "environ", environLimit) }

// Variable returns a variable with which a process was started. One that may not
// be looked into has none.
func Variable(pid int, key string) (value string, ok bool) {
	environ, err := Environ(pid)
	if err != nil {
		return "", false
	}
	for entry := range bytes.SplitSeq(environ, []byte{0}) {
		if value, found := bytes.CutPrefix(entry, []byte(key+"=")); found {
			return string(value), true
		}
	}
	return "", false
}

// ExecutedBySystemd reports whether a service manager executed this very process (SYSTEMD_EXEC_PID, systemd.exec(5)): a
// shell in a systemd session has many of a service's other variables too.
func ExecutedBySystemd() bool { return os.Getenv("SYSTEMD_EXEC_PID") == strconv.Itoa(os.Getpid()) }

// Elsewhere reports whether a process is in another namespace than this one; kind is as in namespaces(7), "pid" or "net".
func Elsewhere(pid int, kind string) (bool, error) {
	own, err := os.Readlink("/proc/self/ns/" + kind)
	if err != nil {
		return false, fmt.Errorf("look for the own namespace: %w", err)
	}
	theirs, err := os.Readlink(file(pid, "ns/"+kind))
	if err != nil {
		return false, fmt.Errorf("look for the namespace of process %d: %w", pid, err)
	}
	return theirs != own, nil
}

func file(pid int, name string) string { return filepath.Join("/proc", strconv.Itoa(pid), name) }

// Stopped reports whether a process was stopped by a signal, as with Ctrl-Z.
func Stopped(pid int) bool {
	process, err := procfs.NewProc(pid)
	if err != nil {
		return false
	}
	stat, err := process.Stat()
	return err == nil && stat.State == "T"
}
