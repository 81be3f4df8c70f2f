package generation

import (
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/handoff"
)

// gate is where a generation that starts beside another one is held: at each address on which it wants to listen and which is
// held, or which the other one, its elder, has besides. It is let in when the elder has let go of the sockets, and waits for
// what that has besides until it has let go of that too.
type gate struct {
	Elder     *Generation       // nil: there is none any more, and nothing to wait for
	Gated     bool              // it has not been let in
	waits     []netaddr.Address // where it waits
	said      bool              // READY=1 before it was let in
	passed    chan struct{}     // closed when it is let in
	Released  time.Time         // when that was
	GateAfter time.Duration     // from its start until it first stood there
	Left      time.Time         // when it let go of the sockets for another one
	Apart     string            // why it cannot be held, although it was to be
	Standby   bool              // it is there in case that the elder fails, and is frozen while it is parked
}

// Beside makes a generation that has not been started one that starts beside the elder.
func (g *Generation) Beside(elder *Generation) {
	g.gate = gate{Elder: elder, Gated: true, passed: make(chan struct{})}
}

// open is the gate of one that nobody holds.
func open() gate {
	passed := make(chan struct{})
	close(passed)
	return gate{passed: passed}
}

// holds is the gate that its handoff has.
func (g *Generation) holds() handoff.Gate {
	switch {
	case g.Elder != nil && !g.Ahead && g.Standby:
		return handoff.Standby
	case g.Elder != nil && !g.Ahead:
		return handoff.Shut
	case g.Spec.Handover:
		return handoff.Open
	}
	return handoff.NoGate
}

// mustWait reports whether the worker may not listen on an address yet.
func (g *Generation) mustWait(address netaddr.Address) bool {
	switch {
	case g.Elder == nil:
		return false
	case slices.Contains(addresses(g.Spec.Sockets), address):
		return g.Gated
	default:
		return g.Elder.mayHave(address)
	}
}

// WaitsForMore reports whether it waits for something besides the sockets.
func (g *Generation) WaitsForMore() bool {
	held := addresses(g.Spec.Sockets)
	return slices.ContainsFunc(g.waits, func(address netaddr.Address) bool { return !slices.Contains(held, address) && g.mustWait(address) })
}

// canWait is the kind by which the worker can be held; "": it cannot. What a shell or a wrapper becomes, and that a program binds its
// address itself, the elder has shown. A Node.js that starts another one is not who listens.
func (g *Generation) canWait(kind handoff.Kind) handoff.Kind {
	seen, elder := g.Elder.Kind(), g.Elder.Spec
	same := slices.Equal(elder.Command, g.Spec.Command)
	switch {
	case seen == handoff.Intercept && same && g.Spec.Handoff == handoff.Auto && elder.Handoff == handoff.Auto && handoff.Interceptable(g.Spec.Sockets):
		return handoff.Intercept // alone: who is passed the sockets need not bind
	case kind == handoff.Auto && (seen != handoff.Preload || !same), kind == handoff.Preload && g.Binds, !kind.HasGate():
		return ""
	}
	return kind
}

// mayHave reports whether the worker listens on an address that is not held, or on another one of its port. Of one that does not
// tell it may be any.
func (g *Generation) mayHave(address netaddr.Address) bool {
	return !g.Kind().HasGate() || g.Kind() == handoff.Intercept && !g.Spec.Handover || slices.ContainsFunc(g.besides, func(own netaddr.Address) bool {
		return own == address || !own.IsUnix() && !address.IsUnix() && own.Port() == address.Port()
	})
}

// HasLetGo reports whether the worker has closed its listeners on the sockets, as far as it tells.
func (g *Generation) HasLetGo() bool { return g.Kind().HasGate() && len(g.Listening) == 0 }

// WatchEnd has one that is being stopped be looked at, where it does not tell what it closes: until then it has all of the sockets.
func (g *Generation) WatchEnd() {
	if g.Stage == Stopping && g.Kind() == handoff.Intercept && g.Handoff.Watch() {
		for _, address := range addresses(g.Spec.Sockets) {
			g.Listening[address] = true
		}
	}
}

// mostLeft is at how many processes closeUnheld looks: for each it asks the kernel anew, while the supervisor waits.
const mostLeft = 50

// closeUnheld is told that a main process has ended that told itself what it closes: what nobody of the others has it has let go of.
func (g *Generation) closeUnheld() {
	left := g.tree.Left(g.Process.Pid)
	if len(left) > mostLeft {
		return // it is awaited that they end
	}
	var held []netaddr.Address
	for _, process := range left {
		held = append(held, g.Options.ListensOn(process.PID)...)
	}
	before := len(g.Listening)
	maps.DeleteFunc(g.Listening, func(address netaddr.Address, _ bool) bool {
		return !address.IsUnix() && !slices.Contains(held, address)
	})
	if len(g.Listening) < before {
		g.tell(Event{Kind: LetGo, Generation: g.Number})
	}
}

