// Package read reads files that others own: a configuration, an environment file, a package.json, a unit file. Whatever lies
// there instead, it neither waits nor reads without end nor touches what is no regular file: a name is opened with O_PATH, which
// reads nothing, and only what has turned out to be a regular file of a bounded size is opened for reading, by its descriptor.
//
// Whoever reads follows links as always, except for root: a link leads root astray when another user has made it. Root follows
// its own, in directories that are its own; from the first directory on that another user can change it follows none.
package read

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// The most bytes that a file may have.
const (
	ConfigLimit  = 8 << 20 // of a configuration or an environment file; the kernel takes 6 MiB of environment at the most (execve(2))
	PackageLimit = 1 << 20 // of a package.json
	UnitLimit    = 1 << 20 // of a unit file; systemd itself takes a line of 1 MiB (LONG_LINE_MAX)
)

// File returns a regular file of at most limit bytes, and what it was when it was opened. Where owners are named, it has to
// belong to one of these uids, or to root.
//
// An error is a sentence that names the file. It wraps [fs.ErrNotExist] or [fs.ErrPermission] where that is the reason.
func File(path string, limit int64, owners ...int) ([]byte, fs.FileInfo, error) {
	found, info, err := locate(path)
	if err != nil {
		return nil, nil, err
	}
	defer found.Close()
	switch owner := Owner(info); {
	case !info.Mode().IsRegular():
		return nil, nil, fmt.Errorf("%s is %s: put a regular file there", path, kindOf(info.Mode()))
	case info.Size() > limit:
		return nil, nil, tooBig(path, limit)
	case len(owners) > 0 && owner != 0 && !slices.Contains(owners, owner):
		return nil, nil, fmt.Errorf("%s belongs to uid %d and %w: it should be of uid %d", path, owner, ErrOwner, owners[0])
	}
	if err := onDisk(found, path); err != nil {
		return nil, nil, err
	}
	fd, err := reopen(found, path, 0)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(fd)
	content, err := readAll(fd, info.Size(), limit)
	if err != nil {
		return nil, nil, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	if int64(len(content)) > limit {
		return nil, nil, tooBig(path, limit)
	}
	return content, info, nil
}

// Owner is the uid that a file belongs to.
func Owner(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

func tooBig(path string, limit int64) error {
	return fmt.Errorf("%s is bigger than %d MiB: it is another file than was meant, or has to become shorter", path, limit>>20)
}

// kindOf says what a file is that is not regular.
func kindOf(mode fs.FileMode) string {
	switch mode.Type() {
	case fs.ModeDir:
		return "a directory"
	case fs.ModeNamedPipe:
		return "a named pipe"
	case fs.ModeSocket:
		return "a socket"
	default:
		return "a device"
	}
}

// questions are the file systems in which to read a file asks the kernel something, which may wait or change what others
// see: /proc/kmsg takes the messages from whoever else reads them, and trace_pipe waits.
var questions = []int64{
	unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC,
	unix.SECURITYFS_MAGIC, unix.EFIVARFS_MAGIC,
}

// onDisk refuses a regular file of the kernel's own.
func onDisk(file *os.File, path string) error {
	var system unix.Statfs_t
	err := again(func() error { return unix.Fstatfs(int(file.Fd()), &system) })
	if err != nil {
		return &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	if slices.Contains(questions, int64(system.Type)) {
		return fmt.Errorf("%s is made by the kernel as it is read (as in /proc): put a regular file there", path)
	}
	return nil
}

// reopen opens for reading what was opened with O_PATH: the very file that was looked at. O_NONBLOCK: another process's
// lease on it (F_SETLEASE) would keep this waiting for 45 s.
func reopen(found *os.File, path string, flags int) (fd int, err error) {
	err = again(func() (err error) {
		fd, err = unix.Open("/proc/self/fd/"+strconv.Itoa(int(found.Fd())), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY|flags, 0)
		return err
	})
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, unix.EAGAIN):
		return -1, fmt.Errorf("%s is kept by another process (a lease): try again when that has let go of it", path)
	case errors.Is(err, unix.ENOENT):
		return -1, fmt.Errorf("%s cannot be opened without /proc, which is not mounted", path)
	default:
		return -1, &fs.PathError{Op: "open", Path: path, Err: err}
	}
}

// readAll reads up to a byte more than limit, and never waits: package os would, in its poller.
func readAll(fd int, size, limit int64) ([]byte, error) {
	content := make([]byte, 0, size+1)
	for int64(len(content)) <= limit {
		if len(content) == cap(content) {
			content = slices.Grow(content, 4096)
		}
		var n int
		err := again(func() (err error) {
			n, err = unix.Read(fd, content[len(content):min(int64(cap(content)), limit+1)])
			return err
		})
		if n == 0 || err != nil {
			return content, err
		}
		content = content[:len(content)+n]
	}
	return content, nil
}

// again repeats a system call that a signal has interrupted, which happens on network file systems.
func again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
