package listener

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Discard takes connections out of the queue of the socket that listens on
// address and closes them: those of the given clients, which are the launcher's
// own and were given up by it. A queue can only be emptied from its head, so
// where other clients wait too nothing is done: they will be accepted, and these
// with them. Nobody else may accept meanwhile.
func (sockets Set) Discard(address netip.AddrPort, clients []netip.AddrPort) error {
	i := slices.IndexFunc(sockets, func(s *Socket) bool { return s.Address == address })
	if i < 0 {
		return fmt.Errorf("discard connections to %s: nobody holds it", address)
	}
	socket := sockets[i]
	queued, _, err := socket.Queue()
	if err != nil || queued != len(clients) {
		return err
	}
	var errs []error
	for range queued {
		// A connection in the queue stays there until somebody accepts.
		conn, client, err := socket.Accept()
		if err != nil {
			return fmt.Errorf("discard connections to %s: accept4: %w", address, err)
		}
		if !slices.Contains(clients, client) {
			errs = append(errs, fmt.Errorf("discard connections to %s: %s was not expected", address, client))
		}
		errs = append(errs, unix.Close(conn))
	}
	return errors.Join(errs...)
}
