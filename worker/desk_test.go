package worker

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"openclaw-gateway/worker/handoff"
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
		"refused":     {func(r *rig) { r.spec = Spec{Refused: errors.New("refused"), FrontDesk: true} }, Failed, []string{"open"}},
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
		spec  Spec
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
	r.options.relistenTimeout = 100 * time.Millisecond
	r.run()
	r.await(Ready)
	open(t, gate)
	s := r.await(BackingOff)
	want := "generation 1: it has closed its listener on " + r.spec.Sockets[0].Address.String() + " and has not listened again for 100ms"
	if s.Problem != want || s.LastExit.Reason != ReasonUnready {
		t.Errorf("backoff: %+v, want the problem %q", s, want)
	}
}

// TestListensAgain plays a worker that closes its listeners, and listens again or not.
func TestListensAgain(t *testing.T) {
	t.Parallel()
	one, two := netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("[::1]:1")
	begin := func(stage stage) (*generation, func(handoff.Event, netip.AddrPort)) {
		self, err := os.FindProcess(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		around := surroundings{options: Options{Log: slog.New(slog.DiscardHandler), relistenTimeout: time.Hour}}
		g := newGeneration(1, Spec{Queues: new(testQueues), Sockets: []handoff.Socket{{Address: one}, {Address: two}}}, around, func(event) {})
		g.process, g.stage = self, stage
		return g, func(what handoff.Event, address netip.AddrPort) {
			g.handle(event{kind: reported, report: handoff.Report{Event: what, Address: address, Held: true}})
		}
	}

	g, note := begin(ready)
	note(handoff.Listening, one)
	note(handoff.Listening, two)
	if g.relisten != nil {
		t.Error("a timer while it listens")
	}
	note(handoff.Closed, one)
	timer := g.relisten
	if timer == nil {
		t.Fatal("no timer after it has closed a listener")
	}
	note(handoff.Closed, two)
	note(handoff.Listening, one)
	if g.relisten != timer {
		t.Error("another timer, or none, while one of two listeners is missing")
	}
	_, before := g.spec.Queues.(*testQueues).counts()
	note(handoff.Listening, two)
	if _, now := g.spec.Queues.(*testQueues).counts(); now != before+1 {
		t.Errorf("sockets given their backlog %d times when it listened again, want once", now-before)
	}
	if g.relisten != nil || timer.Stop() {
		t.Error("the timer runs on after it listens again")
	}
	note(handoff.Closed, two)
	if g.relisten == nil || g.relisten == timer {
		t.Error("no timer when it closes a listener again")
	}

	// It listened, and has closed a listener before it said that it is ready.
	g, note = begin(starting)
	note(handoff.Listening, one)
	note(handoff.Listening, two)
	note(handoff.Closed, two)
	if g.relisten != nil {
		t.Error("a timer while it starts, which has a limit of its own")
	}
	g.handle(event{kind: becameReady})
	if g.relisten == nil {
		t.Error("no timer for what it closed before it was ready")
	}
}

// TestDesertionSaysWhich names every listener that is missing.
func TestDesertionSaysWhich(t *testing.T) {
	t.Parallel()
	gate := fifo(t)
	r := preloadRig(t, "listen=2", "close="+gate)
	r.spec.Sockets = append(r.spec.Sockets, listen(t, "::1"))
	r.options.relistenTimeout = 100 * time.Millisecond
	r.run()
	r.await(Ready)
	open(t, gate)
	s := r.await(BackingOff)
	if !strings.Contains(s.Problem, r.spec.Sockets[0].Address.String()) || strings.Contains(s.Problem, r.spec.Sockets[1].Address.String()) {
		t.Errorf("problem: %q", s.Problem)
	}
}
