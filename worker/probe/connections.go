package probe

import (
	"net"
	"net/netip"
	"sync"
)

// mostRemembered is how many of them are remembered: more than are open at a time.
const mostRemembered = 1000

// Connections takes note of connections that the launcher has made to its
// worker. A http.Transport makes them on goroutines of its own.
type Connections struct {
	mu    sync.Mutex
	conns []net.Conn
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
func (o *Connections) From() []netip.AddrPort {
	o.mu.Lock()
	defer o.mu.Unlock()
	var addresses []netip.AddrPort
	for _, conn := range o.conns {
		_, client := Ends(conn)
		addresses = append(addresses, client)
	}
	return addresses
}
