package worker

import (
	"errors"
	"slices"
	"testing"
	"time"

	"openclaw-gateway/test/sockets"
	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/generation"
)

// newIdleRig prepares a supervisor that stops an idle worker; that it is idle is
// what the test says.
func newIdleRig(t *testing.T, command []string) *rig {
	t.Helper()
	r := newRig(t, command)
	r.spec.IdleStop = time.Minute
	// asked holds more than any test asks for.
	r.queues.idle, r.queues.asked = make(chan struct{}), make(chan idleAsked, 8)
	return r
}

// asked returns what was asked of the queues.
func (r *rig) asked() idleAsked {
	r.t.Helper()
	select {
	case asked := <-r.queues.asked:
		return asked
	case <-time.After(bound):
		r.t.Fatalf("nobody asks for clients within %s; statuses:\n%s\nlog:\n%s", bound, r.recorder, r.log)
		return idleAsked{}
	}
}

func (r *rig) becomeIdle() {
	r.t.Helper()
	select {
	case r.queues.idle <- struct{}{}:
	case <-time.After(bound):
		r.t.Fatalf("nobody waits for the last client to leave; statuses:\n%s\nlog:\n%s", r.recorder, r.log)
	}
}

func (r *rig) wantReason(status Status, want ends.Reason) {
	r.t.Helper()
	if status.LastExit == nil || status.LastExit.Reason != want {
		r.t.Errorf("the last exit is %+v, want reason %s", status.LastExit, want)
	}
}

// TestIdleWaits: without somebody else who would start everything again, the
// supervisor waits for the next client.
func TestIdleWaits(t *testing.T) {
	t.Parallel()
	r := newIdleRig(t, command(t, "serve"))
	r.run()
	for generation := 1; generation <= 3; generation++ {
		r.await(Ready)
		if asked := r.asked(); asked.idle != time.Minute {
			t.Errorf("asked for an idle time of %s", asked.idle)
		}
		r.becomeIdle()
		if stopping := r.await(Stopping); stopping.Ending != ends.ReasonIdle {
			t.Errorf("stopping because of %q", stopping.Ending)
		}
		waiting := r.await(Waiting)
		r.wantReason(waiting, ends.ReasonIdle)
		if waiting.Generation != generation || waiting.PID != 0 || waiting.Failures != 0 || waiting.Problem != "" {
			t.Errorf("waiting as %+v", waiting)
		}
		go func() { _, _ = r.get("/") }() // the client that comes next
	}
	r.await(Ready)
	r.wantAnswer("/", "generation 4")
}

// TestIdleExits: with somebody else, Run returns.
func TestIdleExits(t *testing.T) {
	t.Parallel()
	r := newIdleRig(t, command(t, "serve"))
	r.options.ExitIdle = true
	r.run()
	r.await(Ready)
	r.becomeIdle()
	stopped := r.await(Stopped)
	r.awaitEnd()
	r.wantReason(stopped, ends.ReasonIdle)
	if r.why != ends.ReasonIdle {
		t.Errorf("Run returned %q, want %q", r.why, ends.ReasonIdle)
	}
	if states := r.states(); slices.Contains(states, Waiting) {
		t.Errorf("the states were %v: nobody was to wait", states)
	}
	r.want(r.outcome(r.supervisor.Restart(false)), ErrStopping.Error())
}

// TestIdleOff: nothing is asked of the kernel.
func TestIdleOff(t *testing.T) {
	t.Parallel()
	r := newIdleRig(t, command(t, "serve"))
	r.spec.IdleStop = 0
	r.run()
	r.await(Ready)
	r.stop()
	r.awaitEnd()
	if len(r.queues.asked) > 0 || r.why != ends.ReasonStop {
		t.Errorf("asked %d times, and Run returned %q", len(r.queues.asked), r.why)
	}
}

// slow is a worker that accepts nobody and does not end by itself, so that a test
// decides how long it takes.
func slow(t *testing.T) []string { return command(t, "deaf", "notify=self", "trap=SIGTERM:-1") }

