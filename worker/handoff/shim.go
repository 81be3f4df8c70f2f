package handoff

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"

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

// Send tells the shim what to become and returns when it has become it, with an
// error if it could not. The caller closes the connection, also to end the wait.
func Send(local *net.UnixConn, command shim.Command) error {
	if _, err := local.Write(shim.Encode(command)); err != nil {
		return fmt.Errorf("send the command to the shim: %w", err)
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
