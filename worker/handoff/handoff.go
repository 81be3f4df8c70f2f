package handoff

import (
	"fmt"
	"net/netip"
	"os"
)

// Socket is a listening socket to hand over. The descriptor stays the caller's.
type Socket struct {
	File    *os.File
	Address netip.AddrPort
	// DualStack says that the address, the IPv6 wildcard, takes IPv4 clients too.
	DualStack bool
	Name      string // for LISTEN_FDNAMES; "": DefaultName
	Backlog   int    // how many clients may wait; 0: 4096
}

// Handoff is how one generation comes by the sockets.
type Handoff interface {
	Kind() Kind
	// Files are the worker's descriptors from 3 on.
	Files() []*os.File
	// Env is added to the worker's environment.
	Env() []string
	// Shim is what the shim has to do; nil: nothing, the worker can be started without one.
	Shim() *Order
	// Started tells it the process, which has inherited the files: the shim, or the
	// worker itself.
	Started(pid int)
	// Reports tells what the worker listens on; nil where that cannot be known, and
	// has to be tried.
	Reports() *Reports
	// Release lets a worker go on that waits for the sockets.
	Release()
	// Close gives up what was made for the generation: it has ended, or was never
	// started.
	Close() error
}

// Order is what the shim has to do before it becomes the worker.
type Order struct {
	// ListenPID asks for LISTEN_PID, which is the worker's own pid: only the shim can
	// be told a process's pid before it becomes the worker.
	ListenPID bool
}

// New prepares the sockets for one generation, of a kind that Choose has returned. passed asks for LISTEN_FDS beside Preload. environ is the worker's environment
// so far; directory is the launcher's runtime directory, where the script that
// Preload needs is written.
func New(kind Kind, passed bool, sockets []Socket, environ []string, directory string) (Handoff, error) {
	switch kind {
	case ListenFDs:
		return listenFDs(sockets), nil
	case Preload, Auto:
		p, err := newPreload(sockets, passed || kind == Auto, environ, directory)
		switch {
		case err != nil:
			return nil, err
		case kind == Auto:
			return whichever{p}, nil
		}
		return p, nil
	default:
		return nil, fmt.Errorf("handoff %q cannot be made", kind)
	}
}
