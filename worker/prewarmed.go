package worker

import (
	"fmt"

	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/generation"
)

// The steps from one generation to the next with restart.prewarm: the coming one is started beside the one that serves (warm), loads its modules, and
// waits there; then the serving one is stopped (takeOver). When nothing of that is left, and nothing of the program has changed, the coming
// one begins (succeed). Whatever goes wrong leads to a generation that begins cold, as in succession.go.

// mostSpoiled is how many in a row may fail that have loaded their modules ahead.
const mostSpoiled = 2

// tryBeside starts the next generation beside the one that serves, if it is to be there, and can.
func (s *Supervisor) tryBeside(reason ends.Reason) bool {
	return s.tryBoot(reason) || s.tryWarm(reason)
}

func (s *Supervisor) tryWarm(reason ends.Reason) bool {
	if !s.spec.Prewarm || s.spec.Handover || s.serving.Stage != generation.Ready || s.leaving != nil {
		return false
	}
	if s.cold = s.warm(reason); s.cold == "" {
		return true
	}
	s.log.Warn("the next generation begins cold (restart.prewarm)", "generation", s.serving.Number, "reason", s.cold)
	return false
}

// warm starts the next generation beside the serving one. It returns why that cannot load its modules ahead, which is prepared then; and
// "" also where none could be started, which has been told.
func (s *Supervisor) warm(reason ends.Reason) (cold string) {
	if !s.around.Trees.Apart() {
		return withoutTrees
	}
	spent := ""
	if s.spoiled >= mostSpoiled {
		spent = s.spent
	}
	g := s.following(s.number + 1)
	g.LoadAhead(s.serving, spent)
	if err := g.Prepare(); err != nil {
		s.keepServing(fmt.Errorf("generation %d cannot be started: %w", g.Number, err))
		return ""
	}
	if g.Cold != "" {
		s.prepared = g
		return g.Cold
	}
	s.number, s.asked = g.Number, reason
	g.Served = s.worked(g)
	if err := g.Start(); err != nil {
		s.keepServing(fmt.Errorf("generation %d cannot be started: %w", g.Number, err))
		return ""
	}
	s.coming = g
	s.log.Info("worker started beside the one that serves, to load its modules", g.Told("handoff", g.Handoff.Kind(), "serves", s.serving.Number)...)
	return ""
}

// spoil remembers that a generation has failed that was to load its modules ahead.
func (s *Supervisor) spoil(g *generation.Generation, exit ends.Exit) {
	if key := g.Key(); key != s.spent {
		s.spent, s.spoiled = key, 0
	}
	s.spoiled++
	s.cold = fmt.Sprintf("generation %d ended before it was ready: %s", g.Number, exit)
	if exit.Reason == ends.ReasonUnready {
		s.cold = fmt.Sprintf("generation %d: %s", g.Number, exit.Detail)
	}
	s.log.Warn("the next generation begins cold (restart.prewarm)", "generation", g.Number, "reason", s.cold)
}

// throwAway ends a generation that may not begin with what it has loaded: nobody serves, and the next one begins cold.
func (s *Supervisor) throwAway(why error) {
	s.serving, s.now = nil, false
	s.cold, s.again = fmt.Sprintf("generation %d: %v", s.coming.Number, why), true
	s.log.Warn("the next generation begins cold (restart.prewarm)", "generation", s.coming.Number, "reason", s.cold)
	s.coming.Handle(generation.Event{Kind: generation.StopAsked, Reason: ends.ReasonRestart})
}

// coldAfter starts one that begins cold, if the generation that has ended, with modules that it had loaded ahead, was not what it would
// have been without, or may not have been.
func (s *Supervisor) coldAfter(g *generation.Generation, exit ends.Exit) bool {
	asked := exit.Reason == ends.ReasonRestart || exit.Reason == ends.ReasonConfig
	if g.Gated || g.Stale == "" && (g.ReadyAfter > 0 || asked) {
		return false
	}
	if g.Stale != "" {
		g.Forget()
	}
	s.spoil(g, exit)
	s.start(generation.Event{})
	return true
}
