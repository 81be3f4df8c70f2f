package worker

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/generation"
)

// With restart.standby there is a successor for the case of a crash: it starts beside the serving generation when that has been ready for
// long enough (settle, standBy), and is parked at its gate and frozen there. It gets the sockets when the serving one has gone by
// failing (relieves), and is thrown away for everything else that ends that one: the next one is a fresh one then. One that has loaded its
// modules ahead, whose program is looked at once more, follows one that has asked for a restart itself, too. One that fails itself
// is a failure, and the next one comes after the pause of that (failStandby).

// proof is for how long a generation has to be ready until its failures are forgotten, and another one may stand by for it.
func (s *Supervisor) proof() time.Duration {
	if s.spec.Standby { // or what crashes at once, again and again, would have one each time, and no pause
		proof := max(s.spec.Backoff.ResetAfter, s.spec.Backoff.Min)
		if !s.spec.Handover { // and it tells what its standby is to load
			proof = max(proof, s.serving.Learns())
		}
		return proof
	}
	return s.spec.Backoff.ResetAfter
}

// settle is told that the serving generation has been ready for long enough, that its standby has been parked for so long, or that the
// pause before the next standby is over.
func (s *Supervisor) settle(generation.Event) {
	s.proven = true
	if s.noStandby == nil {
		s.resetFailures()
	}
	s.standBy()
}

// standBy starts a standby, where there is to be one and is none. There are no three.
func (s *Supervisor) standBy() {
	if !s.spec.Standby || !s.proven || s.holding != nil || s.phase != running || s.coming != nil || s.leaving != nil || s.serving == nil ||
		s.serving.Stage != generation.Ready || s.apart(s.serving) != "" {
		return
	}
	if why := s.cramped(s.serving.Number); why != "" {
		s.refuseStandby(why)
		s.serving.SetLimit(s.spec.Backoff.Max) // nothing tells when there is room
		return
	}
	apart, err := s.boot("", true)
	switch {
	case err != nil:
		s.failStandby(err)
	case apart != "":
		s.discard()
		s.refuseStandby(apart)
	}
}

// refuseStandby tells why there can be no standby for the serving generation.
func (s *Supervisor) refuseStandby(why string) {
	if s.noStandby == nil {
		s.log.Warn("there is no standby (restart.standby)", "generation", s.serving.Number, "reason", why)
	}
	s.noStandby = errors.New(why)
}

// standsBy reports whether there is a standby.
func (s *Supervisor) standsBy() bool { return s.awaited() && s.coming.Standby }

// parkStandby is told that the standby stands at its gate. Its failures are forgotten when it has stood there for long enough: or one
// that is killed there, again and again, would be followed at once by the next one.
func (s *Supervisor) parkStandby() {
	if s.noStandby != nil {
		s.noStandby = nil
		if s.serving.Stage == generation.Ready {
			s.serving.SetLimit(max(1, s.proof()))
		}
	}
}

// unprove is told that another generation is to serve. What has failed since the last one was proven were its standbys, and what follows
// its own failure has not to wait for those.
func (s *Supervisor) unprove() {
	if s.proven {
		s.resetFailures()
	}
	s.proven, s.noStandby = false, nil
}

// failStandby tells why there is no standby, and has the next one start after a pause.
func (s *Supervisor) failStandby(why error) {
	s.failures++
	pause := s.pause()
	s.noStandby = fmt.Errorf("%w; the next one starts at %s", why, time.Now().Add(pause).Format(time.TimeOnly))
	s.log.Warn("there is no standby (restart.standby), the next one starts after a pause", "generation", s.number, "error", why,
		"failures_in_a_row", s.failures, "pause", pause.Round(time.Millisecond))
	if s.serving.Stage == generation.Ready {
		s.serving.SetLimit(pause)
	}
}

// afterStandby decides what follows the end of a standby that has not had the sockets.
func (s *Supervisor) afterStandby(g *generation.Generation, exit ends.Exit) {
	if exit.Reason != ends.ReasonCrash && exit.Reason != ends.ReasonOOM && exit.Reason != ends.ReasonUnready {
		s.standBy() // it was thrown away, for there was to be none
		return
	}
	why := fmt.Sprintf("generation %d ended: %s", exit.Generation, exit)
	if exit.Reason == ends.ReasonUnready {
		why = fmt.Sprintf("generation %d", exit.Generation)
	}
	if exit.Detail != "" {
		why += ": " + exit.Detail
	}
	if g.Ahead && g.GateAfter == 0 {
		s.count(g)
	}
	if exit.Reason == ends.ReasonCrash && exit.Code > 0 && !g.Ahead {
		why += " (if it may be alone only, restart.mode: exclusive)"
	}
	s.failStandby(errors.New(why))
}

// changeStandby is told that another spec says whether there is to be one.
func (s *Supervisor) changeStandby() {
	switch {
	case s.spec.Standby && !s.proven:
		s.serving.SetLimit(max(1, s.proof()-time.Since(s.serving.Since)))
		return
	case s.spec.Standby && s.standsBy() && s.coming.Ahead == s.spec.Handover: // it is parked where the next one is not to be
		s.coming.Handle(generation.Event{Kind: generation.StopAsked, Reason: ends.ReasonConfig})
		return
	case s.spec.Standby:
		s.standBy()
		return
	}
	if s.noStandby != nil {
		s.noStandby = nil
		s.resetFailures()
	}
	if s.standsBy() {
		s.coming.Handle(generation.Event{Kind: generation.StopAsked, Reason: ends.ReasonConfig})
	}
}

// fails reports whether a generation has ended, or ends, by failing, in a way that another one may follow.
func (s *Supervisor) fails(reason ends.Reason, code int) bool {
	switch reason {
	case ends.ReasonCrash:
		return !slices.Contains(s.spec.FatalExitCodes, code)
	case ends.ReasonOOM, ends.ReasonHung, ends.ReasonUnready:
		return true
	}
	return false
}

// relieves reports whether the standby is to follow a generation that has ended so.
func (s *Supervisor) relieves(exit ends.Exit) bool {
	asked := exit.Reason == ends.ReasonRestart && !s.spec.WaitAfterExit0 && s.flashes < mostFlashes // by itself: else it has been thrown away
	return s.fails(exit.Reason, exit.Code) || asked && s.coming.Ahead
}

// relieve has a standby get the sockets as soon as a serving generation that is ended for failing has let go of them.
func (s *Supervisor) relieve() {
	if s.standsBy() && !s.coming.Ahead && s.serving != nil && s.serving.Stage == generation.Stopping && s.fails(s.serving.Ending()) {
		s.serving.WatchEnd()
		s.release(generation.Event{})
	}
}

// countRelief counts the failure that a standby has followed.
func (s *Supervisor) countRelief(why ends.Reason) {
	s.unprove()
	if s.coming.Standby && why != ends.ReasonRestart {
		s.failures++
		s.log.Warn("worker failed, the standby follows", "generation", s.serving.Number, "standby", s.coming.Number, "failures_in_a_row", s.failures)
	}
}
