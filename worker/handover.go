package worker

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/generation"
	"openclaw-gateway/worker/why"
)

// The steps from one generation to the next, in the order of restart.mode "handover": the coming one is started beside
// the one that serves (replace, boot), and held where it wants to listen. When it stands there, the serving one is stopped
// (takeOver); when that has let go of the sockets, or has gone, the coming one gets them (release), and the other one leaves. When
// it is ready, it serves (promote). So of the three slots two at the most are taken, and one generation has the sockets.

// withoutTrees is why no generation starts beside another one.
const withoutTrees = `the launcher has no control group for each generation (Delegate=yes of the service that "gateway install" writes)`

// apart says why the next generation cannot start beside the present one; "" where it can, or is not to.
func (s *Supervisor) apart(g *generation.Generation) string {
	switch {
	case !s.spec.Handover || g.Stage != generation.Ready:
		return ""
	case !s.around.Trees.Apart():
		return withoutTrees
	case !g.Kind().HasGate() || len(g.Listening) == 0: // it is another one that listens, which nobody would hold
		return why.WithoutGate(g.Kind())
	}
	return ""
}

// tryBoot starts the next generation beside the one that serves, and reports whether it could be there.
func (s *Supervisor) tryBoot(reason ends.Reason) bool {
	if !s.spec.Handover {
		return false
	}
	why := s.apart(s.serving)
	if why == "" {
		var err error
		if why, err = s.boot(reason, false); err != nil {
			s.withoutSuccessor(err)
			return true
		} else if why == "" {
			return true
		}
	}
	s.log.Warn("the next generation is not started beside the one that serves (restart.mode)", "generation", s.serving.Number, "reason", why)
	return false
}

// boot starts the next generation beside the serving one. It returns why that cannot be held at a gate, and one without may be prepared
// then, or why it could not be started.
func (s *Supervisor) boot(reason ends.Reason, standby bool) (apart string, err error) {
	if !s.around.Trees.Apart() {
		return withoutTrees, nil
	}
	g := s.following(s.number + 1)
	switch {
	case s.spec.Handover:
		g.Beside(s.serving)
	case s.spoiled >= mostSpoiled:
		g.LoadAhead(s.serving, s.spent)
	default:
		g.LoadAhead(s.serving, "")
	}
	g.Standby = standby
	if err := g.Prepare(); err != nil {
		return "", fmt.Errorf("generation %d cannot be started: %w", g.Number, err)
	}
	if apart := cmp.Or(g.Apart, g.Cold); apart != "" {
		s.prepared = g
		return apart, nil
	}
	s.number, s.asked = g.Number, reason
	g.Served = s.worked(g)
	if err := g.Start(); err != nil {
		return "", fmt.Errorf("generation %d cannot be started: %w", g.Number, err)
	}
	s.coming = g
	s.log.Info("worker started beside the one that serves", g.Told("handoff", g.Handoff.Kind(), "serves", s.serving.Number, "standby", standby, "ahead", g.Ahead)...)
	return "", nil
}

// awaited reports whether a successor has been started that has not got the sockets.
func (s *Supervisor) awaited() bool { return s.coming != nil && s.coming.Gated }

// takeOver is told that the successor stands at its gate: the serving generation is stopped, if it is not stopping.
func (s *Supervisor) takeOver(e generation.Event) {
	if s.standsBy() {
		s.parkStandby()
		s.release(e)
		return
	}
	if s.serving != nil && s.serving.Stage == generation.Ready {
		s.serving.Handle(generation.Event{Kind: generation.StopAsked, Reason: s.asked})
		if s.now {
			s.serving.Handle(generation.Event{Kind: generation.HurryAsked})
		}
	}
	if s.serving != nil {
		s.serving.WatchEnd()
	}
	s.release(e)
}

// release looks whether a generation that is being stopped has let go of what another one waits for.
func (s *Supervisor) release(generation.Event) {
	elder, g := s.serving, s.coming
	if s.awaited() && !g.Ahead && g.Stage != generation.Stopping && elder != nil && elder.Stage == generation.Stopping && elder.HasLetGo() && !g.WaitsForMore() &&
		(!g.Standby || s.fails(elder.Ending())) {
		s.countRelief(elder.Why)
		s.lives++
		elder.Left = time.Now()
		s.silent = elder.Left
		s.leaving, s.serving, s.now = elder, nil, false
		g.Handle(generation.Event{Kind: generation.LetIn})
	}
	for _, g := range s.living() {
		if g.Elder != nil {
			g.GoOn()
		}
	}
}

