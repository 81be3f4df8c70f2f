package worker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const comesBack = "the last configuration that worked comes back"

// edition returns a spec like the rig's with another command.
func (r *rig) edition(number int, command []string) Spec {
	spec := r.spec
	spec.Edition, spec.Command = number, command
	return spec
}

// wantRolledBack fails when the status does not say so of the edition, for a
// reason in which the text is; edition 0 wants none.
func (r *rig) wantRolledBack(s Status, edition int, text string) {
	r.t.Helper()
	if s.RolledBack != edition || !strings.Contains(s.RollbackReason, text) || (edition == 0) != (s.RollbackReason == "") {
		r.t.Errorf("rolled back: edition %d, because %q; want edition %d, because of %q", s.RolledBack, s.RollbackReason, edition, text)
	}
}

func TestRollBack(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		command []string
		change  func(*Spec)
		says    string
	}{
		"crashes":            {command(t, "exit", "code=99"), func(*Spec) {}, "generation 2 ended: exit code 99"},
		"fails for good":     {command(t, "exit", "code=78"), func(*Spec) {}, "generation 2 ended: exit code 78"},
		"ends without error": {command(t, "exit", "code=0"), func(*Spec) {}, "generation 2 ended: exit code 0"},
		"cannot be started":  {[]string{"no-such-program"}, func(*Spec) {}, `"no-such-program" is not in the PATH`},
		"never ready": {command(t, "deaf"), func(s *Spec) {
			s.Probe, s.ReadyTimeout = ProbeNotify, 200*time.Millisecond
		}, "not ready after 200ms (ready.timeout): it has not said READY=1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, command(t, "serve"))
			r.spec.Edition = 1
			r.run()
			if s := r.await(Ready); s.Edition != 1 {
				t.Errorf("ready: %+v", s)
			}
			bad := r.edition(2, test.command)
			test.change(&bad)
			r.want(r.outcome(r.supervisor.Apply(bad, true)), test.says, "; "+comesBack)
			s := r.awaitThat("ready again", func(s Status) bool { return s.State == Ready && s.Generation == 3 })
			if s.Edition != 1 || s.Problem != "" || s.Failures != 0 {
				t.Errorf("ready again: %+v", s)
			}
			r.wantRolledBack(s, 2, test.says)
			r.wantAnswer("/", "generation 3,")
			if slices.Contains(r.states(), BackingOff) || slices.Contains(r.states(), Failed) {
				t.Errorf("states: %v", r.states())
			}
			// A restart is no other configuration.
			r.want(r.outcome(r.supervisor.Restart()))
			r.wantRolledBack(r.await(Ready), 2, test.says)
			r.want(r.outcome(r.supervisor.Apply(r.edition(3, command(t, "serve")), true)))
			s = r.awaitThat("edition 3", func(s Status) bool { return s.State == Ready && s.Edition == 3 })
			r.wantRolledBack(s, 0, "")
		})
	}
}

// TestRollBackTakenBack: without a new worker, too, the next configuration is
// the one that counts.
func TestRollBackTakenBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve"))
	r.spec.Edition = 1
	r.run()
	r.await(Ready)
	r.want(r.outcome(r.supervisor.Apply(r.edition(2, command(t, "exit", "code=99")), true)), comesBack)
	r.awaitThat("ready again", func(s Status) bool { return s.State == Ready && s.RolledBack == 2 })
	r.want(r.outcome(r.supervisor.Apply(r.spec, false)))
	s := r.awaitThat("taken back", func(s Status) bool { return s.RolledBack == 0 })
	if s.State != Ready || s.Generation != 3 || s.Edition != 1 {
		t.Errorf("taken back: %+v", s)
	}
	r.wantRolledBack(s, 0, "")
}

// TestRollBackToEarlierLife: the first generation of all can be rolled back, to
// what worked before the launcher was started.
func TestRollBackToEarlierLife(t *testing.T) {
	t.Parallel()
	for _, atOnce := range []bool{false, true} {
		t.Run(fmt.Sprint("at once ", atOnce), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, command(t, "serve"))
			good := r.edition(1, r.spec.Command)
			r.options.Good, r.options.AtOnce = &good, atOnce
			r.spec = r.edition(2, command(t, "exit", "code=99"))
			r.run()
			r.wantAnswer("/", "generation 2,")
			s := r.await(Ready)
			if s.Edition != 1 || s.Restarts != 1 {
				t.Errorf("ready: %+v", s)
			}
			r.wantRolledBack(s, 2, "generation 1 ended: exit code 99")
		})
	}
}

