package intercept

import (
	"errors"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The structs of the kernel's linux/seccomp.h, the same on every processor.
type (
	notification struct {
		id    uint64
		tid   uint32 // of the thread that calls, as this PID namespace has it; 0: it is not in it
		flags uint32
		call  seccompData
	}
	seccompData struct {
		nr   int32
		arch uint32
		_    uint64
		args [6]uint64
	}
	response struct {
		id    uint64
		value int64
		errno int32
		flags uint32
	}
	addFD struct {
		id       uint64
		flags    uint32
		from     uint32
		to       uint32
		newFlags uint32
	}
)

// notifier is the descriptor on which the kernel tells of the calls that the filter has trapped. It is closed at any time: each use
// keeps it open for as long.
type notifier struct {
	file *os.File
	raw  syscall.RawConn
}

func newNotifier(file *os.File) (n notifier, err error) {
	n.file = file
	n.raw, err = file.SyscallConn()
	return n, err
}

// errUnused says that nobody is left under the filter.
var errUnused = errors.New("nobody is under the filter any more")

// receive waits for the next call, without a thread. NOTIF_RECV waits whatever O_NONBLOCK says, so poll(2) is asked first; a caller
// that goes away between the two makes it ENOENT.
func (n notifier) receive() (got notification, err error) {
	var inner error
	err = n.raw.Read(func(fd uintptr) (done bool) {
		for {
			polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			if _, inner = unix.Poll(polled, 0); inner != nil && !errors.Is(inner, unix.EINTR) {
				return true
			}
			switch events := polled[0].Revents; {
			case events&unix.POLLIN != 0:
				got = notification{}
				inner = ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&got))
				if !errors.Is(inner, unix.ENOENT) && !errors.Is(inner, unix.EINTR) {
					return true
				}
			case events&unix.POLLHUP != 0:
				inner = errUnused
				return true
			default:
				inner = nil
				return false
			}
		}
	})
	return got, errors.Join(err, inner)
}

func ioctl(fd, request uintptr, argument unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(argument)); errno != 0 {
		return errno
	}
	return nil
}

func (n notifier) control(request uintptr, argument unsafe.Pointer) (err error) {
	if closed := n.raw.Control(func(fd uintptr) { err = ioctl(fd, request, argument) }); closed != nil {
		return closed
	}
	return err
}

// waits reports whether the thread still waits for the answer: then what was read of it was its own, and not that of another one with
// the same number.
func (n notifier) waits(id uint64) bool {
	return n.control(unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id)) == nil
}

// pass has the kernel go on with the call.
func (n notifier) pass(id uint64) error {
	return n.control(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&response{id: id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}))
}

// answer is what the call returns; 0: success.
func (n notifier) answer(id uint64, errno unix.Errno) error {
	return n.control(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&response{id: id, errno: -int32(errno)}))
}

// put puts a descriptor of ours in the place of one of the caller's. The call is answered by itself afterwards: with
// SECCOMP_ADDFD_FLAG_SEND it would return the descriptor, and bind(2) has to return 0.
func (n notifier) put(id uint64, ours uintptr, theirs int, cloexec bool) error {
	add := addFD{id: id, flags: unix.SECCOMP_ADDFD_FLAG_SETFD, from: uint32(ours), to: uint32(theirs)}
	if cloexec {
		add.newFlags = unix.O_CLOEXEC
	}
	return n.control(unix.SECCOMP_IOCTL_NOTIF_ADDFD, unsafe.Pointer(&add))
}
