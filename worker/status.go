package worker

import (
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/proctree"
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

// Reason says why a generation ended.
type Reason string

// The reasons, as the status shows them.
const (
	ReasonCrash   Reason = "crash"   // by itself
	ReasonConfig  Reason = "config"  // for a new configuration
	ReasonRestart Reason = "restart" // somebody asked, or the worker itself by exit code 0
	ReasonUnready Reason = "unready" // it did not become ready, or could not stay so
	ReasonIdle    Reason = "idle"    // nobody was connected for long enough
	ReasonOOM     Reason = "oom"     // the kernel killed it for want of memory
	ReasonHung    Reason = "hung"    // it was ready and did not serve (Alive.Restart)
	ReasonStop    Reason = "stop"    // the launcher ends
)

// Reasons are all of them.
var Reasons = []Reason{ReasonCrash, ReasonConfig, ReasonRestart, ReasonUnready, ReasonIdle, ReasonHung, ReasonOOM, ReasonStop}

// Exit is the end of a generation.
type Exit struct {
	Generation int
	PID        int            // of the main process; 0: it never ran
	Code       int            // exit code; -1 when a signal ended it or it never ran, -2 when nobody can tell
	Signal     syscall.Signal // 0 when it exited
	Reason     Reason
	Detail     string             // a sentence where more is known
	Strays     []proctree.Process // what was still alive when the main process had ended
	Killed     int                // and did not end by the stop signal
	At         time.Time
	Lived      time.Duration
	ReadyAfter time.Duration // from its start until it was ready; 0: it never was
}

// String says in words how the worker ended, without the reason.
func (e Exit) String() string {
	switch {
	case e.Signal != 0:
		return fmt.Sprintf("killed by %s", signalName(e.Signal))
	case e.Code >= 0:
		return fmt.Sprintf("exit code %d", e.Code)
	case e.Code == -2:
		return "ended, nobody can tell how"
	default:
		return "never ran"
	}
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
	Restarts   int
	Failures   int // generations in a row that failed
	LastExit   *Exit
	// Unserved are the held addresses on which a ready worker does not listen because this machine did not have them; nil: none.
	Unserved   *[]netip.AddrPort
	Warning    string        // in Ready, what clients miss all the same; "": nothing
	Hung       *Hung         // in Ready, why it does not serve all the same; nil when it does
	Ending     Reason        // in Stopping, why; "" otherwise, and where it ends by itself
	Says       string        // of a worker that starts or reloads, its STATUS=
	NextStart  time.Time     // in BackingOff; zero otherwise
	Until      time.Time     // when this state ends by itself at the latest; zero where it need not
	QueueLimit time.Duration // Alive.Queue
	FrontDesk  bool          // clients are answered by somebody else
	Problem    string        // what is wrong, in a sentence; "" when nothing is
	Said       string        // in Starting, what the last request of the launcher's own came to; "" where none was made
	// Edition is that of the spec from which the present worker is made, or the next
	// one, in Stopping too.
	Edition int
	// RolledBack is the edition of a spec that was given up for the last one that
	// worked, and RollbackReason why, as soon as that is decided: its worker may be
	// Stopping still. 0 and "" when the last one applied is in use.
	RolledBack     int
	RollbackReason string
}

func signalName(signal syscall.Signal) string {
	if name := unix.SignalName(signal); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(signal))
}
