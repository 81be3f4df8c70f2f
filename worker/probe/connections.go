package probe

import (
	"net"
	"slices"
	"sync"

	"openclaw-gateway/netaddr"
)

// mostRemembered is how many of them are remembered: more than are open at a time.
const mostRemembered = 1000

// Connections takes note of connections that the launcher has made to its
// worker. A http.Transport makes them on goroutines of its own.
type Connections struct {
	mu    sync.Mutex
	conns []net.Conn
	// earlier are the addresses from which an earlier program of this process has made some.
	earlier []netaddr.Address
	// open is the one that was given up before it was answered, or still waits;
	// nil: none of them.
	open net.Conn
}

// Add is for Prober.Connected.
func (o *Connections) Add(conn net.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.conns, o.open = append(o.conns[max(0, len(o.conns)-mostRemembered):], conn), conn
}

// Answered says that all of them have left the queue.
func (o *Connections) Answered() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open = nil
}

// Waiting returns the one that may be in the queue still.
func (o *Connections) Waiting() net.Conn {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.open
}

// From returns the addresses from which they came.
func (o *Connections) From() []netaddr.Address {
	o.mu.Lock()
	defer o.mu.Unlock()
	addresses := slices.Clone(o.earlier)
	for _, conn := range o.conns {
		_, client := Ends(conn)
		addresses = append(addresses, client)
	}
	return addresses
}

// Know takes note of addresses from which an earlier program of this process has connected.
func (o *Connections) Know(from []netaddr.Address) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.earlier = from
}

// Queues are the queues of the held addresses.
type Queues interface {
	// Unaccepted reports whether a connection waits in one.
	Unaccepted(server, client netaddr.Address) (bool, error)
	// Reach returns the address at which the clients of a held one are served.
	Reach(held netaddr.Address) (at netaddr.Address, can bool)
	// Discard takes a connection out of the queue of a held address.
	Discard(held, client netaddr.Address) error
}

// Discard takes the launcher's own request out of the queue that the worker
// has not accepted: it would stand there in front of the clients, and make
// systemd start the service again that has just been stopped.
func (o *Connections) Discard(held []netaddr.Address, queues Queues) error {
	conn := o.Waiting()
	if conn == nil {
		return nil
	}
	target, client := Ends(conn)
	waiting, err := queues.Unaccepted(target, client)
	if err != nil || !waiting {
		return err
	}
	for _, address := range held {
		if at, _ := queues.Reach(address); at == target {
			return queues.Discard(address, client)
		}
	}
	return nil
}
