package launcher

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/worker"
)

// startJobLimit is how long the start job waits for a worker that neither
// serves nor fails.
const startJobLimit = 90 * time.Second

// announcer tells systemd the truth: READY=1 while the worker answers or sleeps
// until somebody connects, RELOADING=1 while it does not answer, and STATUS= in
// words. A worker that was ready and hangs does not answer. Before the first READY=1 the start job runs; it ends also when the
// first generation fails, so that no boot hangs on a worker.
type announcer struct {
	mu    sync.Mutex
	ready bool           // READY=1 was said, so the start job has ended
	up    bool           // and it still holds
	seen  *worker.Status // nil before the first
	// addresses are those of the worker that was seen.
	addresses []netip.AddrPort
	// rejected says why an edited configuration is not in use; "" when it is.
	rejected string
	status   string
}

func (a *announcer) observe(status worker.Status, addresses []netip.AddrPort) {
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
	default:
		failed := status.State == worker.BackingOff || status.State == worker.Failed
		if a.ready || failed {
			change = a.down()
		}
	}
	a.seen, a.addresses = &status, addresses
	a.say(change)
}

// activeState is what systemd shows of the unit.
func (a *announcer) activeState() string {
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

// reject says why an edited configuration is not in use; "" takes it back.
func (a *announcer) reject(why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rejected = why
	if a.seen != nil {
		a.say("")
	}
}

// say tells of a change, if there is one, and brings STATUS= up to date: in one
// message, because systemd has work with each while a client waits for the worker.
func (a *announcer) say(change string) {
	text := a.describe(*a.seen)
	switch {
	case a.rejected != "" && a.seen.State != worker.Failed:
		text += api.SaysRejected + a.rejected
	case a.seen.RolledBack != 0:
		text += api.SaysRolledBack + a.seen.RollbackReason
	}
	// A line each is what the protocol is made of.
	text = say.Cut(say.Printable(strings.ReplaceAll(text, "\n", "; ")), longestStatus)
	message := change
	if text != a.status {
		a.status = text
		// systemd takes a message apart as words, in which a backslash stands for what comes after it (252, 257).
		message = strings.TrimPrefix(change+"\nSTATUS="+strings.ReplaceAll(text, `\`, `\\`), "\n")
	}
	if message != "" {
		notify(message)
	}
}

// longestStatus is in bytes, each of which may become two: systemd takes no message of more than 4 KiB (NOTIFY_BUFFER_MAX), and
// READY=1 is in the same.
const longestStatus = 1900

// endStartJob ends it, if it has not ended.
func (a *announcer) endStartJob() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.ready {
		notify(a.down())
	}
}

// down returns what to say when the worker does not answer; "" when that was
// said. It ends the start job first, by a message of its own: within one the
// order means nothing to systemd.
func (a *announcer) down() string {
	if !a.ready {
		notify(daemon.SdNotifyReady)
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
func (a *announcer) describe(s worker.Status) string {
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
		return text + says(s)
	case worker.Ready:
		if s.Hung != nil {
			return fmt.Sprintf(api.SaysHung, s.Generation, s.PID) + ": " + s.Hung.Detail
		}
		return fmt.Sprintf("generation %d serves %s (pid %d, ready after %s)", s.Generation, where, s.PID, say.Duration(s.ReadyAfter)) + says(s)
	case worker.Stopping:
		text := fmt.Sprintf(api.SaysStopping, s.Generation, s.PID)
		if s.Ending == worker.ReasonIdle {
			text += ": nobody was connected"
		}
		return text + say.Until(s.Until)
	case worker.BackingOff:
		failures := say.Count(s.Failures, "failure")
		if s.Failures > 1 {
			failures += " in a row"
		}
		return fmt.Sprintf("%s; %s; next start at %s", s.Problem, failures, s.NextStart.Format("15:04:05"))
	default:
		return s.Problem
	}
}

// says is what the worker itself says while it starts or reloads.
func says(s worker.Status) string {
	if s.Says == "" {
		return ""
	}
	return "; it says: " + say.Cut(s.Says, longestSaid)
}

// longestSaid is in bytes: what the launcher says comes first.
const longestSaid = 500

// notify sends a message to the service manager, if there is one.
func notify(message string) {
	if _, err := daemon.SdNotify(false, message); err != nil {
		slog.Warn("cannot tell systemd", "message", message, "error", err)
	}
}
