package handoff

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ShimArgument is the first argument of the launcher's program when it is the
// shim of a worker; the second is the number of the descriptor over which the
// command comes.
const ShimArgument = "shim"

// Command is what the shim becomes.
type Command struct {
	Path string   // absolute path of the program
	Argv []string // with the program's name as it shall see it
	Env  []string
	// ListenPID adds LISTEN_PID with the process's own pid.
	ListenPID bool
}

// IsShim reports whether this process was started as the shim.
func IsShim() bool {
	return len(os.Args) == 3 && os.Args[1] == ShimArgument
}

// RunShim reads the command and becomes it, so it returns only when that
// failed: it tells the launcher why, and the caller exits with the status
// returned (127 when the program is missing, 126 when it cannot be executed, as
// a shell has it).
func RunShim() int {
	fd, err := strconv.Atoi(os.Args[2])
	if err != nil {
		fmt.Fprintf(os.Stderr, "gateway %s: %q is not a descriptor: only the launcher starts this\n", ShimArgument, os.Args[2])
		return 126
	}
	// On success execve closes it, which tells the launcher so.
	unix.CloseOnExec(fd)
	control := os.NewFile(uintptr(fd), "shim control")
	err = become(control)
	fmt.Fprint(control, err)
	if errors.Is(err, unix.ENOENT) {
		return 127
	}
	return 126
}

func become(control io.Reader) error {
	var command Command
	if err := gob.NewDecoder(control).Decode(&command); err != nil {
		return fmt.Errorf("read the command: %w", err)
	}
	if command.ListenPID {
		command.Env = append(command.Env, "LISTEN_PID="+strconv.Itoa(os.Getpid()))
	}
	err := unix.Exec(command.Path, command.Argv, command.Env)
	if errors.Is(err, unix.ENOEXEC) {
		return fmt.Errorf("execute %s: %w: a script needs a first line such as #!/bin/sh", command.Path, err)
	}
	if _, found := os.Stat(command.Path); found == nil && errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("execute %s: %w: the interpreter that it names is missing", command.Path, err)
	}
	return fmt.Errorf("execute %s: %w", command.Path, err)
}

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

// Send tells the shim what to become and returns when it has become it, with
// the shim's error if it could not. The caller closes the connection, also to
// end the wait.
func Send(local *net.UnixConn, command Command) error {
	// Not JSON: arguments and environment are bytes, not always UTF-8.
	if err := gob.NewEncoder(local).Encode(command); err != nil {
		return fmt.Errorf("send the command to the shim: %w", err)
	}
	answer, err := io.ReadAll(local)
	if err != nil {
		return fmt.Errorf("wait for the shim: %w", err)
	}
	if len(answer) > 0 {
		return errors.New(string(answer))
	}
	return nil
}
