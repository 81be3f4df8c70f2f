package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"openclaw-gateway/passed"
	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/generation"
	"openclaw-gateway/worker/tree"
)

// Saved is what a supervisor has that serves or waits, and nothing beside, for the program that takes this one's place in the process.
type Saved struct {
	Serving  *generation.Saved `json:"serving,omitempty"` // nil: it waits for a client
	Trees    tree.Saved        `json:"trees"`
	Since    time.Time         `json:"since"`
	Number   int               `json:"number"`
	Known    int               `json:"known"`
	Lives    int               `json:"lives"`
	Failures int               `json:"failures"`
	Flashes  int               `json:"flashes"`
	Binds    []string          `json:"binds,omitempty"`
	Last     *ends.Exit        `json:"last,omitempty"`
	Reason   string            `json:"reason"` // why a spec was rolled back
	Cold     string            `json:"cold"`
	Spoiled  int               `json:"spoiled"`
	Spent    string            `json:"spent"`
}

// hold is the wish that everything stands still for a moment.
type hold struct {
	ctx   context.Context
	alone bool // without a standby
	f     func(Saved, *passed.Files) error
	reply chan error
	still chan stillness // what has come of the generation's Suspend; nil: it has not been asked
}

type stillness struct {
	resume func()
	err    error
}

// suspendLimit is how long a worker may keep the launcher from standing still: one that lets its own memory be read slowly, for one.
const suspendLimit = 5 * time.Second

// Hold calls f while nothing changes, with what another program of this process needs to go on: it may become that. It waits until the
// worker serves, or a client is waited for, and nothing goes on beside, at the longest until the context is done. A standby cannot be
// passed on: alone says that there is to be none.
func (s *Supervisor) Hold(ctx context.Context, alone bool, f func(Saved, *passed.Files) error) error {
	h := &hold{ctx: ctx, alone: alone, f: f, reply: make(chan error, 1)}
	select {
	case s.holds <- h:
		return <-h.reply
	case <-s.done:
		return ErrStopping
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// given and stands are for the loop: that it has been waited for too long, and that the generation stands still.
func (h *hold) given() <-chan struct{} {
	if h == nil {
		return nil
	}
	return h.ctx.Done()
}

func (h *hold) stands() <-chan stillness {
	if h == nil {
		return nil
	}
	return h.still
}

// takeHold takes the wish in.
func (s *Supervisor) takeHold(h *hold) {
	if s.holding != nil {
		h.reply <- errors.New("it is being upgraded already")
		return
	}
	s.holding = h
}

// quieten has the generation stand still as soon as there is nothing else to do. A standby is thrown away, and there is another one later.
func (s *Supervisor) quieten() {
	h := s.holding
	if h == nil || h.still != nil {
		return
	}
	if h.alone && s.standsBy() && s.coming.Stage != generation.Stopping {
		s.coming.Handle(generation.Event{Kind: generation.StopAsked, Reason: ends.ReasonRestart})
	}
	why, final := s.unsettled()
	switch {
	case final:
		s.endHold(errors.New(why))
	case why != "":
	case s.serving == nil:
		h.still = make(chan stillness, 1)
		h.still <- stillness{resume: func() {}}
	default:
		h.still = make(chan stillness, 1)
		go func(g *generation.Generation) {
			ctx, cancel := context.WithTimeout(h.ctx, suspendLimit)
			defer cancel()
			resume, err := g.Suspend(ctx)
			h.still <- stillness{resume, err}
		}(s.serving)
	}
}

// unsettled says why what there is cannot be passed on now; "" where it can. final says that it does not become better by itself.
func (s *Supervisor) unsettled() (why string, final bool) {
	switch {
	case s.phase == ending || s.phase == stopped:
		return ErrStopping.Error(), true
	case s.phase == backingOff || s.phase == failed:
		return "the worker does not serve: " + s.shownProblem(), true
	case s.leaving != nil:
		return fmt.Sprintf("generation %d is leaving", s.leaving.Number), false
	case s.phase == waiting:
		return "", false
	case s.coming != nil && (!s.standsBy() || s.holding.alone):
		return fmt.Sprintf("generation %d is starting", s.coming.Number), false
	case s.serving == nil || s.again || s.prepared != nil || s.later != "" || len(s.waiters) > 0:
		return "the worker is being restarted", false
	case len(s.serving.Hung) > 0:
		return fmt.Sprintf("generation %d hangs: restart it first", s.serving.Number), true
	}
	if why := s.serving.Unsettled(); why != "" {
		return fmt.Sprintf("generation %d %s", s.serving.Number, why), false
	}
	return "", false
}

// beStill is told that the generation stands still: whoever has wished it gets what there is, unless something has happened meanwhile.
func (s *Supervisor) beStill(stood stillness) {
	h := s.holding
	if stood.err != nil {
		s.endHold(stood.err)
		return
	}
	if why, _ := s.unsettled(); why != "" {
		stood.resume()
		h.still = nil
		return
	}
	err := s.passOn(h.f)
	stood.resume()
	s.endHold(err)
}

// giveUp ends a wish for which it has been waited too long.
func (s *Supervisor) giveUp() {
	if still := s.holding.still; still != nil {
		s.beStill(<-still) // at once, for its context is done
		if s.holding == nil {
			return
		}
	}
	why, _ := s.unsettled()
	s.endHold(errors.New(why))
}

func (s *Supervisor) endHold(err error) {
	s.holding.reply <- err
	s.holding = nil
	s.standBy()
}

func (s *Supervisor) passOn(f func(Saved, *passed.Files) error) error {
	files := new(passed.Files)
	saved := Saved{
		Since: s.since, Number: s.number, Known: s.options.Known, Lives: s.lives, Failures: s.failures, Flashes: s.flashes, Binds: s.binds, Last: s.last, Reason: s.reason,
		Cold: s.cold, Spoiled: s.spoiled, Spent: s.spent,
	}
	var err error
	if saved.Trees, err = s.around.Trees.Save(); err != nil {
		return err
	}
	if s.serving != nil {
		serving, release, err := s.serving.Save(files)
		if err != nil {
			return err
		}
		defer release()
		saved.Serving = &serving
	}
	return f(saved, files)
}

// prepareResume says what of all there is is the worker's, before the first of it is reaped.
func (s *Supervisor) prepareResume(saved *Saved) {
	s.around.Trees.Resume(saved.Trees)
	if saved.Serving != nil {
		s.around.Trees.ResumeMain(saved.Serving.Number, saved.Serving.PID)
	}
}

// resume goes on where an earlier program of this process was.
func (s *Supervisor) resume(saved *Saved) error {
	s.number, s.lives, s.failures, s.flashes, s.last = saved.Number, saved.Lives, saved.Failures, saved.Flashes, saved.Last
	s.cold, s.spoiled, s.spent = saved.Cold, saved.Spoiled, saved.Spent
	for range s.failures {
		s.backoff.NextBackOff()
	}
	if s.options.RolledBack != 0 {
		s.rolled, s.reason = s.options.RolledBack, saved.Reason
	}
	if saved.Serving == nil {
		s.wait()
		s.since = saved.Since
		return nil
	}
	g, err := generation.Resume(*saved.Serving, s.spec, s.around, s.handle)
	if err != nil {
		return err
	}
	good := s.spec
	s.phase, s.since, s.serving, s.good = running, saved.Since, g, &good
	g.SetLimit(max(1, s.proof()-time.Since(g.Since))) // as when it became ready
	g.WatchIdle(s.spec.IdleStop)
	g.WatchAlive(s.spec.Alive)
	return nil
}
