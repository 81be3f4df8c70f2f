package worker

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// ownConnections takes note of connections that the launcher has made to its
// worker. A http.Transport makes them on goroutines of its own.
type ownConnections struct {
	mu    sync.Mutex
	conns []net.Conn
	// open is the part of them that were given up before they were answered, or
	// still wait: one at the most.
	open []net.Conn
}

func (o *ownConnections) add(conn net.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.conns = append(o.conns, conn)
	o.open = append(o.open, conn)
}

// answered says that all of them have left the queue.
func (o *ownConnections) answered() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open = nil
}

// waiting returns those that may be in the queue still.
func (o *ownConnections) waiting() []net.Conn {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.open)
}

func (o *ownConnections) all() []net.Conn {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.conns)
}

// from returns the addresses from which they came.
func (o *ownConnections) from() []netip.AddrPort {
	var addresses []netip.AddrPort
	for _, conn := range o.all() {
		address := conn.LocalAddr().(*net.TCPAddr).AddrPort()
		addresses = append(addresses, netip.AddrPortFrom(address.Addr().Unmap().WithZone(""), address.Port()))
	}
	return addresses
}
