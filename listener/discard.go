package listener

import (
	"errors"
	"fmt"
	"slices"

	"openclaw-gateway/netaddr"

	"golang.org/x/sys/unix"
)

// Discard takes a connection out of the queue of the socket that listens on
// address and closes it: that of the given client, which is the launcher's own
// and was given up by it. A queue can only be emptied from its head, so where
// other clients wait too nothing is done: they will be accepted, and this one
// with them. Nobody else may accept meanwhile.
func (sockets Set) Discard(address, client netaddr.Address) error {
	i := slices.Index(sockets.Addresses(), address)
	if i < 0 {
		return fmt.Errorf("discard a connection to %s: nobody holds it", address)
	}
	socket := sockets[i]
	queued, _, err := socket.Queue()
	if err != nil || queued != 1 {
		return err
	}
	// A connection in the queue stays there until somebody accepts.
	conn, accepted, err := socket.Accept()
	if err != nil {
		return fmt.Errorf("discard a connection to %s: accept4: %w", address, err)
	}
	if accepted != client {
		err = fmt.Errorf("discard a connection to %s: %s was not expected", address, accepted)
	}
	return errors.Join(err, unix.Close(conn))
}
