package worker

import (
	"errors"
	"log/slog"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/generation"
)

// alive reports whether a process runs; one that nobody has reaped does not.
func alive(pid int) bool {
	process, err := procfs.NewProc(pid)
	if err != nil {
		return false
	}
	stat, err := process.Stat()
	return err == nil && stat.State != "Z" && stat.State != "X"
}

// ended stops the launcher and returns its last status.
func (r *rig) ended() Status {
	r.t.Helper()
	r.stop()
	r.awaitEnd()
	seen := r.all()
	last := seen[len(seen)-1]
	if last.State != Stopped || last.PID != 0 {
		r.t.Errorf("at the end: %+v", last)
	}
	return last
}

func TestStopSignal(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		signal unix.Signal
		trap   string
		limit  time.Duration
		code   int
		by     unix.Signal
	}{
		"by the signal":     {unix.SIGTERM, "SIGHUP:1", time.Hour, -1, unix.SIGTERM},
		"honoured":          {unix.SIGTERM, "SIGTERM:7", time.Hour, 7, 0},
		"another one":       {unix.SIGUSR2, "SIGUSR2:8", time.Hour, 8, 0},
		"ignored":           {unix.SIGTERM, "SIGTERM:-1", 100 * time.Millisecond, -1, unix.SIGKILL},
		"fatal code is not": {unix.SIGTERM, "SIGTERM:78", time.Hour, 78, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, command(t, "serve", "trap="+test.trap))
			r.spec.StopSignal, r.spec.StopTimeout = test.signal, test.limit
			r.run()
			pid := r.await(Ready).PID
			began := time.Now()
			last := r.ended()
			if e := last.LastExit; e.Code != test.code || e.Signal != test.by || e.Reason != ends.ReasonStop || e.Generation != 1 {
				t.Errorf("end of the generation: %+v", e)
			}
			if test.by == unix.SIGKILL && time.Since(began) < test.limit {
				t.Errorf("killed after %s, before the stop.timeout of %s", time.Since(began), test.limit)
			}
			if alive(pid) {
				t.Errorf("process %d is alive", pid)
			}
			if diff := cmp.Diff([]State{Starting, Ready, Stopping, Stopped}, r.states()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestStopSignalOfShim: while the shim has not become the worker, it is killed,
// because it might swallow the signal; afterwards the worker gets its signal.
func TestStopSignalOfShim(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		executed bool
		by       unix.Signal
		code     int
	}{
		"shim":   {false, unix.SIGKILL, -1},
		"worker": {true, 0, 8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gate := fifo(t)
			line := command(t, "deaf", "trap=SIGUSR1:8", "gate="+gate)
			process, err := os.StartProcess(line[0], line, &os.ProcAttr{Env: append(os.Environ(), quietRace)})
			if err != nil {
				t.Fatal(err)
			}
			open(t, gate)
			g := generation.New(1, generation.Spec{StopSignal: unix.SIGUSR1, StopTimeout: time.Hour},
				generation.Surroundings{Options: generation.Options{Log: slog.New(slog.DiscardHandler)}}, nil)
			g.Process = process
			if test.executed {
				close(g.Executed)
			}
			g.Handle(generation.Event{Kind: generation.StopAsked, Reason: ends.ReasonRestart})
			within(t, "the process ends", func() error {
				state, err := process.Wait()
				if err != nil {
					return err
				}
				status := state.Sys().(syscall.WaitStatus)
				if status.Signaled() != (test.by != 0) || (test.by != 0 && status.Signal() != test.by) || status.ExitStatus() != test.code {
					t.Errorf("it ended with %v", state)
				}
				return nil
			})
		})
	}
}