// arrive holds the worker at an address, if it may not have that.
func (g *Generation) arrive(e Event) {
	address := e.Report.Address
	if !g.mustWait(address) {
		g.Handoff.Pass(address)
		return
	}
	g.waits = append(g.waits, address)
	g.Options.Log.Debug("worker waits at the gate", g.Told("address", address)...)
	if g.GateAfter == 0 {
		g.GateAfter = time.Since(g.Started)
	}
	switch {
	case g.Gated:
		if g.Stage == Starting {
			g.enter(Parked, 0)
			g.freeze(true)
		}
		g.tell(Event{Kind: Arrived, Generation: g.Number})
	case g.Stage == Starting:
		g.SetLimit(0)
	}
}

// enterGate lets the worker have the sockets.
func (g *Generation) enterGate(Event) {
	if !g.Gated {
		return
	}
	g.Gated, g.Released = false, time.Now()
	g.tree.Admit()
	close(g.passed)
	g.freeze(false)
	// Nobody serves.
	if err := g.Spec.Queues.Restore(); err != nil {
		g.Options.Log.Error("cannot put the sockets into the state in which they came", "generation", g.Number, "error", err)
	}
	if g.Stage == Parked {
		g.enter(Starting, g.Spec.ReadyTimeout)
	}
	g.Options.Log.Info("the next generation gets the sockets", g.Told()...)
	if g.Ahead {
		g.yield(false)
		g.matter()
		_ = g.modules.Release() // one that has ended is heard of
	}
	g.GoOn()
	if g.said {
		g.becomeReady(Event{})
	}
}

// ReleasedAfter is from its start until it was let in; 0: it was not, or had no gate.
func (g *Generation) ReleasedAfter() time.Duration {
	if g.Released.IsZero() {
		return 0
	}
	return g.Released.Sub(g.Started)
}

// GoOn lets the worker go on wherever it need not wait any more. A standby that is parked does when it gets the sockets: until then it
// is frozen, and its time must not run.
func (g *Generation) GoOn() {
	if len(g.waits) == 0 || g.Standby && g.Gated && g.Stage == Parked {
		return
	}
	g.waits = slices.DeleteFunc(g.waits, func(address netaddr.Address) bool {
		wait := g.mustWait(address)
		if !wait {
			g.Handoff.Pass(address)
		}
		return !wait
	})
	switch {
	case len(g.waits) > 0:
	case g.Stage == Parked:
		g.enter(Starting, g.Spec.ReadyTimeout)
	case g.Stage == Starting && g.Until.IsZero():
		g.SetLimit(g.Spec.ReadyTimeout)
	}
}

// Outlive is told that the elder has gone.
func (g *Generation) Outlive() {
	g.Elder = nil
	g.GoOn()
	g.Handoff.Release()
}

// freeze stops a standby where it is, so that none of its timers and threads works beside the elder; or lets it go on. A call of its
// that waits is interrupted by that, and comes again.
func (g *Generation) freeze(frozen bool) {
	if !g.Standby {
		return
	}
	if err := g.tree.Freeze(frozen); err != nil {
		g.Options.Log.Error("cannot freeze the control group of a standby, or let it go on", "generation", g.Number, "frozen", frozen, "error", err)
	}
}

// discard ends a generation that has not been let in: at once, because one that waits takes no other signal.
func (g *Generation) discard() {
	g.Options.Log.Info("throwing the next generation away, which has not had the sockets", g.Told("reason", g.Why, "detail", g.detail)...)
	g.destroy(g.Why, g.detail)
}

// destroy ends a generation that takes no signal.
func (g *Generation) destroy(why ends.Reason, detail string) {
	g.Why, g.detail = why, detail
	g.leave()
	g.killAll()
}

// killAll kills whatever there is of it, frozen or not.
func (g *Generation) killAll() {
	g.killRest()
	if err := g.tree.Kill(); err != nil {
		g.Options.Log.Error("cannot kill the control group of a generation", "generation", g.Number, "error", err)
	}
	g.signal(unix.SIGKILL)
}

// noteClosed is about a generation that is being stopped: it may have let go of an address.
func (g *Generation) noteClosed(e Event) {
	if g.takeClosed(e.Report) {
		g.tell(Event{Kind: LetGo, Generation: g.Number})
	}
}
