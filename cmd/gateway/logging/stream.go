package logging

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// streamPath is where journald takes what a program writes to its standard output (systemd-journald.service(8)).
const streamPath = "/run/systemd/journal/stdout"

// daemonInfo is the priority that systemd gives to lines without one: daemon.info (syslog(3)).
const daemonInfo = 3<<3 | 6

// Streams are this process's standard output and standard error, which what it starts inherits. Those that lead to the
// journal break when journald is stopped, and stay so when it is started again: a program that writes there gets EPIPE, and
// SIGPIPE, of which most die.
type Streams struct {
	// Identifier is the SYSLOG_IDENTIFIER of new ones, Unit the unit that has them; journald believes that from root alone,
	// and else goes by the process, which is why a stream that works is never exchanged.
	Identifier, Unit string

	// Tests have others.
	path        string
	descriptors []int
}

// NewStreams returns those of a unit.
func NewStreams(identifier, unit string) *Streams {
	return &Streams{Identifier: identifier, Unit: unit, path: streamPath, descriptors: []int{unix.Stdout, unix.Stderr}}
}

// Mend puts a new stream to the journal in the place of each that is broken, and tells it to what is started from now on by
// JOURNAL_STREAM. Where nobody takes one, what is written there gets lost until the next call, and nobody dies of it.
func (s *Streams) Mend() (mended bool, err error) {
	var broken []int
	for _, descriptor := range s.descriptors {
		if s.broken(descriptor) {
			broken = append(broken, descriptor)
		}
	}
	if len(broken) == 0 {
		return false, nil
	}
	stream, err := s.connect()
	if err != nil {
		err = fmt.Errorf("connect to the journal again: %w", err)
		null, openErr := unix.Open(os.DevNull, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if openErr != nil {
			return false, errors.Join(err, openErr)
		}
		stream = null
	}
	defer unix.Close(stream)
	for _, descriptor := range broken {
		if dupErr := unix.Dup3(stream, descriptor, 0); dupErr != nil {
			return false, errors.Join(err, os.NewSyscallError("dup3", dupErr))
		}
	}
	var stat unix.Stat_t
	if statErr := unix.Fstat(stream, &stat); statErr != nil {
		return false, errors.Join(err, os.NewSyscallError("fstat", statErr))
	}
	return err == nil, errors.Join(err, os.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)))
}

// broken reports whether a descriptor has led to the journal, and leads nowhere now: nobody is at the other end, or Mend has
// put /dev/null there.
func (s *Streams) broken(descriptor int) bool {
	var stat, null unix.Stat_t
	if unix.Fstat(descriptor, &stat) != nil {
		return false
	}
	if stat.Mode&unix.S_IFMT == unix.S_IFCHR {
		return unix.Stat(os.DevNull, &null) == nil && stat.Rdev == null.Rdev && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
	}
	peer, err := unix.Getpeername(descriptor)
	if address, ok := peer.(*unix.SockaddrUnix); err != nil || !ok || address.Name != s.path {
		return false
	}
	poll := []unix.PollFd{{Fd: int32(descriptor)}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n > 0 && poll[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}

// connect returns a blocking stream to the journal, as systemd opens one (connect_logger_as in its src/core/execute.c).
func (s *Streams) connect() (descriptor int, err error) {
	descriptor, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	// It does not wait for a journald that hangs: its queue is a thousand times longer than what can stand there.
	err = os.NewSyscallError("connect", unix.Connect(descriptor, &unix.SockaddrUnix{Name: s.path}))
	if err == nil {
		err = os.NewSyscallError("shutdown", unix.Shutdown(descriptor, unix.SHUT_RD))
	}
	if err == nil {
		// Behind the priority: that lines may begin with another one, <N>; not to syslog, not to kmsg, not to the console.
		header := fmt.Sprintf("%s\n%s\n%d\n1\n0\n0\n0\n", s.Identifier, s.Unit, daemonInfo)
		_, err = unix.Write(descriptor, []byte(header))
		err = os.NewSyscallError("write", err)
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(descriptor))
	}
	return descriptor, nil
}
