package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"openclaw-gateway/worker/proctree"
)

// ErrNotDelegated says that this process may not make control groups: it was
// started by hand, or its unit lacks Delegate=yes.
var ErrNotDelegated = errors.New("no control group has been delegated to this process")

// Group is a directory in the cgroup2 hierarchy.
type Group struct {
	path string
}

// LauncherName is the group that the launcher moves into, below the delegated one.
const LauncherName = "launcher"

// Delegated returns the control group that was delegated to the unit of this
// process; systemd marks it with an extended attribute (systemd.resource-control(5)
// calls it user.delegate, "trusted." before version 251).
func Delegated() (*Group, error) {
	mount, err := mountPoint()
	if err != nil {
		return nil, err
	}
	self, err := procfs.Self()
	if err != nil {
		return nil, err
	}
	lines, err := self.Cgroups()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(lines, func(line procfs.Cgroup) bool { return line.HierarchyID == 0 })
	if i < 0 {
		return nil, ErrNotDelegated
	}
	path := filepath.Join(mount, lines[i].Path)
	candidates := []string{path}
	// A unit with DelegateSubgroup= starts its process one level below; anybody else
	// there is in the group of somebody who divides it, a container engine perhaps.
	if proctree.ExecutedBySystemd() || filepath.Base(path) == LauncherName {
		candidates = append(candidates, filepath.Dir(path))
	}
	for _, candidate := range candidates {
		if delegated(candidate) || ofUserManager(candidate) {
			return &Group{path: candidate}, nil
		}
	}
	return nil, ErrNotDelegated
}

// ofUserManager reports whether path is the control group of a service whose
// process this is, below a user's manager, which marks nothing (seen with systemd
// 252 and 257). All below the manager's own group, which is marked, is the
// user's to divide; a terminal's group there is not this process's, and it was
// not systemd that executed the process in it (SYSTEMD_EXEC_PID, systemd.exec(5)).
func ofUserManager(path string) bool {
	if !strings.HasSuffix(path, ".service") || !proctree.ExecutedBySystemd() {
		return false
	}
	manager := fmt.Sprintf("user@%d.service", os.Geteuid())
	for above := filepath.Dir(path); above != filepath.Dir(above); above = filepath.Dir(above) {
		if filepath.Base(above) == manager {
			return delegated(above)
		}
	}
	return false
}

func delegated(path string) bool {
	value := make([]byte, 8)
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		if n, err := unix.Getxattr(path, name, value); err == nil && string(value[:n]) == "1" {
			return true
		}
	}
	return false
}

// mountPoint finds the unified hierarchy where systemd has it: at /sys/fs/cgroup, or below it where the hierarchies of version 1
// are mounted as well (cg_unified_cached in its src/basic/cgroup-util.c). The list of all mounts is long, and each status asks.
func mountPoint() (string, error) {
	for _, path := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var mounted unix.Statfs_t
		if err := unix.Statfs(path, &mounted); err == nil && mounted.Type == unix.CGROUP2_SUPER_MAGIC {
			return path, nil
		}
	}
	return "", ErrNotDelegated
}

// Make returns the child group of that name, which it makes if need be.
func (g *Group) Make(name string) (*Group, error) {
	child := &Group{path: filepath.Join(g.path, name)}
	if err := os.Mkdir(child.path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make a control group: %w", err)
	}
	return child, nil
}

// Children returns the child groups whose names begin with prefix.
func (g *Group) Children(prefix string) ([]*Group, error) {
	entries, err := os.ReadDir(g.path)
	if err != nil {
		return nil, fmt.Errorf("look for control groups: %w", err)
	}
	var children []*Group
	for _, entry := range entries {
		if entry.IsDir() && strings.HasPrefix(entry.Name(), prefix) {
			children = append(children, &Group{path: filepath.Join(g.path, entry.Name())})
		}
	}
	return children, nil
}

// Name is the last part of the path.
func (g *Group) Name() string { return filepath.Base(g.path) }

// Enter moves this process into the group.
func (g *Group) Enter() error { return g.Add(os.Getpid()) }

// Open returns the directory, for a clone into the group (CLONE_INTO_CGROUP,
// clone(2)).
func (g *Group) Open() (*os.File, error) {
	return os.OpenFile(g.path, unix.O_DIRECTORY|unix.O_PATH, 0)
}

