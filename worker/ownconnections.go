package worker

import (
	"net"
	"net/netip"
	"sync"
)

// mostRemembered is how many of them are remembered: more than are open at a time.
const mostRemembered = 1000

// ownConnections takes note of connections that the launcher has made to its
// worker. A http.Transport makes them on goroutines of its own.
type ownConnections struct {
	mu    sync.Mutex
	conns []net.Conn
	// open is the one that was given up before it was answered, or still waits;
	// nil: none of them.
	open net.Conn
}

func (o *ownConnections) add(conn net.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.conns, o.open = append(o.conns[max(0, len(o.conns)-mostRemembered):], conn), conn
}

// answered says that all of them have left the queue.
func (o *ownConnections) answered() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open = nil
}

// waiting returns the one that may be in the queue still.
func (o *ownConnections) waiting() net.Conn {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.open
}

// from returns the addresses from which they came.
func (o *ownConnections) from() []netip.AddrPort {
	o.mu.Lock()
	defer o.mu.Unlock()
	var addresses []netip.AddrPort
	for _, conn := range o.conns {
		_, client := ends(conn)
		addresses = append(addresses, client)
	}
	return addresses
}
