package worker

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// visits takes note of connections that the launcher has made to its worker. A
// http.Transport makes them on goroutines of its own.
type visits struct {
	mu    sync.Mutex
	conns []net.Conn
	// open is the part of them that were given up before they were answered, or
	// still wait: one at the most.
	open []net.Conn
}

func (v *visits) add(conn net.Conn) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.conns = append(v.conns, conn)
	v.open = append(v.open, conn)
}

// answered says that all of them have left the queue.
func (v *visits) answered() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.open = nil
}

// waiting returns those that may be in the queue still.
func (v *visits) waiting() []net.Conn {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.open)
}

func (v *visits) all() []net.Conn {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.conns)
}

// from returns the addresses from which they came.
func (v *visits) from() []netip.AddrPort {
	var addresses []netip.AddrPort
	for _, conn := range v.all() {
		address := conn.LocalAddr().(*net.TCPAddr).AddrPort()
		addresses = append(addresses, netip.AddrPortFrom(address.Addr().Unmap().WithZone(""), address.Port()))
	}
	return addresses
}
