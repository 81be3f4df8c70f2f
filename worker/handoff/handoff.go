package handoff

import (
	"context"
	"fmt"
	"os"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/passed"
)

// Socket is a listening socket to hand over. The descriptor stays the caller's.
type Socket struct {
	File    *os.File
	Address netaddr.Address
	// DualStack says that the address, the IPv6 wildcard, takes IPv4 clients too.
	DualStack bool
	Name      string // for LISTEN_FDNAMES; "": DefaultName
	// Besides says that a worker serves without it too: nobody has asked for it in the configuration.
	Besides bool
	Backlog int // how many clients may wait; 0: 4096
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
	// Pass lets a worker go on that waits at the gate for this address, and holds it again at the next one. Release opens the gate
	// for good. Neither blocks.
	Pass(netaddr.Address)
	Release()
	// Watch has a worker that is being stopped be looked at, until it has closed its listeners ([Closed]), and reports whether that begins
	// now: false where it tells that by itself.
	Watch() bool
	// Served tells that the worker serves, and has said neither where nor by what.
	Served()
	// Suspend returns when everything that the worker has said or asked for is told or answered, and nothing more is taken in until resume
	// is called; Save passes on what there is then.
	Suspend(context.Context) (resume func(), err error)
	Save(*passed.Files) (Saved, error)
	// Close gives up what was made for the generation: it has ended, or was never
	// started.
	Close() error
}

// Order is what the shim has to do before it becomes the worker.
type Order struct {
	// ListenPID asks for LISTEN_PID, which is the worker's own pid: only the shim can
	// be told a process's pid before it becomes the worker.
	ListenPID bool
	// Filter asks for the filter of Intercept; nil: none.
	Filter *Filter
}

// Filter is how the filter of Intercept gets to the worker.
type Filter struct {
	// Privileges lets the shim set no_new_privs for it, where it needs that: programs of other users' privileges, as sudo and ping are,
	// stop working in the worker.
	Privileges bool
	// Freezable lets a worker be frozen while a call of its waits for the answer.
	Freezable bool
	// Besides lets the worker start without it where that cannot be; Refused, if it is there, is told why, and whether no_new_privs
	// was set in vain.
	Besides bool
	Refused func(why error, privileges bool)
	// Installed gets the descriptor on which the kernel tells of the calls, and whether no_new_privs was set for it.
	Installed func(listener *os.File, privileges bool)
}

// Members are the living processes of the generation, for Intercept.
type Members func() []int

// Besides is what comes beside the kind that Auto has been resolved to.
type Besides int

// What comes beside it.
const (
	Nothing Besides = iota // it was asked for by name
	// Free adds LISTEN_FDS to Preload; to the others Intercept where that takes nothing away from the worker: where the launcher has
	// CAP_SYS_ADMIN, or no_new_privs is set already.
	Free
	// Anyhow adds Intercept wherever the kernel has it.
	Anyhow
)

// Gate is whether a worker is held where it wants to listen.
type Gate int

const (
	NoGate  Gate = iota
	Open         // it is not held, and tells as well what it has closed besides the sockets, for which its successor waits
	Shut         // it is held at each address ([Arrived]) until it is let go on; its kind has to have a gate
	Standby      // the same, for long: it can be frozen there, and so a signal can interrupt its call, which then comes again
)

// holds reports whether a worker is held there.
func (g Gate) holds() bool { return g == Shut || g == Standby }

// New prepares the sockets for one generation, of a kind that Choose has returned. environ is the worker's environment
// so far; directory is the launcher's runtime directory, where the script that
// Preload needs is written.
func New(kind Kind, besides Besides, gate Gate, sockets []Socket, environ []string, directory string, members Members) (Handoff, error) {
	if gate.holds() && !kind.HasGate() {
		return nil, fmt.Errorf("handoff %q cannot hold a worker back", kind)
	}
	h, err := newAlone(kind, besides, gate, sockets, environ, directory, members)
	if err != nil || besides == Nothing || gate.holds() || besides == Free && kind == Preload { // by one gate
		return h, err
	}
	return newBeside(h, besides == Anyhow, gate, sockets, members)
}

func newAlone(kind Kind, besides Besides, gate Gate, sockets []Socket, environ []string, directory string, members Members) (Handoff, error) {
	switch kind {
	case ListenFDs:
		return listenFDs(sockets), nil
	case Preload, Auto:
		p, err := newPreload(sockets, besides != Nothing || kind == Auto, gate, environ, directory)
		switch {
		case err != nil:
			return nil, err
		case kind == Auto:
			return whichever{p}, nil
		}
		return p, nil
	case Intercept:
		h, err := newIntercepted(sockets, 0, gate, members, besides != Free)
		if err != nil {
			return nil, err
		}
		return h, nil
	default:
		return nil, fmt.Errorf("handoff %q cannot be made", kind)
	}
}
