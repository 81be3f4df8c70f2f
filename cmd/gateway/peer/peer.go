// Package peer says who is at the other end of a Unix socket.
package peer

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// Of returns the process that has connected to us, or whose listening socket we have
// connected to, as it was then (SO_PEERCRED, unix(7)). The pid is 0 for a process in a
// PID namespace that is not seen from here.
func Of(conn net.Conn) (*unix.Ucred, error) {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	var credentials *unix.Ucred
	var option error
	err = raw.Control(func(fd uintptr) {
		credentials, option = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	return credentials, errors.Join(err, option)
}
