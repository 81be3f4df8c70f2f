package worker

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/generation"
)

// order is what happened, one after the other.
type order struct {
	mu     sync.Mutex
	added  *sync.Cond
	events []string
}

func newOrder() *order {
	o := new(order)
	o.added = sync.NewCond(&o.mu)
	return o
}

func (o *order) add(what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, what)
	o.added.Broadcast()
}

// want waits for as many events as are wanted: a state is published before the
// desk opens because of it.
func (o *order) want(t *testing.T, when string, events ...string) {
	t.Helper()
	late := false
	timer := time.AfterFunc(bound, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		late = true
		o.added.Broadcast()
	})
	defer timer.Stop()
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.events) < len(events) && !late {
		o.added.Wait()
	}
	if diff := cmp.Diff(events, slices.Clone(o.events)); diff != "" {
		t.Errorf("%s: %s", when, diff)
	}
}

// noted are queues that say when they are restored.
type noted struct {
	*testQueues
	order *order
}

func (n noted) Restore() error {
	n.order.add("restore")
	return n.testQueues.Restore()
}

// deskRig is a supervisor with a front desk.
func deskRig(t *testing.T, command []string) (*rig, *order) {
	t.Helper()
	r, o := newRig(t, command), newOrder()
	r.spec.FrontDesk = true
	r.spec.Queues = noted{r.queues, o}
	r.options.OpenDesk = func() func() {
		r.recorder.mu.Lock()
		known := r.recorder.seen[len(r.recorder.seen)-1].State
		r.recorder.mu.Unlock()
		if known != Failed && known != BackingOff {
			t.Errorf("the desk opens while the status says %s: its first client is told that", known)
		}
		o.add("open")
		return func() { o.add("close") }
	}
	return r, o
}

func TestDesk(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*rig)
		state  State
		events []string
	}{
		"long pause": {func(*rig) {}, BackingOff, []string{"restore", "open"}},
		// Jitter makes it shorter, or Max longer.
		"short pause": {func(r *rig) { r.spec.Backoff.Min, r.spec.Backoff.Max = deskPause, deskPause }, BackingOff, []string{"restore"}},
		"failed":      {func(r *rig) { r.spec.FatalExitCodes = []int{99} }, Failed, []string{"restore", "open"}},
		"refused":     {func(r *rig) { r.spec = generation.Spec{Refused: errors.New("refused"), FrontDesk: true} }, Failed, []string{"open"}},
		"not wanted":  {func(r *rig) { r.spec.FrontDesk = false }, BackingOff, []string{"restore"}},
		"not wanted, failed": {func(r *rig) {
			r.spec.FatalExitCodes, r.spec.FrontDesk = []int{99}, false
		}, Failed, []string{"restore"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, o := deskRig(t, command(t, "exit", "code=99"))
			test.change(r)
			r.run()
			r.await(test.state)
			o.want(t, "before the stop", test.events...)
			r.ended()
			if slices.Contains(test.events, "open") {
				test.events = append(test.events, "close")
			}
			o.want(t, "after the stop", test.events...)
		})
	}
}

// TestDeskBeforeTheNext: the front desk accepts no more when the sockets are put
// in order for the next generation.
func TestDeskBeforeTheNext(t *testing.T) {
	t.Parallel()
	for _, state := range []State{BackingOff, Failed} {
		t.Run(state.String(), func(t *testing.T) {
			t.Parallel()
			r, o := deskRig(t, command(t, "serve"))
			r.run()
			r.await(Ready)
			r.exit(map[State]int{BackingOff: 3, Failed: 78}[state])
			r.await(state)
			o.want(t, state.String(), "restore", "open")
			r.want(r.outcome(r.supervisor.Restart(false)))
			o.want(t, "ready again", "restore", "open", "close", "restore")
			r.ended()
			o.want(t, "after the stop", "restore", "open", "close", "restore")
		})
	}
}

// TestDeskAfterThePause: the same, when the pause is over.
func TestDeskAfterThePause(t *testing.T) {
	t.Parallel()
	r, o := deskRig(t, command(t, "exit", "code=99"))
	r.run()
	r.await(BackingOff)
	r.letTimePass(0)
	r.awaitThat("next backoff", func(s Status) bool { return s.State == BackingOff && s.Generation == 2 })
	o.want(t, "next backoff", "restore", "open", "close", "restore", "open")
}

// TestDeskEdited opens and closes the front desk in the middle of a pause, as
// the configuration wants it.
func TestDeskEdited(t *testing.T) {
	t.Parallel()
	r, o := deskRig(t, command(t, "serve"))
	with, without := r.spec, r.spec
	without.FrontDesk = false
	r.run()
	r.await(Ready)
	r.want(r.outcome(r.supervisor.Apply(with, false)))
	o.want(t, "while ready", "restore")
	r.exit(3)
	r.await(BackingOff)
	want := []string{"restore", "open"}
	for _, edit := range []struct {
		spec  generation.Spec
		event []string
	}{
		{with, nil},
		{without, []string{"close"}},
		{without, nil},
		{with, []string{"open"}},
	} {
		r.want(r.outcome(r.supervisor.Apply(edit.spec, false)))
		want = append(want, edit.event...)
		o.want(t, "in the pause", want...)
	}
	r.ended()
	o.want(t, "after the stop", append(want, "close")...)
}

func TestDesertion(t *testing.T) {
	t.Parallel()
	gate := fifo(t)
	r := preloadRig(t, "listen=1", "close="+gate)
	r.options.RelistenTimeout = 100 * time.Millisecond
	r.run()
	r.await(Ready)
	open(t, gate)
	s := r.await(BackingOff)
	want := "generation 1: it has closed its listener on " + r.spec.Sockets[0].Address.String() + " and has not listened again for 100ms"
	if s.Problem != want || s.LastExit.Reason != ends.ReasonUnready {
		t.Errorf("backoff: %+v, want the problem %q", s, want)
	}
}

// TestDesertionSaysWhich names every listener that is missing.
func TestDesertionSaysWhich(t *testing.T) {
	t.Parallel()
	gate := fifo(t)
	r := preloadRig(t, "listen=2", "close="+gate)
	r.spec.Sockets = append(r.spec.Sockets, listen(t, "::1"))
	r.options.RelistenTimeout = 100 * time.Millisecond
	r.run()
	r.await(Ready)
	open(t, gate)
	s := r.await(BackingOff)
	if !strings.Contains(s.Problem, r.spec.Sockets[0].Address.String()) || strings.Contains(s.Problem, r.spec.Sockets[1].Address.String()) {
		t.Errorf("problem: %q", s.Problem)
	}
}
