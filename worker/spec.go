package worker

import (
	"context"
	"net/netip"
	"syscall"
	"time"

	"openclaw-gateway/worker/handoff"
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
	// Directory is the working directory, an absolute path.
	Directory string
	// Environment holds KEY=value entries on top of the launcher's environment.
	// Neither passes systemd's protocol on: LISTEN_FDS, NOTIFY_SOCKET and so on.
	Environment []string
	Handoff     handoff.Kind

	Probe        Probe
	ReadyPath    string        // a path on the first socket that can be asked, or a URL
	ReadyShown   string        // the same as the log and the status may show it; "": as it is
	ReadyTimeout time.Duration // from start to ready

	StopSignal  syscall.Signal // sent to the worker's main process, and to what it has left when it has ended
	StopAll     bool           // and to all other processes of the generation at the same time
	StopTimeout time.Duration  // from the signal to SIGKILL

	// Alive is how a worker that is ready is seen to hang.
	Alive Alive

	// IdleStop is how long no client may have been connected before a worker that
	// is ready is stopped; 0: it is left alone.
	IdleStop time.Duration

	// FrontDesk lets somebody else answer the clients while no worker can.
	FrontDesk bool

	Backoff        Backoff
	FatalExitCodes []int
	// WaitAfterExit0 says that the next client starts the next generation when one that
	// was ready has ended by itself with exit code 0; otherwise it starts at once.
	WaitAfterExit0 bool
}

// Queues is what the supervisor wants of whoever holds the sockets.
type Queues interface {
	// AwaitClient returns nil when a client waits to be accepted, and an error
	// when the context is done.
	AwaitClient(context.Context) error
	// AwaitIdle returns nil when no client has been connected for so long,
	// counted from the call at the earliest, and an error when the context is done
	// or when that cannot be seen. Connections from own addresses, which are the
	// launcher's own and were given up by it, do not count.
	AwaitIdle(ctx context.Context, idle time.Duration, own []netip.AddrPort) error
	// AwaitStall returns on which socket a client has stood unaccepted for so long, and since when, and an error when the
	// context is done or when that cannot be seen. AwaitRelief returns nil when no such client is left.
	AwaitStall(ctx context.Context, limit time.Duration) (address netip.AddrPort, since time.Time, err error)
	AwaitRelief(ctx context.Context, limit time.Duration) error
	// Queued returns how many clients wait to be accepted.
	Queued() (int, error)
	// Unaccepted reports whether a connection to this machine has not been accepted
	// yet, named by its two ends.
	Unaccepted(server, client netip.AddrPort) (bool, error)
	// QueuedOn is Queued for one of the sockets. Reach returns where this process can connect to that, if it can, and Absent
	// reports whether this machine does not have its address now.
	QueuedOn(address netip.AddrPort) (int, error)
	Reach(address netip.AddrPort) (target netip.AddrPort, can bool)
	Absent(address netip.AddrPort) bool
	// Restore puts the sockets into the state in which they came. They share it with
	// whoever serves, so nobody must.
	Restore() error
	// Listen gives the sockets the full backlog again.
	Listen() error
	// Discard takes the launcher's own connection out of the queue of a socket,
	// named by its client's address, unless others wait there too.
	Discard(socket, client netip.AddrPort) error
}

// Alive says when a worker that is ready counts as hung, and what follows.
type Alive struct {
	Queue       time.Duration // a client has stood unaccepted for so long; 0: not looked at
	Path        string        // asked for as Spec.ReadyPath is; "": no request is made
	Shown       string        // the same as the log and the status may show it
	Interval    time.Duration // between two requests
	Timeout     time.Duration // for the answer
	Failures    int           // in a row
	Watchdog    time.Duration // the worker was promised as WATCHDOG_USEC that it is missed after so long without WATCHDOG=1; 0: it was not
	Restart     bool          // it is replaced
	StopTimeout time.Duration // of a hung one, from the signal to SIGKILL
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