// TestRestartNow: somebody who waits no longer, and who never did.
func TestRestartNow(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve", "trap=SIGTERM:-1"))
	r.run()
	r.await(Ready)
	patient := r.supervisor.Restart(false)
	s := r.await(Stopping)
	if left := time.Until(s.Until); left < 59*time.Minute || left > time.Hour {
		t.Errorf("the worker ends at %s at the latest, want in an hour", s.Until)
	}
	hasty := r.supervisor.Restart(true)
	r.want(r.outcome(patient))
	r.want(r.outcome(hasty))
	r.wantAnswer("/", "generation 2,")
	r.want(r.outcome(r.supervisor.Restart(true)))
	r.wantAnswer("/", "generation 3,")
	if s := r.await(Ready); !s.Until.IsZero() {
		t.Errorf("a worker that serves has until %s", s.Until)
	}
}

func TestHurry(t *testing.T) {
	t.Parallel()
	for name, when := range map[string]func(*rig){
		"after": func(r *rig) {
			r.stop()
			r.await(Stopping)
			r.hurry <- struct{}{}
		},
		// Two signals, one right after the other.
		"with the stop": func(r *rig) {
			r.hurry <- struct{}{}
			r.stop()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, command(t, "serve", "trap=SIGTERM:-1"))
			r.run()
			r.await(Ready)
			when(r)
			if e := r.ended().LastExit; e.Signal != unix.SIGKILL || e.Reason != ends.ReasonStop {
				t.Errorf("end of the generation: %+v", e)
			}
		})
	}
}

func TestStopWhile(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		command []string
		change  func(*rig)
		until   func(*rig)
		states  []State
	}{
		"waiting": {
			command(t, "serve"),
			func(r *rig) { r.options.AtOnce = false },
			func(r *rig) { r.await(Waiting) },
			[]State{Waiting, Stopped},
		},
		"starting": {
			command(t, "deaf"), func(*rig) {},
			func(r *rig) { r.await(Starting) },
			[]State{Starting, Stopping, Stopped},
		},
		"backing off": {
			command(t, "exit", "code=99"), func(*rig) {},
			func(r *rig) { r.await(BackingOff) },
			[]State{Starting, BackingOff, Stopped},
		},
		"failed": {
			command(t, "exit", "code=99"),
			func(r *rig) { r.spec.FatalExitCodes = []int{99} },
			func(r *rig) { r.await(Failed) },
			[]State{Starting, Failed, Stopped},
		},
		"refused": {
			nil,
			func(r *rig) { r.spec = generation.Spec{Refused: errors.New("refused")} },
			func(r *rig) { r.await(Failed) },
			[]State{Failed, Stopped},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, test.command)
			test.change(r)
			r.run()
			test.until(r)
			r.ended()
			if diff := cmp.Diff(test.states, r.states()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestStopWhileStopping(t *testing.T) {
	t.Parallel()
	gate := fifo(t)
	r := newRig(t, command(t, "deaf", "trap=SIGTERM:-1", "gate="+gate))
	r.run()
	pid := r.await(Starting).PID
	open(t, gate)
	asked := r.supervisor.Restart(false)
	r.await(Stopping)
	r.stop()
	// A restart that is asked for now starts nothing either.
	late := r.supervisor.Restart(false)
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	last := r.ended()
	for _, reply := range []<-chan error{asked, late} {
		if err := r.outcome(reply); !errors.Is(err, ErrStopping) {
			t.Errorf("outcome: %v", err)
		}
	}
	if last.Generation != 1 || last.LastExit.Reason != ends.ReasonStop {
		t.Errorf("at the end: %+v", last)
	}
}

// TestGroup lets a worker leave a process behind whose end takes a while.
func TestGroup(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*rig){
		"crash": func(r *rig) {
			r.exit(3)
			r.await(BackingOff)
		},
		"stop": func(r *rig) { r.ended() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			left := fifo(t)
			r := newRig(t, command(t, "serve", "leave="+left, "mib=256"))
			r.run()
			pid, err := strconv.Atoi(hear(t, left))
			if err != nil {
				t.Fatal(err)
			}
			r.await(Ready)
			if !alive(pid) {
				t.Fatalf("process %d, which the worker has started, is not there", pid)
			}
			end(r)
			if alive(pid) {
				t.Errorf("process %d of the generation is alive after its end", pid)
			}
		})
	}
}
