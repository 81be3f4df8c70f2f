package worker

import (
	"net"
	"slices"
	"sync"
)

// visits takes note of connections that the launcher has made to its worker. A
// http.Transport makes them on goroutines of its own.
type visits struct {
	mu    sync.Mutex
	conns []net.Conn
}

func (v *visits) add(conn net.Conn) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.conns = append(v.conns, conn)
}

func (v *visits) all() []net.Conn {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.conns)
}