// TestBothBad: a configuration that has worked once and does not now is tried
// again like any other, and the new one is not.
func TestBothBad(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	good := r.edition(1, command(t, "exit", "code=98"))
	good.Backoff.Min, good.Backoff.Max = time.Millisecond, time.Millisecond
	r.options.Good = &good
	r.spec = r.edition(2, command(t, "exit", "code=99"))
	r.run()
	for i := range 4 {
		s := r.await(BackingOff)
		if s.LastExit.Code != 98 || s.Generation != i+2 || s.Failures != i+1 || s.Edition != 1 ||
			s.NextStart.Sub(s.Since) > time.Millisecond || strings.Contains(s.Problem, comesBack) {
			t.Errorf("backoff %d: %+v", i+1, s)
		}
		r.wantRolledBack(s, 2, "generation 1 ended: exit code 99")
	}
}

func TestNothingToRollBackTo(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "exit", "code=99"))
	r.spec.Edition = 1
	r.run()
	r.await(BackingOff)
	err := r.outcome(r.supervisor.Apply(r.edition(2, command(t, "exit", "code=98")), true))
	r.want(err, "generation 2 ended: exit code 98")
	s := r.awaitThat("backing off", func(s Status) bool { return s.State == BackingOff && s.Generation == 2 })
	if strings.Contains(err.Error(), comesBack) || s.Edition != 2 {
		t.Errorf("outcome %v, backoff: %+v", err, s)
	}
	r.wantRolledBack(s, 0, "")
}

// TestLiveEdit: what does not concern the worker needs no new proof that it works.
func TestLiveEdit(t *testing.T) {
	t.Parallel()
	t.Run("while ready", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, command(t, "serve"))
		r.spec.Edition = 1
		r.run()
		r.await(Ready)
		r.want(r.outcome(r.supervisor.Apply(r.edition(2, r.spec.Command), false)))
		r.exit(3)
		s := r.await(BackingOff)
		if s.Edition != 2 {
			t.Errorf("backoff: %+v", s)
		}
		r.wantRolledBack(s, 0, "")
		// It is what comes back, too.
		r.want(r.outcome(r.supervisor.Apply(r.edition(3, command(t, "exit", "code=99")), true)), comesBack)
		s = r.await(Ready)
		if s.Edition != 2 {
			t.Errorf("ready again: %+v", s)
		}
		r.wantRolledBack(s, 3, "exit code 99")
	})
	// The worker has become ready since, so nothing older comes back.
	t.Run("while starting", func(t *testing.T) {
		t.Parallel()
		gate := fifo(t)
		r := newRig(t, command(t, "serve", "gate="+gate))
		old := r.edition(1, command(t, "exit", "code=98"))
		r.options.Good = &old
		r.spec.Edition = 2
		r.run()
		r.await(Starting)
		applied := r.supervisor.Apply(r.edition(3, r.spec.Command), false)
		open(t, gate)
		r.await(Ready)
		r.want(r.outcome(applied))
		r.exit(3)
		s := r.await(BackingOff)
		if s.Edition != 3 || s.Generation != 1 {
			t.Errorf("backoff: %+v", s)
		}
		r.wantRolledBack(s, 0, "")
	})
}

// TestApplyWhileGivenUp applies one more configuration while the worker of a bad
// one is being ended.
func TestApplyWhileGivenUp(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{true, false} {
		t.Run(fmt.Sprint("restart ", restart), func(t *testing.T) {
			t.Parallel()
			gate := fifo(t)
			r := newRig(t, command(t, "serve"))
			r.spec.Edition = 1
			r.run()
			r.await(Ready)
			bad := r.edition(2, command(t, "deaf", "trap=SIGTERM:-1", "gate="+gate))
			bad.Probe = ProbeNotify
			second := r.supervisor.Apply(bad, true)
			open(t, gate)
			r.letTimePass()
			r.want(r.outcome(second), "generation 2: not ready", comesBack)
			pid := r.awaitThat("given up", func(s Status) bool { return s.State == Stopping && s.Generation == 2 }).PID
			next := bad // as it is, in other circumstances
			next.Edition = 3
			if restart {
				next = r.edition(3, r.spec.Command)
			}
			third := r.supervisor.Apply(next, restart)
			r.awaitThat("edition 3", func(s Status) bool { return s.Edition == 3 })
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			s := r.await(Ready)
			if restart {
				r.want(r.outcome(third))
				r.wantRolledBack(s, 0, "")
			} else {
				r.want(r.outcome(third), "generation 2: not ready", comesBack)
				r.wantRolledBack(s, 3, "generation 2: not ready")
			}
			if want := map[bool]int{true: 3, false: 1}[restart]; s.Edition != want || s.Generation != 3 || s.LastExit.Reason != ReasonUnready {
				t.Errorf("ready: %+v, want edition %d", s, want)
			}
		})
	}
}
