package handoff_test

import (
	"os"
	"strconv"
	"testing"

	"openclaw-gateway/test/sockets"
	"openclaw-gateway/worker/handoff"
)

// Beside variables that are called sockets.
var (
	control  = sockets.Control
	blocking = sockets.Blocking
	dial     = sockets.Dial
)

// hold listens on the hosts, all on the same port, as systemd would.
func hold(t *testing.T, hosts ...string) (held []handoff.Socket) {
	t.Helper()
	for _, socket := range sockets.Hold(t, hosts...) {
		held = append(held, handoff.Socket{File: socket.File, Address: socket.Address})
	}
	return held
}

// socketName is what /proc/PID/fd shows for a socket.
func socketName(t *testing.T, file *os.File) string {
	t.Helper()
	return "socket:[" + strconv.FormatUint(sockets.Inode(t, file), 10) + "]"
}

// backlog is how many clients may wait in the queue of a listening socket.
func backlog(t *testing.T, file *os.File) int {
	t.Helper()
	_, backlog := sockets.Queue(t, file)
	return backlog
}
