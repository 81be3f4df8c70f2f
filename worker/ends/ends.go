// Package ends is how and why a generation of the worker ended.
package ends

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/worker/proctree"
)

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
	Cached     bool          // it had what an earlier one had compiled
	Prewarmed  bool          // it began with modules that it had loaded ahead
	// Of one that started beside another: from its start until it stood at its gate, and until it was let in; 0: it was not.
	GateAfter, ReleasedAfter time.Duration
	// Stall is from when the one before was told to end, or had ended, or had let go of the sockets for it, until it was ready; 0: it was
	// not, or nobody waited for it.
	Stall time.Duration
	// Successor says that it was to follow another one, and has not had the sockets.
	Successor bool
}

// String says in words how the worker ended, without the reason.
func (e Exit) String() string {
	switch {
	case e.Signal != 0:
		return fmt.Sprintf("killed by %s", SignalName(e.Signal))
	case e.Code >= 0:
		return fmt.Sprintf("exit code %d", e.Code)
	case e.Code == -2:
		return "ended, nobody can tell how"
	default:
		return "never ran"
	}
}

// SignalName is the name of a signal, or its number.
func SignalName(signal syscall.Signal) string {
	if name := unix.SignalName(signal); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(signal))
}