// TestWhileStoppingIdle: what comes while an idle worker ends decides what follows.
func TestWhileStoppingIdle(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		do   func(*rig) <-chan error // nil: there is no outcome
		want State
		why  ends.Reason // of the end; "": it is not reached
	}{
		{"nothing", func(*rig) <-chan error { return nil }, Stopped, ends.ReasonIdle},
		{"a client", func(r *rig) <-chan error {
			sockets.Dial(r.t, r.spec.Sockets[0].Address)
			return nil
		}, Ready, ""},
		{"a restart", func(r *rig) <-chan error { return r.supervisor.Restart(false) }, Ready, ""},
		{"another configuration", func(r *rig) <-chan error {
			spec := r.spec
			spec.Edition, spec.After = 2, 1
			return r.supervisor.Apply(spec, true)
		}, Ready, ""},
		{"an edit that concerns no worker", func(r *rig) <-chan error {
			spec := r.spec
			spec.Edition, spec.After = 2, 1
			return r.supervisor.Apply(spec, false)
		}, Stopped, ends.ReasonIdle},
		{"it is switched off", func(r *rig) <-chan error {
			spec := r.spec
			spec.Edition, spec.After, spec.IdleStop = 2, 1, 0
			return r.supervisor.Apply(spec, false)
		}, Ready, ""},
		{"the end of the launcher", func(r *rig) <-chan error {
			r.stop()
			return nil
		}, Stopped, ends.ReasonStop},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newIdleRig(t, slow(t))
			r.spec.Edition = 1
			r.spec.Probe = generation.ProbeNotify
			r.options.ExitIdle = true
			r.run()
			r.await(Ready)
			r.becomeIdle()
			r.await(Stopping)
			reply := test.do(r)
			if test.why == ends.ReasonStop {
				r.awaitThat("told to end", func(s Status) bool { return s.Ending == ends.ReasonStop })
			}
			r.letTimePass(1) // stop.timeout
			status := r.await(test.want)
			if reply != nil {
				r.want(r.outcome(reply))
			}
			if test.want == Ready && status.Generation != 2 {
				t.Errorf("generation %d is ready, want 2", status.Generation)
			}
			if test.why != "" {
				r.awaitEnd()
				if r.why != test.why {
					t.Errorf("Run returned %q, want %q", r.why, test.why)
				}
			}
		})
	}
}

// TestIdleEdited: an edit counts at once, and only one of the time itself starts
// it anew.
func TestIdleEdited(t *testing.T) {
	t.Parallel()
	r := newIdleRig(t, command(t, "serve"))
	r.spec.IdleStop = 0
	r.run()
	r.await(Ready)
	edit := func(idle time.Duration) {
		t.Helper()
		r.spec.Edition++
		r.spec.IdleStop = idle
		r.want(r.outcome(r.supervisor.Apply(r.spec, false)))
	}
	edit(time.Minute)
	if asked := r.asked(); asked.idle != time.Minute {
		t.Errorf("asked for an idle time of %s", asked.idle)
	}
	edit(time.Minute)
	edit(time.Hour)
	if asked := r.asked(); asked.idle != time.Hour {
		t.Errorf("asked for an idle time of %s after an edit", asked.idle)
	}
	edit(0)
	select {
	case r.queues.idle <- struct{}{}:
		t.Error("somebody waits for the last client to leave, although it is switched off")
	default:
	}
	edit(time.Minute)
	r.asked()
	if states := r.states(); !slices.Equal(states, []State{Starting, Ready}) {
		t.Errorf("the states were %v, want the worker left alone", states)
	}
	r.becomeIdle()
	r.wantReason(r.await(Waiting), ends.ReasonIdle)
}

// TestIdleLeavesProbesOut: a worker that says itself that it is ready is asked no
// more, and what it was asked does not count.
func TestIdleLeavesProbesOut(t *testing.T) {
	t.Parallel()
	r := newIdleRig(t, command(t, "serve", "unready=1000000"))
	r.spec.Probe, r.spec.ReadyPath = generation.ProbeAuto, "/ready"
	r.run()
	r.awaitLog("503")
	// What READY=1 leads to; the worker itself has nothing to say.
	r.supervisor.around.Events <- generation.Event{Kind: generation.BecameReady, Generation: 1}
	r.await(Ready)
	if own := r.asked().own; len(own) == 0 {
		t.Error("the connection on which the launcher has asked for /ready counts")
	}
}

// TestIdleUnseen: a worker is not stopped where nobody can see its clients.
func TestIdleUnseen(t *testing.T) {
	t.Parallel()
	r := newIdleRig(t, command(t, "serve"))
	r.queues.idle = nil
	r.run()
	r.await(Ready)
	r.awaitLog("nothing can be seen")
	r.wantAnswer("/", "generation 1")
	if states := r.states(); !slices.Equal(states, []State{Starting, Ready}) {
		t.Errorf("the states were %v", states)
	}
}

// unknownQueues are queues of which nobody knows how long they are.
type unknownQueues struct{ *testQueues }

func (unknownQueues) Queued() (int, error) { return 0, errors.New("no queue") }

// TestIdleUnknownQueue: better a worker that nobody needs than a client that waits.
func TestIdleUnknownQueue(t *testing.T) {
	t.Parallel()
	r := newIdleRig(t, command(t, "serve"))
	r.spec.Queues = unknownQueues{r.queues}
	r.options.ExitIdle = true
	r.run()
	r.await(Ready)
	r.becomeIdle()
	if status := r.await(Ready); status.Generation != 2 {
		t.Errorf("generation %d is ready, want 2", status.Generation)
	}
}
