// Package passed is how open files get from one program of a process to the next one (execve(2)): they keep their numbers.
package passed

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Files are what stays open for the next program. They are the caller's: nobody may close one meanwhile.
type Files struct{ files []syscall.RawConn }

// Add adds a file, and returns the number that it has.
func (f *Files) Add(file syscall.Conn) (fd int, err error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return -1, err
	}
	if err := raw.Control(func(number uintptr) { fd = int(number) }); err != nil {
		return -1, err
	}
	f.files = append(f.files, raw)
	return fd, nil
}

// Open has the files stay open when this process becomes another program, and returns what takes that back.
func (f *Files) Open() (undo func(), err error) {
	set := func(flags int) (errs error) {
		for _, file := range f.files {
			var inner error
			err := file.Control(func(fd uintptr) { _, inner = unix.FcntlInt(fd, unix.F_SETFD, flags) })
			errs = errors.Join(errs, err, inner)
		}
		return errs
	}
	undo = func() { _ = set(unix.FD_CLOEXEC) } // which cannot fail where the other one did not
	if err := set(0); err != nil {
		undo()
		return nil, err
	}
	return undo, nil
}

// Take returns a file by the number that it was passed by. From then on it is closed with the program, as all others are.
func Take(fd int, name string) (*os.File, error) {
	if err := claim(fd, name); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// TakeShared is Take for a file whose description others use as well: they may have made that non-blocking, and Go would have it watched
// therefore, so that each event of theirs woke this process.
func TakeShared(fd int, name string) (*os.File, error) {
	if err := claim(fd, name); err != nil {
		return nil, err
	}
	placeholder, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open", err)
	}
	file := os.NewFile(uintptr(placeholder), name)
	if err := unix.Dup3(fd, placeholder, unix.O_CLOEXEC); err != nil {
		return nil, errors.Join(os.NewSyscallError("dup3", err), file.Close(), unix.Close(fd))
	}
	return file, unix.Close(fd)
}

// claim fails where the number is not that of a file which was passed: those of this program's own are closed on execve.
func claim(fd int, name string) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err == nil && flags&unix.FD_CLOEXEC != 0 {
		err = errors.New("it is this program's own")
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC)
	}
	if err != nil {
		return fmt.Errorf("descriptor %d was not passed as %s: %w", fd, name, err)
	}
	return nil
}
