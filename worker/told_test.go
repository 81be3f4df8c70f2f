package worker

import (
	"strings"
	"testing"
	"time"

	"openclaw-gateway/worker/generation"
)

// TestToldBehindTheStatus: whoever waits is told an outcome when the status shows
// it, and not before: who looks right behind it has to find it.
func TestToldBehindTheStatus(t *testing.T) {
	t.Parallel()
	bad := func(r *rig, arguments ...string) generation.Spec {
		return r.edition(2, command(t, "exit", arguments...))
	}
	for name, test := range map[string]struct {
		spec  func(*generation.Spec) // nil: one whose worker serves
		from  State
		ask   func(r *rig) <-chan error
		then  func(r *rig) // what brings the outcome, when it has been asked for
		shows func(Status) bool
	}{
		"ready": {
			from:  Ready,
			ask:   func(r *rig) <-chan error { return r.supervisor.Restart(false) },
			shows: func(s Status) bool { return s.State == Ready && s.Generation == 2 },
		},
		"rolled back": {
			from:  Ready,
			ask:   func(r *rig) <-chan error { return r.supervisor.Apply(bad(r, "code=99"), true) },
			shows: func(s Status) bool { return s.RolledBack == 2 },
		},
		"rolled back, never ran": {
			from:  Ready,
			ask:   func(r *rig) <-chan error { return r.supervisor.Apply(r.edition(2, []string{broken(r.t)}), true) },
			shows: func(s Status) bool { return s.RolledBack == 2 },
		},
		"rolled back, not ready": {
			from: Ready,
			ask: func(r *rig) <-chan error {
				unready := r.edition(2, command(t, "deaf"))
				unready.Probe, unready.ReadyTimeout = generation.ProbeNotify, 50*time.Millisecond
				return r.supervisor.Apply(unready, true)
			},
			shows: func(s Status) bool { return s.RolledBack == 2 && s.State == Stopping },
		},
		"not ready, and nothing to go back to": {
			spec: func(s *generation.Spec) {
				s.Command, s.Probe, s.ReadyTimeout = command(t, "deaf"), generation.ProbeNotify, 50*time.Millisecond
			},
			from:  Waiting,
			ask:   func(r *rig) <-chan error { return r.supervisor.Restart(false) },
			shows: func(s Status) bool { return s.State == Stopping && s.Problem != "" },
		},
		"failed, and nothing to go back to": {
			spec: func(s *generation.Spec) { s.Command = command(t, "exit", "code=99") },
			from: BackingOff,
			ask:  func(r *rig) <-chan error { return r.supervisor.Restart(false) },
			shows: func(s Status) bool {
				return s.State == BackingOff && s.Generation == 2 && strings.HasPrefix(s.Problem, "generation 2 ended: exit code 99")
			},
		},
		"failed for good": {
			spec:  func(s *generation.Spec) { s.Command = command(t, "exit", "code=99") },
			from:  BackingOff,
			ask:   func(r *rig) <-chan error { return r.supervisor.Apply(bad(r, "code=78"), true) },
			shows: func(s Status) bool { return s.State == Failed },
		},
		"edited while it waits": {
			from:  Waiting,
			ask:   func(r *rig) <-chan error { return r.supervisor.Apply(r.edition(2, r.spec.Command), true) },
			shows: func(s Status) bool { return s.Edition == 2 },
		},
		"edited, with the same worker": {
			from:  Ready,
			ask:   func(r *rig) <-chan error { return r.supervisor.Apply(r.edition(2, r.spec.Command), false) },
			shows: func(s Status) bool { return s.Edition == 2 },
		},
		"the launcher ends": {
			spec:  func(s *generation.Spec) { s.Command = command(t, "exit", "code=99") },
			from:  BackingOff,
			ask:   func(r *rig) <-chan error { return r.supervisor.Apply(r.edition(2, command(t, "deaf")), true) },
			then:  func(r *rig) { r.stop() },
			shows: func(s Status) bool { return s.State == Stopped },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, command(t, "serve"))
			r.spec.Edition = 1
			if test.spec != nil {
				test.spec(&r.spec)
			}
			r.options.AtOnce = test.from != Waiting
			shown, looked := make(chan struct{}), make(chan struct{})
			once := true
			r.options.Observe = func(s Status) {
				r.observe(s)
				if once && test.shows(s) {
					once = false
					close(shown)
					<-looked
				}
			}
			r.run()
			r.await(test.from)
			reply := test.ask(r)
			if test.then != nil {
				test.then(r)
			}
			within(t, "the status shows the outcome", func() error { <-shown; return nil })
			select {
			case err := <-reply:
				t.Errorf("told %v before the status was published that shows it", err)
				reply = nil
			default:
			}
			close(looked)
			if reply != nil {
				_ = r.outcome(reply)
			}
		})
	}
}
