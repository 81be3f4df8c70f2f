package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/cgroups"
	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/generation"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/signs"
)

// newStandbyRig is a supervisor that is to have a standby when its serving generation has been ready for long enough, which
// letTimePass makes it believe.
func newStandbyRig(t *testing.T, kind handoff.Kind, options ...string) *handoverRig {
	t.Helper()
	r := newHandoverRig(t, kind, options...)
	r.spec.Standby = true
	return r
}

// parked starts the serving generation and its standby, and returns both.
func (r *handoverRig) parked(path string) (first, standby Status) {
	r.t.Helper()
	first = r.served()
	r.letTimePass(1)
	return first, r.standby(path, 2)
}

// standby waits for a generation that stands by, frozen.
func (r *handoverRig) standby(path string, number int) Status {
	r.t.Helper()
	s := r.beside(number, BesideParked)
	if !s.Successor.Standby || s.State != Ready {
		r.t.Errorf("beside generation %d: %+v", s.Generation, s.Successor)
	}
	cgroups.AwaitFrozen(r.t, bound, filepath.Join(path, fmt.Sprint("generation-", number)), true)
	return s
}

// exits has a worker that has a standby end by itself with an exit code.
func (r *handoverRig) exits(path string, code int) {
	r.t.Helper()
	r.spec.Command = append(r.spec.Command, fmt.Sprint("trap=SIGUSR1:", code))
	first, _ := r.parked(path)
	if err := unix.Kill(first.PID, unix.SIGUSR1); err != nil {
		r.t.Fatal(err)
	}
}

// TestStandby: every crossing of a generation and the one that stands by for it, with real processes in a control group.
func TestStandby(t *testing.T) {
	everyCrossing(t, standbyCrossings, "crash")
}

