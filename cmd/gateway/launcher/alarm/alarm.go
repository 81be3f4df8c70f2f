// Package alarm runs a command of the user's when clients are not served, and when they are again.
package alarm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/state"
	"openclaw-gateway/worker"
)

// The events that an alarm command is told of, in GATEWAY_EVENT.
const (
	eventFailed     = "failed"      // no worker is started any more
	eventHung       = "hung"        // the worker does not serve
	eventUnready    = "unready"     // clients wait for another reason, or are answered with 503
	eventRolledBack = "rolled-back" // an edit was taken back; nothing recovers from that
	eventRecovered  = "recovered"   // clients are served again
)

// alarmLimit is how long a command may take.
const alarmLimit = 30 * time.Second

// alarmCalm is how long clients must have been served, where alarm.after is longer, so that they count as served again: a worker
// that crashes again and again is ready in between.
const alarmCalm = 10 * time.Second

// Alarm runs a command when clients have not been served for long enough, and once more when they are again. The supervisor
// never waits for it.
type Alarm struct {
	Settings func() config.Alarm // as they are now
	Status   func() api.Status
	Run      func(context.Context, *exec.Cmd) error // returns when the command has ended, and all that it has started

	// Kept is whether it rings, for the next life of the launcher: nobody waits for the disk, neither the supervisor nor the command.
	Kept state.Keeper

	log     *slog.Logger
	path    string // where it is kept that it rings; "" for this life only
	changed chan struct{}
	calm    time.Duration

	mu         sync.Mutex
	unserved   time.Time // since when; zero: nobody waits, and nobody has
	served     time.Time // since when clients are; zero: they are not, or a launcher that has just started and waits does not know
	event      string    // why they are not
	ringing    time.Time // since when; zero: it does not ring
	rolledBack int       // the last edition that was
	kept       time.Time // of ringing, what the file has or is about to have
	pending    int       // how many were that nobody has taken note of yet
	failure    string    // of the last command
}

// occurrence is an event with what was known when it happened: the command that tells of it may have to wait for another one.
type occurrence struct {
	event   string
	ringing time.Time // since when the alarm rings from then on; zero: it does not
	status  api.Status
}

// mostWaiting is how many events may wait for a command that takes long.
const mostWaiting = 100

// New returns one that is quiet, or rings if that is kept in the file at path. What is exported of it has to be set.
func New(log *slog.Logger, path string) *Alarm {
	a := &Alarm{log: log, path: path, changed: make(chan struct{}, 1), calm: alarmCalm}
	a.Kept = state.Keeper{Log: log, What: "whether the alarm rings is", Write: a.write}
	if content, _, err := read.File(path, 100); err == nil && path != "" {
		if since, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(string(content))); err == nil {
			a.ringing, a.kept = since, since
		}
	}
	return a
}

// RolledBack is told of an edition that was rolled back before, and of which the alarm has told.
func (a *Alarm) RolledBack(edition int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rolledBack = edition
}

// Observe takes note of the worker.
func (a *Alarm) Observe(status worker.Status) {
	settings := a.Settings()
	a.mu.Lock()
	defer a.mu.Unlock()
	event := eventUnready
	switch {
	case status.State == worker.Waiting, status.State == worker.Ready && status.Hung == nil:
		event = ""
	case status.State == worker.Ready:
		event = eventHung
	case status.State == worker.Failed:
		event = eventFailed
	case status.State == worker.Stopped:
		return // the next launcher knows more
	}
	switch ready := status.State == worker.Ready && event == ""; {
	case ready && a.served.IsZero():
		a.served = time.Now()
	case ready:
	case event == "":
		a.unserved, a.served = time.Time{}, time.Time{}
	default:
		if a.unserved.IsZero() || !a.served.IsZero() && a.calmAfter(settings) <= 0 {
			a.unserved = time.Now()
		}
		a.served = time.Time{}
	}
	a.event = event
	if status.RolledBack != a.rolledBack {
		a.rolledBack = status.RolledBack
		a.pending++
	}
	a.Look()
}

// calmAfter is how long it takes until clients that are served count as served.
func (a *Alarm) calmAfter(settings config.Alarm) time.Duration {
	return min(a.calm, settings.After) - time.Since(a.served)
}

