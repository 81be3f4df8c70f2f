package generation

import (
	"context"
	"syscall"
	"time"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/probe"
	"openclaw-gateway/worker/signs"
)

// Spec is what the next generation is made from.
type Spec struct {
	// Edition tells one spec from another; the caller counts them from 1.
	Edition int
	// After is the edition that this one was compared with when it was decided
	// whether its worker has to be another one; 0: it was not compared.
	After int

	// Refused says why no worker can be started with the present
	// configuration; everything else is empty then.
	Refused error

	// Sockets are the held listening sockets, at least one.
	Sockets []handoff.Socket
	// Queues are the same sockets, as their holder sees them.
	Queues Queues
	// Command is the program and its arguments. A name without a slash is
	// looked up in the PATH of the worker's environment.
	Command []string
	// Directory is the working directory, an absolute path; where nobody has named one it is Home instead, or / if the worker cannot
	// start there.
	Directory string
	Home      string
	// Environment holds KEY=value entries on top of the launcher's environment.
	// Neither passes systemd's protocol on: LISTEN_FDS, NOTIFY_SOCKET and so on.
	Environment []string
	Handoff     handoff.Kind
	// Cache lets a Node.js that is started directly keep what it compiles for the next generation.
	Cache bool

	Probe        Probe
	ReadyPath    string        // a path on the first socket that can be asked, or a URL
	ReadyShown   string        // the same as the log and the status may show it; "": as it is
	ReadyHost    string        // the Host header and TLS server name of that request, and of the one for Alive.Path; "": as they lead
	ReadyTimeout time.Duration // from start to ready

	StopSignal  syscall.Signal // sent to the worker's main process, and to what it has left when it has ended
	StopAll     bool           // and to all other processes of the generation at the same time
	StopTimeout time.Duration  // from the signal to SIGKILL

	// Alive is how a worker that is ready is seen to hang.
	Alive signs.Settings

	// IdleStop is how long no client may have been connected before a worker that
	// is ready is stopped; 0: it is left alone.
	IdleStop time.Duration

	// Handover lets the next generation start beside the one that serves, and have the sockets when that has let go of them.
	Handover bool
	// Standby keeps another one beside the one that serves, parked at its gate and frozen, which gets the sockets when that fails.
	Standby bool

	// Prewarm lets a Node.js that is started directly load its modules beside the one that serves, and begin when that has gone;
	// PrewarmTimeout is how long it may take to load them.
	Prewarm        bool
	PrewarmTimeout time.Duration

	// FrontDesk lets somebody else answer the clients while no worker can.
	FrontDesk bool

	Backoff        Backoff
	FatalExitCodes []int
	// WaitAfterExit0 says that the next client starts the next generation when one that
	// was ready has ended by itself with exit code 0; otherwise it starts at once.
	WaitAfterExit0 bool
}

// Queues is what the supervisor wants of whoever holds the sockets, besides what it takes to see that a worker hangs and to take the
// launcher's own request back.
type Queues interface {
	signs.Queues
	probe.Queues
	// AwaitClient returns nil when a client waits to be accepted, and an error
	// when the context is done.
	AwaitClient(context.Context) error
	// AwaitIdle returns nil when no client has been connected for so long,
	// counted from the call at the earliest, and an error when the context is done
	// or when that cannot be seen. Connections from own addresses, which are the
	// launcher's own and were given up by it, do not count.
	AwaitIdle(ctx context.Context, idle time.Duration, own []netaddr.Address) error
	// Queued returns how many clients wait to be accepted, and QueuedOn how many of one of the sockets.
	Queued() (int, error)
	QueuedOn(address netaddr.Address) (int, error)
	// Absent reports whether this machine does not have the address of a socket now.
	Absent(address netaddr.Address) bool
	// Displaced reports whether somebody else listens at the path of a unix socket.
	Displaced(address netaddr.Address) bool
	// Restore puts the sockets into the state in which they came. They share it with
	// whoever serves, so nobody must.
	Restore() error
	// Listen gives the sockets the full backlog again.
	Listen() error
}

// Backoff says how long to wait before the next generation.
type Backoff struct {
	Min        time.Duration // after the first failure in a row
	Max        time.Duration // doubled up to this
	ResetAfter time.Duration // ready for so long: the row is broken; 0: at once
}

// Probe names a way to see that a worker is ready.
type Probe string

// The probes, as the configuration names them.
const (
	ProbeAuto    Probe = "auto"    // notify once the worker says READY=1, else http if a path is set, else adopted
	ProbeHTTP    Probe = "http"    // GET answers 2xx or 3xx
	ProbeNotify  Probe = "notify"  // READY=1 on the notify socket, as sd_notify(3) has it
	ProbeAdopted Probe = "adopted" // the worker listens on every held address
)
