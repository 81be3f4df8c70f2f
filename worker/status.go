package worker

import (
	"time"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/signs"
)

// State is where the supervisor stands, or its generation where there is one.
type State int

// The states; doc.go draws them.
const (
	Waiting    State = iota // no generation; a client starts one
	Starting                // a generation has started and does not serve yet
	Ready                   // the generation serves
	Stopping                // the generation has been told to end
	BackingOff              // no generation; the next one starts when the time has come
	Failed                  // no generation; the next one starts when somebody asks
	Stopped                 // the supervisor has ended
)

func (s State) String() string {
	return [...]string{"waiting", "starting", "ready", "stopping", "backoff", "failed", "stopped"}[s]
}

// Status is a snapshot of the supervisor.
type Status struct {
	State      State
	Generation int       // of the present worker, or of the last one; 0 before the first
	PID        int       // of the worker's main process; 0 without one
	Since      time.Time // when this state was entered
	Started    time.Time // of the worker's process; zero without one
	ReadyAfter time.Duration
	Handoff    handoff.Kind
	OpenClaw   handoff.OpenClaw // in the worker's own words, from its start
	Cached     bool             // as in Exit
	Uncached   string           // why a Node.js was started without a compile cache (Spec.Cache); "": nothing is wrong
	Prewarmed  bool             // as in Exit
	Cold       string           // why the last restart was none with modules that were loaded ahead (Spec.Prewarm); "": it was, or none was to be
	Restarts   int
	Failures   int // generations in a row that failed
	LastExit   *ends.Exit
	// Unserved are the held addresses on which a ready worker does not listen because this machine did not have them; nil: none.
	Unserved *[]netaddr.Address
	Warning  string      // in Ready, what clients miss all the same; "": nothing
	Deprived bool        // in Ready, it runs with no_new_privs, which intercept needs here
	Blind    string      // in Ready, why a client that waits too long is not seen (Alive.Queue); "": it is, or is not looked at
	Mute     string      // in Ready, why no request is made (Alive.Path); "": it is, or none is to be
	Hung     *signs.Hung // in Ready, why it does not serve all the same; nil when it does
	Ending   ends.Reason // in Stopping, why; "" otherwise, and where it ends by itself
	Says     string      // of a worker that starts or reloads, its STATUS=
	// Successor is the generation that starts beside this one (Spec.Handover), and Leaving the one before it that has let go of the
	// sockets and lives on; zero: there is none. Apart says why the next one cannot start beside this one; "" where it can, or
	// is not to. NoStandby says why there is no standby although there is to be one (Spec.Standby); "" where there is, or may be.
	Successor, Leaving Beside
	Apart, NoStandby   string
	// As in Exit, and when it was let in.
	GateAfter, ReleasedAfter time.Duration
	Stall                    time.Duration
	Released                 time.Time
	NextStart                time.Time     // in BackingOff; zero otherwise
	Until                    time.Time     // when this state ends by itself at the latest; zero where it need not
	QueueLimit               time.Duration // Alive.Queue
	FrontDesk                bool          // clients are answered by somebody else
	Problem                  string        // what is wrong, in a sentence; "" when nothing is
	Said                     string        // in Starting, what the last request of the launcher's own came to; "" where none was made
	// Edition is that of the spec from which the present worker is made, or the next
	// one, in Stopping too.
	Edition int
	// RolledBack is the edition of a spec that was given up for the last one that
	// worked, and RollbackReason why, as soon as that is decided: its worker may be
	// Stopping still. 0 and "" when the last one applied is in use.
	RolledBack     int
	RollbackReason string
}

// Beside is a generation beside the present one.
type Beside struct {
	Generation int
	PID        int
	State      string // BesideBooting or BesideParked, BesideLeaving
	Since      time.Time
	Started    time.Time
	ReadyAfter time.Duration
	GateAfter  time.Duration
	Released   time.Duration // as ReleasedAfter of Exit
	Stall      time.Duration
	Cached     bool
	Prewarmed  bool
	Modules    int       // that it has loaded ahead
	Until      time.Time // when it is killed, of one that leaves
	Standby    bool      // of a successor, it is there for the case that the present one fails
}

// The states of a generation beside the present one.
const (
	BesideBooting = "booting" // it has not come to its gate
	BesideParked  = "parked"  // it waits at its gate
	BesideLeaving = "leaving" // it has let go of the sockets
)