// Look has Watch look again.
func (a *Alarm) Look() {
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// Watch rings until the context is done. Events are told one after the other, in their order, however long a command takes.
func (a *Alarm) Watch(ctx context.Context) {
	var waiting []occurrence
	var ended chan struct{} // nil while no command runs
	for {
		event, wait := a.next()
		if event != "" {
			waiting = a.remember(waiting, event)
			continue
		}
		if len(waiting) > 0 && ended == nil {
			first := waiting[0]
			waiting, ended = waiting[1:], make(chan struct{})
			go func() {
				defer close(ended)
				a.ring(ctx, first)
			}()
		}
		timer := time.NewTimer(wait)
		if wait < 0 {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			timer.Stop()
			if ended != nil {
				<-ended
			}
			return
		case <-ended:
			ended = nil
		case <-a.changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// remember adds an event to those that wait; the oldest gives way where they are too many.
func (a *Alarm) remember(waiting []occurrence, event string) []occurrence {
	if len(waiting) == mostWaiting {
		a.log.Error("alarm.command takes so long that an event is not told", "event", waiting[0].event)
		waiting = waiting[1:]
	}
	status := a.Status()
	a.mu.Lock()
	defer a.mu.Unlock()
	return append(waiting, occurrence{event: event, ringing: a.ringing, status: status})
}

// next returns what is to be told now; "" when nothing is, and how long it takes until something may be, negative: for ever.
func (a *Alarm) next() (event string, wait time.Duration) {
	settings := a.Settings()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(settings.Command) == 0 {
		a.pending, a.failure, a.ringing = 0, "", time.Time{}
		a.keep(a.ringing)
		return "", -1
	}
	late := time.Since(a.unserved) - settings.After
	switch {
	case a.pending > 0:
		a.pending--
		return eventRolledBack, 0
	case !a.served.IsZero() && !a.ringing.IsZero():
		if wait = a.calmAfter(settings); wait > 0 {
			return "", wait
		}
		a.ringing = time.Time{}
		return eventRecovered, 0
	case a.unserved.IsZero(), !a.served.IsZero(), !a.ringing.IsZero():
		return "", -1
	case late >= 0:
		a.ringing = time.Now()
		return a.event, 0
	default:
		return "", -late
	}
}

// keep takes note of since when it rings for the next life of the launcher: what nobody was told of in this one, that one tells.
func (a *Alarm) keep(ringing time.Time) {
	if !a.kept.Equal(ringing) {
		a.kept = ringing
		a.Kept.Keep()
	}
}

func (a *Alarm) write() error {
	a.mu.Lock()
	ringing := a.kept
	a.mu.Unlock()
	switch {
	case a.path == "":
		return nil
	case ringing.IsZero():
		if err := os.Remove(a.path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	default:
		return state.Write(a.path, []byte(ringing.Format(time.RFC3339Nano)+"\n"))
	}
}

// ring runs the command, and returns when all that it has started has ended.
func (a *Alarm) ring(ctx context.Context, o occurrence) {
	command, event, status := a.Settings().Command, o.event, o.status
	if len(command) == 0 {
		return // an edit has taken it away
	}
	a.mu.Lock()
	a.keep(o.ringing)
	a.mu.Unlock()
	told, err := json.Marshal(status)
	if err != nil {
		a.log.Error("the alarm cannot tell the status", "error", err)
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, alarmLimit, fmt.Errorf("not ended after %s", alarmLimit))
	defer cancel()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(append(told, '\n')), os.Stderr, os.Stderr
	cmd.Env = append(os.Environ(),
		"GATEWAY_EVENT="+event, "GATEWAY_PROBLEM="+say.Printable(strings.Join(status.Problems, "; ")),
		"GATEWAY_GENERATION="+strconv.Itoa(status.Worker.Generation), "GATEWAY_INSTANCE="+status.Instance)
	a.log.Info("alarm", "event", event, "generation", status.Worker.Generation)
	err = a.Run(ctx, cmd)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failure = ""
	if err != nil {
		a.failure = fmt.Sprintf("alarm.command has failed for the event %s: %v", event, err)
		a.log.Error("alarm.command has failed", "event", event, "error", err)
	}
}

// Tell adds the alarm to a status.
func (a *Alarm) Tell(s *api.Status) {
	off := len(a.Settings().Command) == 0
	a.mu.Lock()
	defer a.mu.Unlock()
	s.Alarm = api.Alarm{State: api.AlarmQuiet, Since: api.Moment(a.ringing)}
	switch {
	case off:
		s.Alarm = api.Alarm{State: api.AlarmOff}
	case !a.ringing.IsZero():
		s.Alarm.State = api.AlarmRinging
	}
	if a.failure != "" && !off {
		s.Problems = append(s.Problems, a.failure)
	}
}
