package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/generation"
)

const comesBack = "the last configuration that worked comes back"

// edition returns a spec like the rig's with another command.
func (r *rig) edition(number int, command []string) generation.Spec {
	spec := r.spec
	spec.Edition, spec.Command = number, command
	return spec
}

// wantRolledBack fails when the status does not say so of the edition, for a
// reason in which the text is; edition 0 wants none.
func (r *rig) wantRolledBack(s Status, edition int, text string) {
	r.t.Helper()
	if edition == 0 {
		text = ""
	}
	if s.RolledBack != edition || !strings.Contains(s.RollbackReason, text) || (edition == 0) != (s.RollbackReason == "") {
		r.t.Errorf("rolled back: edition %d, because %q; want edition %d, because of %q", s.RolledBack, s.RollbackReason, edition, text)
	}
}

func TestRollBack(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		command []string
		change  func(*generation.Spec)
		says    string
	}{
		"crashes":            {command(t, "exit", "code=99"), func(*generation.Spec) {}, "generation 2 ended: exit code 99"},
		"fails for good":     {command(t, "exit", "code=78"), func(*generation.Spec) {}, "generation 2 ended: exit code 78"},
		"ends without error": {command(t, "exit", "code=0"), func(*generation.Spec) {}, "generation 2 ended: exit code 0"},
		"cannot be started":  {[]string{broken(t)}, func(*generation.Spec) {}, "the interpreter that it names is missing"},
		"never ready": {command(t, "deaf"), func(s *generation.Spec) {
			s.Probe, s.ReadyTimeout = generation.ProbeNotify, 200*time.Millisecond
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
			r.want(r.outcome(r.supervisor.Restart(false)))
			r.wantRolledBack(r.await(Ready), 2, test.says)
			r.want(r.outcome(r.supervisor.Apply(r.edition(3, command(t, "serve")), true)))
			s = r.awaitThat("edition 3", func(s Status) bool { return s.State == Ready && s.Edition == 3 })
			r.wantRolledBack(s, 0, "")
		})
	}
}

// broken returns a program whose interpreter is not there: only its start can tell.
func broken(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(path, []byte("#!/no-such-interpreter\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestCannotPrepare: what the next generation needs is made before the one that serves is stopped, and costs it nothing where
// it cannot be made, whether an edit or a restart wants it.
func TestCannotPrepare(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve"))
	r.spec.Edition = 1
	r.run()
	r.await(Ready)
	r.want(r.outcome(r.supervisor.Apply(r.edition(2, []string{"no-such-program"}), true)), `"no-such-program" is not in the PATH`, "; "+comesBack)
	s := r.awaitThat("rolled back", func(s Status) bool { return s.RolledBack == 2 })
	if s.State != Ready || s.Generation != 1 || s.Edition != 1 || s.Problem != "" {
		t.Errorf("after an edit: %+v", s)
	}
	place := r.options.Directory
	if err := os.Rename(place, place+".away"); err != nil {
		t.Fatal(err)
	}
	spec := r.edition(3, r.spec.Command)
	spec.Probe = generation.ProbeAuto // needs a socket in that directory
	r.want(r.outcome(r.supervisor.Apply(spec, false)))
	r.want(r.outcome(r.supervisor.Restart(false)), "make the worker's notify socket", "generation 1 goes on serving")
	r.wantAnswer("/", "generation 1,")
	if err := os.Rename(place+".away", place); err != nil {
		t.Fatal(err)
	}
	r.want(r.outcome(r.supervisor.Restart(false)))
	r.wantAnswer("/", "generation 2,")
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

// TestApplyWhileGivenUp asks for something else while the worker of a bad
// configuration is being ended. That it is rolled back is decided and shown by then.
func TestApplyWhileGivenUp(t *testing.T) {
	t.Parallel()
	type ask func(r *rig, bad generation.Spec) <-chan error
	for name, test := range map[string]struct {
		ask     ask
		again   bool // the bad command gets another try
		edition int  // of the worker that comes
		rolled  int  // and which one was rolled back then
	}{
		"another worker": {
			ask: func(r *rig, _ generation.Spec) <-chan error {
				next := r.edition(3, r.spec.Command)
				next.After = 1
				return r.supervisor.Apply(next, true)
			},
			edition: 3,
		},
		// Whoever compared it has not seen that the other one was rolled back.
		"the bad one in other circumstances": {
			ask: func(r *rig, bad generation.Spec) <-chan error {
				bad.Edition, bad.After = 3, 2
				return r.supervisor.Apply(bad, false)
			},
			again: true, edition: 1, rolled: 3,
		},
		"the good one in other circumstances": {
			ask: func(r *rig, _ generation.Spec) <-chan error {
				next := r.edition(3, r.spec.Command)
				next.After = 1
				return r.supervisor.Apply(next, false)
			},
			edition: 3,
		},
		"the edit is taken back": {
			ask: func(r *rig, _ generation.Spec) <-chan error {
				next := r.spec
				next.After = 1
				return r.supervisor.Apply(next, false)
			},
			edition: 1,
		},
		"a restart": {
			ask:     func(r *rig, _ generation.Spec) <-chan error { return r.supervisor.Restart(false) },
			edition: 1, rolled: 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gate := fifo(t)
			r := newRig(t, command(t, "serve"))
			r.spec.Edition = 1
			r.run()
			r.await(Ready)
			bad := r.edition(2, command(t, "deaf", "trap=SIGTERM:-1", "gate="+gate))
			bad.Probe = generation.ProbeNotify
			second := r.supervisor.Apply(bad, true)
			// giveUp has a generation given up, and killed when something else was asked for.
			giveUp := func(generation int, reply <-chan error, then func()) {
				t.Helper()
				r.awaitThat("starting", func(s Status) bool { return s.State == Starting && s.Generation == generation })
				open(t, gate)
				r.letTimePass(generation)
				says := fmt.Sprintf("generation %d: not ready", generation)
				r.want(r.outcome(reply), says, comesBack)
				s := r.awaitThat("given up", func(s Status) bool { return s.State == Stopping && s.Generation == generation })
				r.wantRolledBack(s, generation, says)
				if s.Problem != "" || s.Edition != 1 || s.PID == 0 {
					t.Errorf("given up: %+v", s)
				}
				then()
				if err := unix.Kill(s.PID, unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			var third <-chan error
			giveUp(2, second, func() { third = test.ask(r, bad) })
			ready := 3
			if test.again {
				giveUp(3, third, func() {})
				ready = 4
			} else {
				r.want(r.outcome(third))
			}
			s := r.await(Ready)
			if s.Edition != test.edition || s.Generation != ready || s.LastExit.Reason != ends.ReasonUnready || s.Failures != 0 {
				t.Errorf("ready: %+v, want edition %d", s, test.edition)
			}
			r.wantRolledBack(s, test.rolled, "not ready")
		})
	}
}
