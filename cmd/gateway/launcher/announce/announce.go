// Package announce tells systemd what the worker does.
package announce

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker"
	"openclaw-gateway/worker/ends"
)

// StartJobLimit is how long the start job waits for a worker that neither
// serves nor fails.
const StartJobLimit = 90 * time.Second

// Announcer tells systemd the truth: READY=1 while the worker answers or sleeps
// until somebody connects, RELOADING=1 while it does not answer, and STATUS= in
// words. A worker that was ready and hangs does not answer. Before the first READY=1 the start job runs; it ends also when the
// first generation fails, so that no boot hangs on a worker.
type Announcer struct {
	mu    sync.Mutex
	ready bool           // READY=1 was said, so the start job has ended
	up    bool           // and it still holds
	seen  *worker.Status // nil before the first
	// addresses are those of the worker that was seen.
	addresses []netaddr.Address
	// rejected says why an edited configuration is not in use; "" when it is.
	rejected string
	status   string
	grace    int // the generation that has been let in last, and may become ready unnoticed; negative: that has let go for one
}

// unnoticed is how long a generation may take from when it got the sockets until it serves, before systemd is told; and one that has let
// go of them, until its successor, which waits for something else of it, gets them. One whose program begins only then takes longer.
const unnoticed = time.Second

// Observe takes note of the worker, and of the addresses that it has.
func (a *Announcer) Observe(status worker.Status, addresses []netaddr.Address) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var change string
	switch {
	case status.State == worker.Stopped:
		return
	case status.State == worker.Waiting || status.State == worker.Ready && status.Hung == nil:
		if !a.up {
			change = daemon.SdNotifyReady
			a.ready, a.up = true, true
		}
	case status.State == worker.Starting && a.up && !status.Prewarmed && !status.Released.IsZero() && time.Since(status.Released) < unnoticed:
		a.giveGrace(status.Generation, unnoticed-time.Since(status.Released))
	case status.State == worker.Stopping && a.up && status.Successor.State == worker.BesideParked && status.Successor.Modules == 0:
		a.giveGrace(-status.Generation, unnoticed)
	default:
		failed := status.State == worker.BackingOff || status.State == worker.Failed
		if a.ready || failed {
			change = a.down()
		}
	}
	a.seen, a.addresses = &status, addresses
	a.say(change)
}

// Resume is for a program that has taken the place of another one, which has said READY=1.
func (a *Announcer) Resume() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ready, a.up = true, true
}

func (a *Announcer) giveGrace(generation int, limit time.Duration) {
	if a.grace != generation {
		a.grace = generation
		time.AfterFunc(limit, func() { a.endGrace(generation) })
	}
}

// endGrace tells of a generation that has had its time unnoticed.
func (a *Announcer) endGrace(generation int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	waits := a.seen.State == worker.Starting && a.seen.Generation == generation || a.seen.State == worker.Stopping && -a.seen.Generation == generation
	if waits && a.up {
		a.say(a.down())
	}
}

// ActiveState is what systemd shows of the unit.
func (a *Announcer) ActiveState() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case !a.ready:
		return "activating"
	case a.up:
		return "active"
	default:
		return "reloading"
	}
}

// Reject says why an edited configuration is not in use; "" takes it back.
func (a *Announcer) Reject(why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rejected = why
	if a.seen != nil {
		a.say("")
	}
}

