package listener_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"openclaw-gateway/listener"
)

// inheritEnv makes the test's own program the child that inherits sockets; its
// value is how many descriptors were passed.
const inheritEnv = "TEST_LISTENER_INHERIT"

func TestMain(m *testing.M) {
	if passed := os.Getenv(inheritEnv); passed != "" {
		os.Exit(inherit(passed))
	}
	os.Exit(m.Run())
}

// inherited is what the child found.
type inherited struct {
	Addresses   []string
	Inodes      []uint64
	Names       []string
	Refused     []string
	Error       string
	NoSockets   bool
	Environment []string // what is left of the protocol
	Open        []int    // the passed descriptors that are open
	Inheritable []int    // those of them that a child of the child would get
	Again       bool     // a second call says that there are no sockets
}

// inherit is the child. Only itself knows its pid.
func inherit(passed string) int {
	if os.Getenv("LISTEN_PID") == "" {
		if err := os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid())); err != nil {
			return fail(err)
		}
	}
	count, err := strconv.Atoi(passed)
	if err != nil {
		return fail(err)
	}
	sockets, refused, err := listener.Inherit()
	var found inherited
	for _, socket := range sockets {
		found.Addresses = append(found.Addresses, socket.Address.String())
		found.Inodes = append(found.Inodes, socket.Inode)
		found.Names = append(found.Names, socket.Name)
	}
	for _, err := range refused {
		found.Refused = append(found.Refused, err.Error())
	}
	if err != nil {
		found.Error, found.NoSockets = err.Error(), errors.Is(err, listener.ErrNoSockets)
	}
	for _, entry := range os.Environ() {
		if strings.HasPrefix(entry, "LISTEN_") {
			found.Environment = append(found.Environment, entry)
		}
	}
	for fd := 3; fd < 3+count; fd++ {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil {
			continue
		}
		found.Open = append(found.Open, fd)
		if flags&unix.FD_CLOEXEC == 0 {
			found.Inheritable = append(found.Inheritable, fd)
		}
	}
	_, _, err = listener.Inherit()
	found.Again = errors.Is(err, listener.ErrNoSockets)
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		return fail(err)
	}
	// To the end: a socket that nobody holds is closed by the collector.
	for _, socket := range sockets {
		if err := socket.File.Close(); err != nil {
			return fail(err)
		}
	}
	return 0
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}
