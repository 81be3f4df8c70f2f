package sockdiag

import (
	"time"

	"golang.org/x/sys/unix"
)

// Oldest returns which of the listening TCP sockets has the client in its queue that has waited longest to be accepted, and
// for how long, exact to a jiffy; nil when none is seen to wait.
//
// The kernel tells the time since a connection has sent data, which the end of a client that nobody has accepted never
// has: so it is the time since the handshake, whatever the client does meanwhile. A client that was reset has no entry
// although it stands in the queue, and one that does not fit into the queue has none yet.
//
// It fails where the kernel has no sock_diag for TCP, or where a socket belongs to another network namespace than this
// process.
func Oldest(sockets []Socket) (oldest *Socket, waits time.Duration, err error) {
	seen := map[uint64]bool{}
	var queued []entry
	for _, port := range portsOfSockets(sockets) {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			entries, err := sockDiag(family, 1<<tcpListen|1<<tcpEstablished|1<<tcpCloseWait, port, 1<<(diagInfo-1))
			if err != nil {
				return nil, 0, err
			}
			for _, e := range entries {
				switch {
				case e.state == tcpListen:
					seen[e.Inode] = true
				case e.Inode == 0: // see Unaccepted
					queued = append(queued, e)
				}
			}
		}
	}
	for i, socket := range sockets {
		if socket.Address.IsUnix() {
			continue
		}
		if !seen[socket.Inode] {
			return nil, 0, unheard(socket)
		}
		for _, e := range queued {
			if e.reaches(socket.Address) && (oldest == nil || e.silent > waits) {
				oldest, waits = &sockets[i], e.silent
			}
		}
	}
	return oldest, waits, nil
}