func standbyCrossings(path string, kind handoff.Kind) map[string]func(t *testing.T) {
	return map[string]func(t *testing.T){
		"crash, and what the main process has left does not end": func(t *testing.T) {
			told := fifo(t)
			r := newStandbyRig(t, kind, "leave="+told, "left=SIGTERM:-1", "mib=1")
			r.options.RestTimeout = time.Hour
			first, _ := r.parked(path)
			left, err := strconv.Atoi(hear(t, told))
			if err != nil {
				t.Fatal(err)
			}
			killPID(t, first.PID)
			if s := r.servedBy(2); s.Leaving.Generation != 1 || s.Failures != 1 {
				t.Errorf("the standby serves beside what is left: %+v", s)
			}
			hear(t, told)
			r.wantAnswer("/", "generation 2,")
			killPID(t, left)
			r.ended(1, ends.ReasonCrash)
		},
		"crash": func(t *testing.T) {
			r := newStandbyRig(t, kind)
			first, second := r.parked(path)
			killPID(t, first.PID)
			r.ended(1, ends.ReasonCrash)
			if s := r.servedBy(2); s.Failures != 1 || s.Restarts != 1 || s.GateAfter == 0 || s.ReleasedAfter == 0 {
				t.Errorf("the standby serves: %+v", s)
			}
			r.wantAnswer("/", "generation 2,")
			// The next crash is an ordinary one, until this one has been ready for long enough; then there is a standby again.
			r.letTimePass(2)
			third := r.standby(path, 3)
			if third.Failures != 0 {
				t.Errorf("with a standby again: %+v", third)
			}
			killPID(t, second.Successor.PID)
			r.ended(2, ends.ReasonCrash)
			r.servedBy(3)
			killPID(t, third.Successor.PID)
			r.ended(3, ends.ReasonCrash)
			if s := r.await(BackingOff); s.Failures != 2 {
				t.Errorf("after two crashes in a row: %+v", s)
			}
		},
		"crash while it boots": func(t *testing.T) {
			boot := fifo(t)
			r := newStandbyRig(t, kind, "boot="+boot)
			first := r.served()
			r.letTimePass(1)
			r.beside(2, BesideBooting)
			killPID(t, first.PID)
			r.ended(1, ends.ReasonCrash)
			open(t, boot)
			r.servedBy(2)
			r.wantAnswer("/", "generation 2,")
		},
		"hung": func(t *testing.T) {
			r := newStandbyRig(t, kind)
			r.queues.stalls = make(chan netaddr.Address)
			r.spec.Alive = signs.Settings{Queue: time.Minute, Restart: true, StopTimeout: time.Minute}
			r.parked(path)
			r.stall()
			r.ended(1, ends.ReasonHung)
			if s := r.servedBy(2); s.Failures != 1 {
				t.Errorf("the standby serves: %+v", s)
			}
		},
		"hung, and it lets go": func(t *testing.T) {
			drain := fifo(t)
			r := newStandbyRig(t, kind, "drain="+drain)
			r.queues.stalls = make(chan netaddr.Address)
			r.spec.Alive = signs.Settings{Queue: time.Minute, Restart: true, StopTimeout: time.Minute}
			r.parked(path)
			r.stall()
			if s := r.servedBy(2); s.Leaving.Generation != 1 || s.Failures != 1 {
				t.Errorf("the standby serves: %+v", s)
			}
			open(t, drain)
			r.ended(1, ends.ReasonHung)
			go func() { _ = os.WriteFile(drain, nil, 0) }()
		},
		"exit code 0": func(t *testing.T) {
			r := newStandbyRig(t, kind)
			r.exits(path, 0)
			r.ended(1, ends.ReasonRestart)
			if exit := r.ended(2, ends.ReasonRestart); !exit.Successor {
				t.Errorf("the standby ended: %+v", exit)
			}
			if s := r.servedBy(3); s.Failures != 0 || s.Restarts != 1 || s.LastExit.Generation != 1 {
				t.Errorf("a fresh one serves: %+v", s)
			}
		},
		"exit code that is fatal": func(t *testing.T) {
			r := newStandbyRig(t, kind)
			r.exits(path, 78)
			r.ended(1, ends.ReasonCrash)
			r.ended(2, ends.ReasonRestart)
			if s := r.await(Failed); s.LastExit.Code != 78 || !strings.Contains(s.Problem, "generation 1 ended: exit code 78") {
				t.Errorf("failed: %+v", s)
			}
		},
		"idle": func(t *testing.T) {
			r := newStandbyRig(t, kind)
			r.queues.idle, r.queues.asked = make(chan struct{}), make(chan idleAsked, 10)
			r.spec.IdleStop = time.Minute
			r.parked(path)
			close(r.queues.idle)
			r.ended(1, ends.ReasonIdle)
			r.ended(2, ends.ReasonRestart)
			r.await(Waiting)
		},
		"restart, while one that nobody needed ends": func(t *testing.T) {
			drain := fifo(t)
			r := newStandbyRig(t, kind, "drain="+drain)
			r.queues.idle, r.queues.asked = make(chan struct{}), make(chan idleAsked, 10)
			r.spec.IdleStop = time.Minute
			r.parked(path)
			close(r.queues.idle)
			r.await(Stopping)
			outcome := r.supervisor.Restart(false)
			r.ended(2, ends.ReasonRestart)
			open(t, drain)
			r.ended(1, ends.ReasonIdle)
			r.want(r.outcome(outcome)) // and nobody is connected to that one either
			go func() { _ = os.WriteFile(drain, nil, 0) }()
		},
		"restart": func(t *testing.T) {
			r := newStandbyRig(t, kind)
			r.parked(path)
			r.want(r.outcome(r.supervisor.Restart(false)))
			if exit := r.ended(2, ends.ReasonRestart); !exit.Successor {
				t.Errorf("the standby ended: %+v", exit)
			}
			r.ended(1, ends.ReasonRestart)
			if s := r.servedBy(3); s.Restarts != 1 {
				t.Errorf("a fresh one serves: %+v", s)
			}
			r.letTimePass(3)
			r.standby(path, 4)
		},
		"restart, now": func(t *testing.T) {
			r := newStandbyRig(t, kind, deafToStop)
			r.parked(path)
			r.want(r.outcome(r.supervisor.Restart(true)))
			r.ended(2, ends.ReasonRestart)
			r.ended(1, ends.ReasonRestart)
			r.servedBy(3)
			r.stop()
			r.hurry <- struct{}{}
			r.awaitEnd()
		},
		"edit": func(t *testing.T) {
			r := newStandbyRig(t, kind)
			r.parked(path)
			spec := r.spec
			spec.Edition = 2
			r.want(r.outcome(r.supervisor.Apply(spec, true)))
			r.ended(2, ends.ReasonConfig)
			r.ended(1, ends.ReasonConfig)
			r.servedBy(3)
			// One that is about something else waits for nobody, and one that is about it is at once.
			spec.Edition, spec.IdleStop = 3, 0
			r.letTimePass(3)
			r.standby(path, 4)
			r.want(r.outcome(r.supervisor.Apply(spec, false)))
			spec.Edition, spec.Standby = 4, false
			r.want(r.outcome(r.supervisor.Apply(spec, false)))
			r.ended(4, ends.ReasonConfig)
			spec.Edition, spec.Standby = 5, true
			r.want(r.outcome(r.supervisor.Apply(spec, false)))
			r.standby(path, 5)
			// Where that asks for less, it has been ready for long enough.
			r.want(r.outcome(r.supervisor.Restart(false)))
			r.servedBy(6)
			spec.Edition, spec.Backoff.Min, spec.Backoff.ResetAfter = 6, time.Millisecond, time.Millisecond
			r.want(r.outcome(r.supervisor.Apply(spec, false)))
			r.standby(path, 7)
		},
		"an edit that does not work": func(t *testing.T) {
			r := newStandbyRig(t, kind)
			r.parked(path)
			spec := r.spec
			spec.Edition, spec.Command = 2, command(t, "exit", "code=3")
			r.want(r.outcome(r.supervisor.Apply(spec, true)), "exit code 3", "the last configuration that worked")
			r.ended(2, ends.ReasonConfig)
			r.ended(3, ends.ReasonCrash)
			if s := r.standby(path, 4); s.Generation != 1 || s.RolledBack != 2 {
				t.Errorf("with a standby again: %+v", s)
			}
			spec.Edition, spec.Directory = 3, filepath.Join(path, "none")
			r.want(r.outcome(r.supervisor.Apply(spec, true)), "worker.directory")
			r.ended(4, ends.ReasonConfig)
			r.standby(path, 5)
		},
		"it crashes": func(t *testing.T) {
			r := newStandbyRig(t, kind)
			_, s := r.parked(path)
			killPID(t, s.Successor.PID)
			r.ended(2, ends.ReasonCrash)
			s = r.awaitThat("without a standby", func(s Status) bool { return s.NoStandby != "" })
			if s.State != Ready || s.Failures != 1 || s.Problem != "" || !strings.HasPrefix(s.NoStandby, "generation 2 ended: killed by SIGKILL") {
				t.Errorf("without a standby: %+v", s)
			}
			r.letTimePass(1)
			s = r.standby(path, 3)
			if s.NoStandby != "" || s.Restarts != 0 || s.Failures != 1 {
				t.Errorf("with the next one: %+v", s)
			}
			// Killed while it is parked, it is not followed at once for ever.
			killPID(t, s.Successor.PID)
			r.ended(3, ends.ReasonCrash)
			r.awaitThat("without a standby again", func(s Status) bool { return s.NoStandby != "" && s.Failures == 2 })
			r.letTimePass(1)
			r.standby(path, 4)
			r.letTimePass(1)
			r.awaitThat("with a standby for long enough", func(s Status) bool { return s.Failures == 0 && s.Successor.Generation == 4 })
		},
		"it ends before it listens, again and again": func(t *testing.T) {
			r := newStandbyRig(t, kind, "beside=7")
			first := r.served()
			for number := 2; number < 5; number++ {
				r.letTimePass(1)
				r.ended(number, ends.ReasonCrash)
				s := r.awaitThat("without a standby", func(s Status) bool { return s.Failures == number-1 })
				if !strings.HasPrefix(s.NoStandby, fmt.Sprintf("generation %d ended: exit code 7 (if it may be alone only, restart.mode: exclusive)", number)) {
					t.Errorf("without a standby: %+v", s)
				}
			}
			if log := r.log.String(); strings.Count(log, "failures_in_a_row=3") != 1 {
				t.Error("three failures in a row")
			}
			r.wantAnswer("/", "generation 1,")
			// What has served all the time has failed once only.
			killPID(t, first.PID)
			r.ended(1, ends.ReasonCrash)
			if s := r.await(BackingOff); s.Failures != 1 || s.NoStandby != "" {
				t.Errorf("after the crash of the one that served: %+v", s)
			}
		},
		"nothing listens when it could start": func(t *testing.T) {
			r := newStandbyRig(t, kind)
			r.served()
			report := handoff.Report{Event: handoff.Closed, Address: r.spec.Sockets[0].Address, Held: true}
			r.supervisor.around.Events <- generation.Event{Kind: generation.Reported, Generation: 1, Report: report}
			r.letTimePass(1)
			report.Event = handoff.Listening
			r.supervisor.around.Events <- generation.Event{Kind: generation.Reported, Generation: 1, Report: report}
			r.standby(path, 2)
		},
		"crash while it stops by itself": func(t *testing.T) {
			r := newStandbyRig(t, kind, "boot="+fifo(t))
			first := r.served()
			r.letTimePass(1)
			r.beside(2, BesideBooting)
			r.supervisor.around.Events <- generation.Event{Kind: generation.Leaves, Generation: 2}
			killPID(t, first.PID)
			r.ended(1, ends.ReasonCrash)
			r.ended(2, ends.ReasonRestart)
			r.await(BackingOff)
		},
		"it is not wanted any more": func(t *testing.T) {
			r := newStandbyRig(t, kind, "beside=7")
			r.served()
			r.letTimePass(1)
			r.awaitThat("without a standby", func(s Status) bool { return s.Failures == 1 })
			spec := r.spec
			spec.Edition, spec.Standby = 2, false
			r.want(r.outcome(r.supervisor.Apply(spec, false)))
			r.awaitThat("without a failure", func(s Status) bool { return s.Failures == 0 && s.NoStandby == "" })
		},
		"it hangs": func(t *testing.T) {
			r := newStandbyRig(t, kind, "boot="+fifo(t))
			r.served()
			r.letTimePass(1)
			r.beside(2, BesideBooting)
			r.letTimePass(2)
			r.ended(2, ends.ReasonUnready)
			r.awaitThat("without a standby", func(s Status) bool {
				return strings.HasPrefix(s.NoStandby, "generation 2: it has not come to listen on") && s.Failures == 1
			})
		},
		"it crashes, and leaves a process": func(t *testing.T) {
			told := fifo(t)
			r := newStandbyRig(t, kind, "child="+told, "mib=1")
			r.options.RestTimeout = time.Hour // a frozen one hears no signal
			r.served()
			r.letTimePass(1)
			stray, err := strconv.Atoi(hear(t, told))
			if err != nil {
				t.Fatal(err)
			}
			killPID(t, r.standby(path, 2).Successor.PID)
			if exit := r.ended(2, ends.ReasonCrash); len(exit.Strays) != 1 || exit.Strays[0].PID != stray {
				t.Errorf("the strays of the standby: %v, want %d", exit.Strays, stray)
			}
		},
		"the launcher ends": func(t *testing.T) {
			r := newStandbyRig(t, kind)
			first, s := r.parked(path)
			r.stop()
			r.awaitEnd()
			r.dead(first.PID, s.Successor.PID)
		},
		"beside one that leaves": func(t *testing.T) {
			drain := fifo(t)
			r := newStandbyRig(t, kind, "drain="+drain)
			r.served()
			r.want(r.outcome(r.supervisor.Restart(false)))
			r.letTimePass(2) // there are no three
			r.wantAnswer("/", "generation 2,")
			if s := r.servedBy(2); s.Successor.Generation != 0 {
				t.Errorf("beside one that leaves: %+v", s)
			}
			open(t, drain)
			r.ended(1, ends.ReasonRestart)
			r.standby(path, 3)
			go func() { _ = os.WriteFile(drain, nil, 0) }()
		},
	}
}

