package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/worker"
)

const bound = 20 * time.Second

// bell is an alarm whose command is not run but told of.
type bell struct {
	*alarm
	t     *testing.T
	rung  chan string
	fails error
	after time.Duration
	off   bool
}

func newBell(t *testing.T, path string, after time.Duration) *bell {
	b := &bell{alarm: newAlarm(slog.New(slog.DiscardHandler), path), t: t, rung: make(chan string, 10), after: after}
	b.settings = func() config.Alarm {
		if b.off {
			return config.Alarm{}
		}
		return config.Alarm{Command: []string{"/bin/true"}, After: b.after}
	}
	b.status = func() api.Status {
		return api.Status{Problems: []string{"one", "two"}, Worker: api.Worker{Generation: 7}}
	}
	b.run = func(_ context.Context, cmd *exec.Cmd) error {
		var told api.Status
		if err := json.NewDecoder(cmd.Stdin).Decode(&told); err != nil || told.Worker.Generation != 7 {
			t.Errorf("on its standard input: %+v, %v", told, err)
		}
		if _, err := cmd.Stdin.Read(make([]byte, 1)); err != nil && err != io.EOF {
			t.Error(err)
		}
		for _, want := range []string{"GATEWAY_PROBLEM=one; two", "GATEWAY_GENERATION=7", "GATEWAY_INSTANCE="} {
			if !slices.Contains(cmd.Env, want) {
				t.Errorf("%s is not in its environment", want)
			}
		}
		i := slices.IndexFunc(cmd.Env, func(entry string) bool { return strings.HasPrefix(entry, "GATEWAY_EVENT=") })
		b.rung <- strings.TrimPrefix(cmd.Env[i], "GATEWAY_EVENT=")
		return b.fails
	}
	return b
}

func (b *bell) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.watch(ctx)
	}()
	b.t.Cleanup(func() {
		cancel()
		<-ended
	})
}

func (b *bell) want(events ...string) {
	b.t.Helper()
	for _, want := range events {
		select {
		case got := <-b.rung:
			if got != want {
				b.t.Errorf("rang for %q, want %q", got, want)
			}
		case <-time.After(bound):
			b.t.Fatalf("did not ring for %q within %s", want, bound)
		}
	}
}

// quiet expects that it has not rung.
func (b *bell) quiet() {
	b.t.Helper()
	select {
	case got := <-b.rung:
		b.t.Errorf("rang for %q", got)
	default:
	}
}

func (b *bell) state() (state string, problems []string) {
	var s api.Status
	b.tell(&s)
	return s.Alarm.State, s.Problems
}

// TestAlarmEvents: what each state is to an alarm that waits for nothing.
func TestAlarmEvents(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status worker.Status
		event  string
	}{
		"failed":      {worker.Status{State: worker.Failed}, "failed"},
		"hung":        {worker.Status{State: worker.Ready, Hung: new(worker.Hung)}, "hung"},
		"starting":    {worker.Status{State: worker.Starting}, "unready"},
		"stopping":    {worker.Status{State: worker.Stopping}, "unready"},
		"backing off": {worker.Status{State: worker.BackingOff}, "unready"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBell(t, "", 0)
			b.observe(worker.Status{State: worker.Waiting})
			b.begin()
			b.observe(test.status)
			b.want(test.event)
			if state, _ := b.state(); state != api.AlarmRinging {
				t.Errorf("the alarm is %s", state)
			}
			b.observe(test.status) // once is enough
			b.observe(worker.Status{State: worker.Ready})
			b.want("recovered")
			b.quiet()
			if state, _ := b.state(); state != api.AlarmQuiet {
				t.Errorf("the alarm is %s", state)
			}
		})
	}
}

// TestAlarmAfter: what does not last is nobody's business, and one state after the other that does not serve lasts.
func TestAlarmAfter(t *testing.T) {
	t.Parallel()
	b := newBell(t, "", time.Hour)
	b.begin()
	for range 3 {
		b.observe(worker.Status{State: worker.Starting})
		b.observe(worker.Status{State: worker.Ready})
	}
	b.observe(worker.Status{State: worker.Stopping})
	b.mu.Lock()
	b.unserved = b.unserved.Add(-time.Hour) // as if it had lasted
	b.mu.Unlock()
	b.observe(worker.Status{State: worker.Starting})
	b.want("unready")
	b.quiet()
}

// TestAlarmRollback: it is told at once, once, and nothing recovers from it.
func TestAlarmRollback(t *testing.T) {
	t.Parallel()
	b := newBell(t, "", time.Hour)
	b.begin()
	for _, state := range []worker.State{worker.Stopping, worker.Starting, worker.Ready} {
		b.observe(worker.Status{State: state, RolledBack: 2})
	}
	b.want("rolled-back")
	b.observe(worker.Status{State: worker.Ready, RolledBack: 5})
	b.want("rolled-back")
	b.quiet()
}

// TestAlarmAcrossLives: the next launcher knows that it rings.
func TestAlarmAcrossLives(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "alarm")
	first := newBell(t, path, 0)
	first.begin()
	first.observe(worker.Status{State: worker.Failed})
	first.want("failed")
	first.observe(worker.Status{State: worker.Stopped})

	second := newBell(t, path, time.Hour)
	second.observe(worker.Status{State: worker.Waiting})
	if event, _ := second.next(); event != "" {
		t.Errorf("rings for %q before anybody was served", event)
	}
	second.begin()
	second.observe(worker.Status{State: worker.Starting})
	if state, _ := second.state(); state != api.AlarmRinging {
		t.Errorf("in the next life the alarm is %s", state)
	}
	second.observe(worker.Status{State: worker.Ready})
	second.want("recovered")
	second.quiet()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is kept that the alarm rings: %v", err)
	}
}

// TestAlarmFails: a command that fails is a problem until one works, or is taken away.
func TestAlarmFails(t *testing.T) {
	t.Parallel()
	b := newBell(t, "", 0)
	b.fails = errors.New("exit status 7")
	b.begin()
	b.observe(worker.Status{State: worker.Failed})
	b.want("failed")
	b.observe(worker.Status{State: worker.Ready})
	b.want("recovered") // so the first command has ended
	if _, problems := b.state(); len(problems) != 1 || !strings.Contains(problems[0], "alarm.command") || !strings.Contains(problems[0], "exit status 7") {
		t.Errorf("the problems are %q, want that the command has failed", problems)
	}
}

func TestAlarmOff(t *testing.T) {
	t.Parallel()
	b := newBell(t, "", 0)
	b.off = true
	b.observe(worker.Status{State: worker.Failed, RolledBack: 1})
	if event, wait := b.next(); event != "" || wait >= 0 {
		t.Errorf("rings for %q, or after %s", event, wait)
	}
	if state, _ := b.state(); state != api.AlarmOff {
		t.Errorf("the alarm is %s", state)
	}
}
