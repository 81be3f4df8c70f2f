package alarm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/worker"
	"openclaw-gateway/worker/signs"
)

const bound = 20 * time.Second

// bell is an alarm whose command is not run but told of.
type bell struct {
	*Alarm
	t     *testing.T
	rung  chan string
	fails error
	after time.Duration
	off   bool
}

func newBell(t *testing.T, path string, after time.Duration) *bell {
	b := &bell{Alarm: New(slog.New(slog.DiscardHandler), path), t: t, rung: make(chan string, 10), after: after}
	b.calm = 0
	b.Settings = func() config.Alarm {
		if b.off {
			return config.Alarm{}
		}
		return config.Alarm{Command: []string{"/bin/true"}, After: b.after}
	}
	b.Status = func() api.Status {
		return api.Status{Problems: []string{"one", "two"}, Worker: api.Worker{Generation: 7}}
	}
	b.Run = func(_ context.Context, cmd *exec.Cmd) error {
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
		b.Watch(ctx)
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
	b.Tell(&s)
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
		"hung":        {worker.Status{State: worker.Ready, Hung: new(signs.Hung)}, "hung"},
		"starting":    {worker.Status{State: worker.Starting}, "unready"},
		"stopping":    {worker.Status{State: worker.Stopping}, "unready"},
		"backing off": {worker.Status{State: worker.BackingOff}, "unready"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBell(t, "", 0)
			b.Observe(worker.Status{State: worker.Waiting})
			b.begin()
			b.Observe(test.status)
			b.want(test.event)
			if state, _ := b.state(); state != api.AlarmRinging {
				t.Errorf("the alarm is %s", state)
			}
			b.Observe(test.status) // once is enough
			b.Observe(worker.Status{State: worker.Ready})
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
		b.Observe(worker.Status{State: worker.Starting})
		b.Observe(worker.Status{State: worker.Ready})
	}
	b.Observe(worker.Status{State: worker.Stopping})
	b.mu.Lock()
	b.unserved = b.unserved.Add(-time.Hour) // as if it had lasted
	b.mu.Unlock()
	b.Observe(worker.Status{State: worker.Starting})
	b.want("unready")
	b.quiet()
}

// TestAlarmCrashLoop: to be ready for a moment is not to serve, neither before it rings nor after that.
func TestAlarmCrashLoop(t *testing.T) {
	t.Parallel()
	b := newBell(t, "", time.Hour)
	b.calm = time.Hour
	b.begin()
	loop := func() {
		for _, state := range []worker.State{worker.Starting, worker.Ready, worker.BackingOff} {
			b.Observe(worker.Status{State: state})
		}
	}
	loop()
	b.mu.Lock()
	b.unserved = b.unserved.Add(-time.Hour) // as if it had lasted
	b.mu.Unlock()
	loop()
	b.want("unready")
	loop()
	if state, _ := b.state(); state != api.AlarmRinging {
		t.Errorf("the alarm is %s", state)
	}
	b.Observe(worker.Status{State: worker.Ready})
	if event, wait := b.next(); event != "" || wait <= 0 {
		t.Errorf("rings for %q, or looks again after %s, when clients are served for a moment", event, wait)
	}
	b.mu.Lock()
	b.served = b.served.Add(-time.Hour)
	b.mu.Unlock()
	b.Look()
	b.want("recovered")
	b.quiet()
}

// TestAlarmRollback: it is told at once, once, and nothing recovers from it.
func TestAlarmRollback(t *testing.T) {
	t.Parallel()
	b := newBell(t, "", time.Hour)
	b.begin()
	for _, state := range []worker.State{worker.Stopping, worker.Starting, worker.Ready} {
		b.Observe(worker.Status{State: state, RolledBack: 2})
	}
	b.want("rolled-back")
	b.Observe(worker.Status{State: worker.Ready, RolledBack: 5})
	b.want("rolled-back")
	b.quiet()
}

// TestAlarmHangs: what happens while a command hangs is told after it, in order, as it was when it happened, and by one command
// at a time.
func TestAlarmHangs(t *testing.T) {
	t.Parallel()
	b := newBell(t, "", 0)
	noted, rung, goOn := make(chan struct{}, 10), make(chan string, 10), make(chan struct{})
	generation := 0 // the launcher's goroutine and this one take turns by noted
	b.Status = func() api.Status {
		defer func() { noted <- struct{}{} }()
		return api.Status{Worker: api.Worker{Generation: generation}}
	}
	var running atomic.Int32
	b.Run = func(ctx context.Context, cmd *exec.Cmd) error {
		if n := running.Add(1); n != 1 {
			t.Errorf("%d commands run at once", n)
		}
		defer running.Add(-1)
		var words []string
		for _, entry := range cmd.Env {
			for _, name := range []string{"GATEWAY_EVENT=", "GATEWAY_GENERATION="} {
				if value, ok := strings.CutPrefix(entry, name); ok {
					words = append(words, value)
				}
			}
		}
		rung <- strings.Join(words, " ")
		select {
		case <-goOn:
		case <-ctx.Done():
		}
		return nil
	}
	b.begin()
	var want []string
	for i, status := range []struct {
		worker.Status
		event string
	}{
		{worker.Status{State: worker.Ready, RolledBack: 2}, "rolled-back"},
		{worker.Status{State: worker.Ready, RolledBack: 3}, "rolled-back"},
		{worker.Status{State: worker.Failed, RolledBack: 3}, "failed"},
		{worker.Status{State: worker.Ready, RolledBack: 3}, "recovered"},
		{worker.Status{State: worker.Ready, RolledBack: 4}, "rolled-back"},
	} {
		generation = i
		b.Observe(status.Status)
		select {
		case <-noted:
		case <-time.After(bound):
			t.Fatalf("nobody has taken note of %s within %s", status.event, bound)
		}
		want = append(want, fmt.Sprintf("%s %d", status.event, i))
	}
	close(goOn)
	for _, event := range want {
		select {
		case got := <-rung:
			if got != event {
				t.Errorf("rang for %q, want %q", got, event)
			}
		case <-time.After(bound):
			t.Fatalf("did not ring for %q within %s", event, bound)
		}
	}
}

// TestAlarmAcrossLives: the next launcher knows that it rings.
func TestAlarmAcrossLives(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "alarm")
	first := newBell(t, path, 0)
	first.begin()
	first.Observe(worker.Status{State: worker.Failed})
	first.want("failed")
	first.Observe(worker.Status{State: worker.Stopped})
	first.Kept.Wait()

	second := newBell(t, path, time.Hour)
	second.Observe(worker.Status{State: worker.Waiting})
	if event, _ := second.next(); event != "" {
		t.Errorf("rings for %q before anybody was served", event)
	}
	second.begin()
	second.Observe(worker.Status{State: worker.Starting})
	if state, _ := second.state(); state != api.AlarmRinging {
		t.Errorf("in the next life the alarm is %s", state)
	}
	second.Observe(worker.Status{State: worker.Ready})
	second.want("recovered")
	second.quiet()
	second.Kept.Wait()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is kept that the alarm rings: %v", err)
	}
}

