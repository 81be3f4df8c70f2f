package handoff

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"openclaw-gateway/worker/handoff/intercept"
	"openclaw-gateway/worker/handoff/shim"
)

// ShimControl makes the two ends of the socket over which the shim gets its
// command: local is the launcher's, remote is inherited by the shim.
func ShimControl() (local *net.UnixConn, remote *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	remote = os.NewFile(uintptr(pair[1]), "shim control")
	file := os.NewFile(uintptr(pair[0]), "shim control")
	defer file.Close() // FileConn duplicates it
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, nil, errors.Join(err, remote.Close())
	}
	return conn.(*net.UnixConn), remote, nil
}

// Send tells the shim what to become, by which order, and returns when it has become it, with an
// error if it could not. The caller closes the connection, also to end the wait.
func Send(local *net.UnixConn, command shim.Command, order Order) error {
	if order.Filter != nil {
		command.Filter, command.Privileges, command.Besides = intercept.Filter(), order.Filter.Privileges, order.Filter.Besides
		command.Freezable = order.Filter.Freezable
	}
	if _, err := local.Write(shim.Encode(command)); err != nil {
		return fmt.Errorf("send the command to the shim: %w", err)
	}
	if order.Filter != nil {
		if err := awaitFilter(local, order.Filter); err != nil {
			return err
		}
	}
	answer, err := io.ReadAll(local)
	if err != nil {
		return fmt.Errorf("wait for the shim: %w", err)
	}
	if err := shim.Failure(answer); err != nil {
		return Explain(command.Path, err)
	}
	return nil
}

// awaitFilter reads what the shim says of the filter, and takes the descriptor that comes with it.
func awaitFilter(local *net.UnixConn, order *Filter) error {
	answer, rights := make([]byte, shim.FilteredSize), make([]byte, unix.CmsgSpace(4))
	n, rightsSize, _, _, err := local.ReadMsgUnix(answer, rights)
	if err != nil {
		return fmt.Errorf("wait for the shim: %w", err)
	}
	filtered, ok := shim.DecodeFiltered(answer[:n])
	if !ok {
		return fmt.Errorf("the shim ended before it had installed the filter, or said %q", answer[:n])
	}
	if filtered.Refused != nil {
		if err := ExplainFilter(filtered.Refused); !order.Besides {
			return err
		} else if order.Refused != nil {
			order.Refused(err, filtered.Privileges)
		}
		return nil
	}
	messages, err := unix.ParseSocketControlMessage(rights[:rightsSize])
	if err != nil || len(messages) != 1 { // this process can have no more descriptors
		return errors.Join(errors.New("the descriptor of the filter has not come with the shim's answer (LimitNOFILE=)"), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return errors.Join(fmt.Errorf("%d descriptors of the filter have come with the shim's answer, not one", len(fds)), err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil { // then package os waits for it without a thread
		return errors.Join(os.NewSyscallError("fcntl", err), unix.Close(fds[0]))
	}
	order.Installed(os.NewFile(uintptr(fds[0]), "seccomp"), filtered.Privileges)
	return nil
}

// ExplainFilter says why the kernel does not install a filter, and what helps.
func ExplainFilter(err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: another supervisor watches this process's system calls (seccomp listener): use listen-fds or preload", ErrFilter)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: %w", ErrFilter, ErrPrivileges)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("%w: a filter of the unit's or the container's forbids seccomp(2): let SystemCallFilter= have \"seccomp pidfd_getfd\" besides: %w", ErrFilter, err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w: this kernel cannot (it needs Linux 5.19)", ErrFilter)
	}
	return fmt.Errorf("%w: %w", ErrFilter, err)
}

// ErrFilter says that a worker could not get the filter of intercept.
var ErrFilter = errors.New("the sockets cannot be handed over by intercept")

// ErrPrivileges says why a worker got none that was not to lose anything by it.
var ErrPrivileges = errors.New("it needs CAP_SYS_ADMIN, or no_new_privs")

// Explain says why a program could not be executed, with what its error number
// leaves out.
func Explain(path string, err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		err = errno
	}
	advice := ""
	switch {
	case errors.Is(err, unix.ENOEXEC):
		advice = ": a script needs a first line such as #!/bin/sh"
		if isProgram(path) {
			advice = ": it is a program for another processor than this machine's"
		}
	case errors.Is(err, unix.EINVAL):
		advice = ": no argument and no variable can hold a NUL character"
	case errors.Is(err, unix.ENOENT):
		if _, found := os.Stat(path); found == nil {
			advice = ": the interpreter that it names is missing"
		}
	}
	return fmt.Errorf("execute %s: %w%s", path, err, advice)
}

// isProgram reports whether a file is one for some processor, elf(5).
func isProgram(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	magic := make([]byte, 4)
	_, err = io.ReadFull(file, magic)
	return err == nil && string(magic) == "\x7fELF"
}