// Births reports whether a process can be born in the group. A seccomp filter may refuse clone3(2), with whatever error number
// it likes: systemd's RestrictNamespaces= says ENOSYS, older container engines EPERM. One that is born there executes what
// is no program, and ends at once: the error of that is one that clone3 does not give.
func (g *Group) Births() bool {
	folder, err := g.Open()
	if err != nil {
		return false
	}
	defer folder.Close()
	_, err = os.StartProcess(os.DevNull+"/none", nil, &os.ProcAttr{
		Sys: &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(folder.Fd())},
	})
	return errors.Is(err, unix.ENOTDIR)
}

// Add moves a process into the group.
func (g *Group) Add(pid int) error {
	if err := os.WriteFile(filepath.Join(g.path, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
		return fmt.Errorf("move process %d into a control group: %w", pid, err)
	}
	return nil
}

// Processes returns the pids of the living processes in the group and below it,
// zombies excluded.
func (g *Group) Processes() ([]int, error) {
	var pids []int
	err := g.walk(func(path string) error {
		content, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		// A group that the worker made can vanish, or be threaded.
		if vanished(err) || errors.Is(err, unix.EOPNOTSUPP) {
			return nil
		}
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(content)) {
			pid, err := strconv.Atoi(strings.TrimSpace(line))
			if err != nil {
				return fmt.Errorf("read %s/cgroup.procs: %w", path, err)
			}
			// 0 is a process of a PID namespace that cannot be seen from here.
			if pid != 0 {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the processes of a control group: %w", err)
	}
	return pids, nil
}

// Kill sends SIGKILL to every process in the group and below it, also to those
// that are being forked meanwhile. A group that has vanished has none.
func (g *Group) Kill() error {
	// Where the file alone is missing, before Linux 5.14, the error is another
	// one: no file can be made there.
	if err := os.WriteFile(filepath.Join(g.path, "cgroup.kill"), []byte("1"), 0); err != nil && !vanished(err) {
		return fmt.Errorf("kill a control group: %w", err)
	}
	return nil
}

// AwaitEmpty returns when no process is left in the group and below it. It
// waits for the kernel to say so (cgroup.events wakes a poller,
// Documentation/admin-guide/cgroup-v2.rst), for at most the given time; then
// the error is ErrPopulated. A group that has vanished is empty.
func (g *Group) AwaitEmpty(bound time.Duration) error {
	deadline := time.Now().Add(bound)
	events, err := os.Open(filepath.Join(g.path, "cgroup.events"))
	if vanished(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wait for the end of a control group: %w", err)
	}
	defer events.Close()
	content := make([]byte, 256)
	for {
		n, err := unix.Pread(int(events.Fd()), content, 0)
		if vanished(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("wait for the end of a control group: %w", err)
		}
		if strings.Contains(string(content[:n]), "populated 0") {
			return nil
		}
		// Not the bound anew: a signal of the Go runtime ends the wait too, and so
		// does a group that is frozen.
		left := max(0, time.Until(deadline))
		woken, err := unix.Poll([]unix.PollFd{{Fd: int32(events.Fd()), Events: unix.POLLPRI}}, int(left.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for the end of a control group: poll: %w", err)
		case woken == 0:
			return ErrPopulated
		}
	}
}

// ErrPopulated says that processes are left in a control group.
var ErrPopulated = errors.New("processes are left in the control group")

// Remove removes the empty group and those below it, deepest first.
func (g *Group) Remove() error {
	var paths []string
	if err := g.walk(func(path string) error {
		paths = append(paths, path)
		return nil
	}); err != nil {
		return fmt.Errorf("remove a control group: %w", err)
	}
	for _, path := range slices.Backward(paths) {
		if err := unix.Rmdir(path); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove the control group %s: %w", path, err)
		}
	}
	return nil
}

// vanished reports whether a file could not be opened, or not be read any more,
// because its group has been removed.
func vanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV)
}

// walk visits the group and those below it, parents first.
func (g *Group) walk(visit func(path string) error) error {
	return filepath.WalkDir(g.path, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case entry.IsDir():
			return visit(path)
		default:
			return nil
		}
	})
}