// TestAlarmDisk: nobody waits for a disk that hangs: the events are told, and the supervisor and who asks for the status go on.
func TestAlarmDisk(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "alarm")
	b := newBell(t, path, 0)
	writes, hangs := make(chan struct{}, 10), make(chan struct{})
	goOn := sync.OnceFunc(func() { close(hangs) })
	defer goOn()
	b.Kept.Write = func() error {
		writes <- struct{}{}
		<-hangs
		return b.write()
	}
	b.begin()
	prompt := func(what string, f func()) {
		t.Helper()
		done := make(chan struct{})
		go func() {
			defer close(done)
			f()
		}()
		select {
		case <-done:
		case <-time.After(bound):
			t.Fatalf("%s waits for the disk", what)
		}
	}
	b.Observe(worker.Status{State: worker.Failed})
	<-writes
	prompt("the status", func() { b.state() })
	prompt("the supervisor", func() { b.Observe(worker.Status{State: worker.BackingOff}) })
	b.want("failed")
	b.Observe(worker.Status{State: worker.Ready})
	b.want("recovered")
	goOn()
	b.Kept.Wait()
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
	b.Observe(worker.Status{State: worker.Failed})
	b.want("failed")
	b.Observe(worker.Status{State: worker.Ready})
	b.want("recovered") // so the first command has ended
	if _, problems := b.state(); len(problems) != 1 || !strings.Contains(problems[0], "alarm.command") || !strings.Contains(problems[0], "exit status 7") {
		t.Errorf("the problems are %q, want that the command has failed", problems)
	}
}

func TestAlarmOff(t *testing.T) {
	t.Parallel()
	b := newBell(t, "", 0)
	b.off = true
	b.Observe(worker.Status{State: worker.Failed, RolledBack: 1})
	if event, wait := b.next(); event != "" || wait >= 0 {
		t.Errorf("rings for %q, or after %s", event, wait)
	}
	if state, _ := b.state(); state != api.AlarmOff {
		t.Errorf("the alarm is %s", state)
	}
}