// succeed gives the sockets to the successor of a generation that has gone.
func (s *Supervisor) succeed(exit ends.Exit) {
	g := s.coming
	if g.Ahead {
		if err := g.Unchanged(); err != nil {
			s.throwAway(err, exit)
			return
		}
	}
	s.countRelief(exit.Reason)
	s.lives++
	s.serving, s.now = nil, false
	g.Elder = nil
	g.Handle(generation.Event{Kind: generation.LetIn})
	g.Outlive()
}

// afterSuccessor decides what follows the end of a generation that has not had the sockets.
func (s *Supervisor) afterSuccessor(exit ends.Exit) {
	g := s.coming
	s.coming = nil
	if s.anew != "" {
		reason := s.anew
		s.anew = ""
		if !s.tryBeside(reason) {
			s.replaceServing(reason)
		}
		return
	}
	if g.Standby {
		s.afterStandby(g, exit)
		return
	}
	if g.Ahead {
		s.spoil(g, exit)
		s.replaceServing(s.asked)
		return
	}
	why := fmt.Sprintf("generation %d ended before it listened, while generation %d was running: %s", exit.Generation, s.serving.Number, exit)
	switch {
	case exit.Reason == ends.ReasonUnready:
		why = fmt.Sprintf("generation %d, started while generation %d was running: %s", exit.Generation, s.serving.Number, exit.Detail)
	case exit.Reason == ends.ReasonOOM, exit.Code < 0: // killed, by whomever
	case g.Served && !s.untried():
		why += ": it may be alone only; restart.mode: exclusive"
	default:
		why += ": if it may be alone only, restart.mode: exclusive"
	}
	if exit.Reason != ends.ReasonUnready && exit.Detail != "" {
		why += " (" + exit.Detail + ")"
	}
	s.withoutSuccessor(errors.New(why))
}

// withoutSuccessor is what follows when there is no successor: the serving generation goes on, or, if it has been told to end
// already, the next one is started when it has.
func (s *Supervisor) withoutSuccessor(why error) {
	s.now = false
	if s.serving.Stage == generation.Ready {
		s.keepServing(why)
		return
	}
	s.log.Error("there is no successor, the next generation starts when the present one has ended", "generation", s.serving.Number, "error", why)
	if s.untried() {
		s.problem = why.Error()
		s.rollBack()
	}
	s.again = true
}

// bury is told that the generation which was leaving has gone.
func (s *Supervisor) bury() {
	s.leaving = nil
	for _, g := range s.living() {
		g.Outlive()
	}
	switch {
	case s.phase == running && s.later != "":
		reason := s.later
		s.later = ""
		s.replace(generation.Event{Reason: reason})
	case s.phase == backingOff && s.again:
		s.start(generation.Event{})
	case s.phase == waiting:
		s.rest(true) // it may be left alone now
	default:
		s.standBy()
	}
}

// living are the generations that there are.
func (s *Supervisor) living() []*generation.Generation {
	var all []*generation.Generation
	for _, g := range []*generation.Generation{s.leaving, s.serving, s.coming} {
		if g != nil {
			all = append(all, g)
		}
	}
	return all
}

// besides are the generations beside the present one, for the status.
func (s *Supervisor) besides() (successor, leaving Beside) {
	if s.awaited() && s.serving != nil {
		successor = asBeside(s.coming, BesideBooting)
		if s.coming.Stage == generation.Parked {
			successor.State = BesideParked
		}
		successor.Standby = s.coming.Standby
	}
	if s.leaving != nil {
		leaving = asBeside(s.leaving, BesideLeaving)
		leaving.Since, leaving.Until = s.leaving.Left, s.leaving.Until
	}
	return successor, leaving
}

func asBeside(g *generation.Generation, state string) Beside {
	return Beside{
		Generation: g.Number, PID: g.Process.Pid, State: state, Since: g.Since, Started: g.Started, ReadyAfter: g.ReadyAfter,
		Stall: g.Stall, GateAfter: g.GateAfter, Released: g.ReleasedAfter(), Cached: g.Cached, Prewarmed: g.Prewarmed(), Modules: g.Modules,
	}
}
