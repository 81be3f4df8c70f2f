package worker

import (
	"fmt"

	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/generation"
)

// The steps from one generation to the next with restart.prewarm: the coming one is started beside the one that serves (boot), loads its modules, and
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
	var err error
	if s.cold, err = s.boot(reason, false); err != nil {
		s.keepServing(err)
		return true
	}
	if s.cold == "" {
		return true
	}
	s.log.Warn("the next generation begins cold (restart.prewarm)", "generation", s.serving.Number, "reason", s.cold)
	return false
}

// count counts a generation that has failed with the modules that it had loaded ahead, or was to load.
func (s *Supervisor) count(g *generation.Generation) {
	if key := g.Key(); key != s.spent {
		s.spent, s.spoiled = key, 0
	}
	s.spoiled++
}

// spoil remembers that a generation has failed that was to load its modules ahead.
func (s *Supervisor) spoil(g *generation.Generation, exit ends.Exit) {
	s.count(g)
	s.cold = fmt.Sprintf("generation %d ended before it was ready: %s", g.Number, exit)
	if exit.Reason == ends.ReasonUnready {
		s.cold = fmt.Sprintf("generation %d: %s", g.Number, exit.Detail)
	}
	s.log.Warn("the next generation begins cold (restart.prewarm)", "generation", g.Number, "reason", s.cold)
}

// throwAway ends a generation that may not begin with what it has loaded: nobody serves, and the next one begins cold. A standby is as
// good as none: what follows the end of the one that served is what would follow without.
func (s *Supervisor) throwAway(why error, served ends.Exit) {
	s.serving, s.now = nil, false
	s.cold = fmt.Sprintf("generation %d: %v", s.coming.Number, why)
	s.log.Warn("the next generation begins cold (restart.prewarm)", "generation", s.coming.Number, "reason", s.cold)
	if s.coming.Standby {
		s.ended = &served
	} else {
		s.again = true
	}
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
