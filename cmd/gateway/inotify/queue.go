// Package inotify has the events of inotify(7) as they are, for those who have to tell a file that is being written from one that
// has been, and for the launcher, which stays in memory: a library's reader of them takes some 200 KiB there.
package inotify

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Queue is an inotify instance.
type Queue struct {
	file   *os.File
	raw    syscall.RawConn
	buffer []byte
}

// New takes one of the user's inotify instances (fs.inotify.max_user_instances).
func New() (*Queue, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify_init1: %w%s", err, hint(err))
	}
	// Non-blocking, so Go waits in its poller, and Close ends a read. The longest event is of 272 bytes.
	q := &Queue{file: os.NewFile(uintptr(fd), "inotify"), buffer: make([]byte, 4<<10)}
	if q.raw, err = q.file.SyscallConn(); err != nil {
		return nil, errors.Join(err, q.file.Close())
	}
	return q, nil
}

// Close ends a read that waits, and all after it.
func (q *Queue) Close() error { return q.file.Close() }

// Add watches what has this name for these events besides those that it is watched for, and returns the number of the
// watch: the same each time for the same inode. A symbolic link is watched itself.
func (q *Queue) Add(path string, wanted uint32) (watch int32, err error) {
	var number int
	var failed error
	err = q.raw.Control(func(fd uintptr) {
		number, failed = unix.InotifyAddWatch(int(fd), path, wanted|unix.IN_DONT_FOLLOW|unix.IN_MASK_ADD)
	})
	if err != nil {
		return 0, err
	}
	if failed != nil {
		return 0, fmt.Errorf("inotify_add_watch %s: %w%s", path, failed, hint(failed))
	}
	return int32(number), nil
}

// Remove ceases to watch.
func (q *Queue) Remove(watch int32) error {
	return q.raw.Control(func(fd uintptr) {
		// The error would be that it is gone already, with its inode.
		_, _ = unix.InotifyRmWatch(int(fd), uint32(watch))
	})
}

// SetDeadline has a read that waits end with [os.ErrDeadlineExceeded] then; the zero time is never.
func (q *Queue) SetDeadline(t time.Time) error { return q.file.SetReadDeadline(t) }

// Read takes what has happened, waiting for it if need be. Without waiting, the error is EAGAIN if it is nothing.
func (q *Queue) Read(wait bool) ([]Event, error) {
	var n int
	var failed error
	err := q.raw.Read(func(fd uintptr) bool {
		n, failed = unix.Read(int(fd), q.buffer)
		return !wait || !errors.Is(failed, unix.EAGAIN)
	})
	if err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, fmt.Errorf("read inotify events: %w", failed)
	}
	return decode(q.buffer[:n]), nil
}

// hint says what to do about an error of inotify.
func hint(err error) string {
	switch {
	case errors.Is(err, unix.EMFILE):
		return " (raise fs.inotify.max_user_instances, or the limit of open files)"
	case errors.Is(err, unix.ENOSPC):
		return " (raise fs.inotify.max_user_watches)"
	case errors.Is(err, fs.ErrPermission):
		return " (make the directory readable)"
	default:
		return ""
	}
}
