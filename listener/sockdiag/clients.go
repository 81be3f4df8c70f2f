package sockdiag

import (
	"fmt"
	"slices"
	"time"

	"openclaw-gateway/netaddr"

	"golang.org/x/sys/unix"
)

// Clients sees who is connected to listening sockets, whoever accepts there, and when a connection ends.
type Clients struct {
	*Ends
	sockets []Socket
	ignored map[uint64]bool // cookies
}

// connected are the states of linux/tcp_states.h in which a client is there or is still being sent something: also one
// that has said all it wants to say and waits for its answer, and one whose answer the worker has left to the kernel.
const connected = 1<<tcpEstablished | 1<<tcpFinWait1 | 1<<tcpFinWait2 | 1<<tcpCloseWait | 1<<tcpLastAck | 1<<tcpClosing

// WatchClients begins to watch the connections to the given listening sockets. The caller closes what it returns. It
// fails where the kernel has no sock_diag for TCP, or where the sockets belong to another network namespace than this
// process (PrivateNetwork=, systemd.exec(5)), whose connections cannot be seen.
func WatchClients(sockets []Socket) (*Clients, error) {
	c := &Clients{sockets: sockets, ignored: map[uint64]bool{}}
	listening, err := c.find(1 << tcpListen)
	if err != nil {
		return nil, err
	}
	for _, socket := range sockets {
		if !slices.ContainsFunc(listening, func(e entry) bool { return e.Inode == socket.Inode }) {
			return nil, unheard(socket)
		}
	}
	c.Ends, err = watchEnds(portsOfSockets(c.sockets))
	return c, err
}

// Connected returns how many clients are connected, those in the accept queues included.
func (c *Clients) Connected() (int, error) {
	entries, err := c.find(connected)
	if err != nil {
		return 0, err
	}
	count := 0
	for _, e := range entries {
		// Without an owner it has been closed, and keeps nothing but its port from being used again.
		closed := e.state == tcpFinWait2 && e.Inode == 0
		if c.watches(e) && !closed && !c.ignored[e.cookie] {
			count++
		}
	}
	return count, nil
}

// Ignore leaves connections out that come from the given addresses and were given up there, whatever a server does with
// its end. One that is established belongs to somebody else, who has been given the port anew.
func (c *Clients) Ignore(remote []netaddr.Address) error {
	entries, err := c.find(connected &^ (1 << tcpEstablished))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if c.watches(e) && slices.ContainsFunc(remote, func(own netaddr.Address) bool { return asEntered(own) == e.remote }) {
			c.ignored[e.cookie] = true
		}
	}
	return nil
}

// Ended blocks until a connection has ended since the last call that said so, or until the deadline, which may have
// passed; zero: there is none. It reports whether one has.
func (c *Clients) Ended(deadline time.Time) (ended bool, err error) {
	return c.next(deadline, func(e entry) bool {
		ended := c.watches(e) && !c.ignored[e.cookie]
		delete(c.ignored, e.cookie)
		return ended
	})
}

// watches reports whether e is or was a connection to one of the sockets.
func (c *Clients) watches(e entry) bool {
	return e.remote.Port() != 0 && slices.ContainsFunc(c.sockets, func(s Socket) bool { return e.reaches(s.Address) })
}

// find returns the sockets in one of the states on the watched ports.
func (c *Clients) find(states uint32) ([]entry, error) {
	var all []entry
	for _, port := range portsOfSockets(c.sockets) {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			entries, err := sockDiag(family, states, port, 0)
			if err != nil {
				return nil, err
			}
			all = append(all, entries...)
		}
	}
	return all, nil
}

// portsOfSockets returns the ports of sockets, each once.
func portsOfSockets(sockets []Socket) []uint16 {
	var addresses []netaddr.Address
	for _, socket := range sockets {
		addresses = append(addresses, socket.Address)
	}
	return portsOf(addresses)
}

// unheard says of a socket that the kernel does not tell of it here.
func unheard(socket Socket) error {
	return fmt.Errorf("nobody is seen to listen on %s: does the socket belong to another network namespace (PrivateNetwork=)?", socket.Address)
}