// say tells of a change, if there is one, and brings STATUS= up to date: in one
// message, because systemd has work with each while a client waits for the worker.
func (a *Announcer) say(change string) {
	text := a.describe(*a.seen)
	switch {
	case a.rejected != "" && a.seen.State != worker.Failed:
		text += api.SaysRejected + a.rejected
	case a.seen.RolledBack != 0:
		text += api.SaysRolledBack + a.seen.RollbackReason
	}
	// A line each is what the protocol is made of.
	text = say.Cut(say.Line(text), longestStatus)
	message := change
	if text != a.status {
		a.status = text
		// systemd takes a message apart as words, in which a backslash stands for what comes after it (252, 257).
		message = strings.TrimPrefix(change+"\nSTATUS="+strings.ReplaceAll(text, `\`, `\\`), "\n")
	}
	if message != "" {
		Notify(message)
	}
}

// longestStatus is in bytes, each of which may become two: systemd takes no message of more than 4 KiB (NOTIFY_BUFFER_MAX), and
// READY=1 is in the same.
const longestStatus = 1900

// EndStartJob ends it, if it has not ended.
func (a *Announcer) EndStartJob() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.ready {
		Notify(a.down())
	}
}

// down returns what to say when the worker does not answer; "" when that was
// said. It ends the start job first, by a message of its own: within one the
// order means nothing to systemd.
func (a *Announcer) down() string {
	if !a.ready {
		Notify(daemon.SdNotifyReady)
		a.ready, a.up = true, true
	}
	if !a.up {
		return ""
	}
	a.up = false
	return reloading()
}

// reloading returns the message for "does not answer". systemd 253 and later
// want the time with it (sd_notify(3)).
func reloading() string {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return daemon.SdNotifyReloading
	}
	return fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000)
}

// describe says in a line what the worker does.
func (a *Announcer) describe(s worker.Status) string {
	where := say.Addresses(a.addresses)
	switch s.State {
	case worker.Waiting:
		if s.LastExit != nil {
			return api.SaysWaiting + "next client on " + where
		}
		return api.SaysWaiting + "first client on " + where
	case worker.Starting:
		text := fmt.Sprintf(api.SaysStarting, s.Generation, s.PID)
		if s.Problem != "" {
			text += "; " + s.Problem
		}
		if s.Said != "" {
			text += "; not ready yet: " + s.Said
		}
		return text + besides(s) + says(s)
	case worker.Ready:
		if s.Hung != nil {
			return api.SayHung(s.Generation, s.PID, s.Hung.Detail)
		}
		return fmt.Sprintf("generation %d serves %s (pid %d, ready after %s)", s.Generation, where, s.PID, say.Duration(s.ReadyAfter)) + besides(s) + says(s)
	case worker.Stopping:
		text := fmt.Sprintf(api.SaysStopping, s.Generation, s.PID)
		if s.Ending == ends.ReasonIdle {
			text += ": nobody was connected"
		}
		return text + say.Until(s.Until)
	case worker.BackingOff:
		if s.NextStart.IsZero() { // it waits for the one that leaves
			return s.Problem + besides(s)
		}
		failures := say.Count(s.Failures, "failure")
		if s.Failures > 1 {
			failures += " in a row"
		}
		return fmt.Sprintf("%s; %s; next start at %s", s.Problem, failures, s.NextStart.Format("15:04:05"))
	default:
		return s.Problem
	}
}

// besides says which generation there is besides.
func besides(s worker.Status) (text string) {
	if next := s.Successor; next.Standby {
		text += fmt.Sprintf("; a standby is %s (generation %d, pid %d)", next.State, next.Generation, next.PID)
	} else if next.Generation != 0 {
		text += fmt.Sprintf("; generation %d is %s (pid %d)", next.Generation, next.State, next.PID)
	}
	if old := s.Leaving; old.Generation != 0 {
		text += fmt.Sprintf("; generation %d is leaving (pid %d)", old.Generation, old.PID)
	}
	return text
}

// says is what the worker itself says while it starts or reloads.
func says(s worker.Status) string {
	if s.Says == "" {
		return ""
	}
	return "; it says: " + say.Cut(s.Says, LongestSaid)
}

// LongestSaid is in bytes: what the launcher says comes first.
const LongestSaid = 500

// Notify sends a message to the service manager, if there is one.
func Notify(message string) {
	if _, err := daemon.SdNotify(false, message); err != nil {
		slog.Warn("cannot tell systemd", "message", message, "error", err)
	}
}
