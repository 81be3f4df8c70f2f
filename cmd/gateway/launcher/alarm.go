package launcher

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

// alarm runs a command when clients have not been served for long enough, and once more when they are again. The supervisor
// never waits for it.
type alarm struct {
	log      *slog.Logger
	settings func() config.Alarm // as they are now
	status   func() api.Status
	run      func(context.Context, *exec.Cmd) error
	path     string // where it is kept that it rings; "" for this life only
	changed  chan struct{}

	mu         sync.Mutex
	unserved   time.Time // since when; zero: clients are served, or nobody waits
	served     bool      // clients are; a launcher that has just started and waits knows nothing of the kind
	event      string    // why they are not
	ringing    time.Time // since when; zero: it does not ring
	rolledBack int       // the edition that was told of
	pending    int       // one that was not yet
	failure    string    // of the last command
}

func newAlarm(log *slog.Logger, path string) *alarm {
	a := &alarm{log: log, path: path, changed: make(chan struct{}, 1)}
	if content, _, err := read.File(path, 100); err == nil && path != "" {
		if since, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(string(content))); err == nil {
			a.ringing = since
		}
	}
	return a
}

// observe takes note of the worker.
func (a *alarm) observe(status worker.Status) {
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
	a.served = status.State == worker.Ready && event == ""
	if event == "" {
		a.unserved = time.Time{}
	} else if a.unserved.IsZero() {
		a.unserved = time.Now()
	}
	a.event = event
	if status.RolledBack != a.rolledBack {
		a.rolledBack, a.pending = status.RolledBack, status.RolledBack
	}
	a.look()
}

// look has watch look again.
func (a *alarm) look() {
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// watch rings until the context is done.
func (a *alarm) watch(ctx context.Context) {
	for {
		event, wait := a.next()
		if event != "" {
			a.ring(ctx, event)
			continue
		}
		timer := time.NewTimer(wait)
		if wait < 0 {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-a.changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// next returns what is to be told now; "" when nothing is, and how long it takes until something may be, negative: for ever.
func (a *alarm) next() (event string, wait time.Duration) {
	settings := a.settings()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(settings.Command) == 0 {
		a.pending, a.failure = 0, ""
		a.keep(time.Time{})
		return "", -1
	}
	late := time.Since(a.unserved) - settings.After
	switch {
	case a.pending != 0:
		a.pending = 0
		return eventRolledBack, 0
	case a.served && !a.ringing.IsZero():
		a.keep(time.Time{})
		return eventRecovered, 0
	case a.unserved.IsZero(), !a.ringing.IsZero():
		return "", -1
	case late >= 0:
		a.keep(time.Now())
		return a.event, 0
	default:
		return "", -late
	}
}

// keep takes note of since when it rings, for the next life of the launcher too.
func (a *alarm) keep(ringing time.Time) {
	if a.ringing.Equal(ringing) {
		return
	}
	a.ringing = ringing
	var err error
	switch {
	case a.path == "":
	case ringing.IsZero():
		if err = os.Remove(a.path); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	default:
		err = state.Write(a.path, []byte(ringing.Format(time.RFC3339Nano)+"\n"))
	}
	if err != nil {
		a.log.Warn("whether the alarm rings is not kept for the next start of the launcher", "error", err)
	}
}

// ring runs the command, and returns when all that it has started has ended.
func (a *alarm) ring(ctx context.Context, event string) {
	command, status := a.settings().Command, a.status()
	if len(command) == 0 {
		return // an edit has just taken it away
	}
	told, err := json.Marshal(status)
	if err != nil {
		a.log.Error("the alarm cannot tell the status", "error", err)
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, alarmLimit, fmt.Errorf("not ended after %s", alarmLimit))
	defer cancel()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = homeDirectory(), bytes.NewReader(append(told, '\n')), os.Stderr, os.Stderr
	cmd.Env = append(os.Environ(),
		"GATEWAY_EVENT="+event, "GATEWAY_PROBLEM="+say.Printable(strings.Join(status.Problems, "; ")),
		"GATEWAY_GENERATION="+strconv.Itoa(status.Worker.Generation), "GATEWAY_INSTANCE=")
	a.log.Info("alarm", "event", event, "generation", status.Worker.Generation)
	err = a.run(ctx, cmd)
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

// tell adds the alarm to a status.
func (a *alarm) tell(s *api.Status) {
	off := len(a.settings().Command) == 0
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