// TestStandbyThrownAwayMeanwhile: what follows the end of a generation whose standby is being thrown away is what would follow without one.
func TestStandbyThrownAwayMeanwhile(t *testing.T) {
	t.Parallel()
	for reason, want := range map[ends.Reason]phase{ends.ReasonIdle: waiting, ends.ReasonCrash: backingOff} {
		r := newStandbyRig(t, handoff.Preload)
		r.spec.IdleStop = time.Hour
		s := New(r.spec, r.options)
		s.resetBackoff()
		s.phase, s.number = running, 2
		s.serving, s.coming = generation.New(1, r.spec, s.around, s.handle), generation.New(2, r.spec, s.around, s.handle)
		s.coming.Beside(s.serving)
		s.serving.Stage, s.coming.Stage, s.coming.Standby = generation.Ready, generation.Stopping, true
		s.coming.Why = ends.ReasonUnready
		s.handle(generation.Event{Kind: generation.Ended, Exit: ends.Exit{Generation: 1, Code: 1, Reason: reason}})
		if s.phase != running || s.present() != s.coming {
			t.Fatalf("%s, when the one that served has ended: phase %d", reason, s.phase)
		}
		s.handle(generation.Event{Kind: generation.Ended, Exit: ends.Exit{Generation: 2, Reason: ends.ReasonUnready, Successor: true}})
		if s.phase != want || len(s.living()) != 0 {
			t.Errorf("%s, when both have ended: phase %d, want %d", reason, s.phase, want)
		}
		s.unwatch()
	}
}

// TestThrownAwayIsNoFlash: a generation that has not had the sockets neither breaks a row of those that end as soon as they are ready,
// nor is one of them.
func TestThrownAwayIsNoFlash(t *testing.T) {
	t.Parallel()
	r := newStandbyRig(t, handoff.Preload)
	s := New(r.spec, r.options)
	s.flashes = 2
	for _, lived := range []time.Duration{0, time.Hour} {
		s.record(ends.Exit{Generation: 2, Reason: ends.ReasonRestart, Successor: true, Lived: lived})
		if s.flashes != 2 {
			t.Errorf("thrown away after %s: %d in a row", lived, s.flashes)
		}
	}
}
