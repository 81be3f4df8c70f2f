package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"openclaw-gateway/worker/tree"
)

// The steps from one generation to the next, in the order of restart.mode
// "exclusive": what the next one needs is prepared, and the serving one is stopped (replace);
// when nothing of it is left, the coming one is started (afterEnd, start); when it is ready it
// is the serving one (promote). So of the two slots one at the most is taken.

// present is the generation that there is.
func (s *Supervisor) present() *generation {
	return cmp.Or(s.serving, s.coming)
}

// replace ends the present generation for the next one. One that serves goes on serving when what the next one needs cannot
// be had: a program that is not there, or a full disk.
func (s *Supervisor) replace(e event) {
	s.discard()
	if s.serving != nil && s.serving.stage == ready {
		if err := s.prepare(); err != nil {
			s.keepServing(err)
			return
		}
	}
	s.again = true
	s.present().handle(event{kind: stopAsked, reason: e.reason})
}

// prepare makes what the next generation needs.
func (s *Supervisor) prepare() error {
	next := newGeneration(s.number+1, s.spec, s.surroundings, s.handle)
	if err := next.prepare(); err != nil {
		return fmt.Errorf("generation %d cannot be started: %w", next.number, err)
	}
	s.prepared = next
	return nil
}

// discard takes back what was prepared for a generation that does not come.
func (s *Supervisor) discard() {
	if s.prepared == nil {
		return
	}
	if err := s.prepared.drop(); err != nil {
		s.log.Warn("something is left of a generation that was prepared", "generation", s.prepared.number, "error", err)
	}
	s.prepared = nil
}

// keepServing tells why the next generation cannot be started.
func (s *Supervisor) keepServing(why error) {
	if s.untried() {
		s.problem = why.Error()
		s.rollBack()
		return
	}
	s.log.Error("the worker is not restarted", "generation", s.number, "error", why)
	s.replyToWaiters(fmt.Errorf("%w; generation %d goes on serving", why, s.number))
}

// afterEnd decides what follows the end of a generation.
func (s *Supervisor) afterEnd(e event) {
	exit := e.exit
	s.serving, s.coming = nil, nil
	s.record(exit)
	switch {
	case exit.Reason == ReasonStop:
		s.finish(event{})
	case s.again:
		s.start(event{})
	case exit.Reason == ReasonIdle:
		s.rest(s.spec.IdleStop > 0)
	case exit.Reason == ReasonRestart && s.flashes < mostFlashes:
		s.rest(s.spec.WaitAfterExit0)
	case exit.Reason == ReasonHung && s.failures < promptRestarts:
		s.failures++
		s.start(event{})
	case exit.Reason == ReasonUnready:
		s.afterFailure(exit)
	default:
		s.problem = fmt.Sprintf("generation %d ended: %s", exit.Generation, exit)
		if exit.Detail != "" {
			s.problem += ": " + exit.Detail
		}
		s.afterFailure(exit)
	}
}

// start starts the next generation.
func (s *Supervisor) start(event) {
	if s.prepared != nil && s.prepared.spec.Edition != s.spec.Edition {
		s.discard()
	}
	s.number++
	s.again = false
	s.enter(running, 0)
	g := cmp.Or(s.prepared, newGeneration(s.number, s.spec, s.surroundings, s.handle))
	s.prepared = nil
	g.served = s.good != nil && slices.Equal(s.good.Command, g.spec.Command)
	err := s.spec.Queues.Restore() // nobody serves
	if err == nil {
		err = g.start()
	}
	if err != nil {
		s.afterEnd(event{exit: Exit{Generation: s.number, Code: -1, Reason: ReasonCrash, At: time.Now(), Detail: err.Error()}})
		return
	}
	s.coming = g
	s.log.Info("worker started", g.told("handoff", g.handoff.Kind())...)
}

// promote is the last step: the generation that was coming serves.
func (s *Supervisor) promote(event) {
	g := s.coming
	s.serving, s.coming = g, nil
	s.problem = ""
	// Not the generation's own, which an Apply without restart has left behind.
	good := s.spec
	s.good = &good
	g.setLimit(s.spec.Backoff.ResetAfter)
	g.watchIdle(s.spec.IdleStop)
	g.watchAlive(s.spec.Alive)
	if s.spec.Backoff.ResetAfter == 0 {
		s.resetFailures(event{})
	}
	s.log.Info("worker ready", g.told("after_ms", g.readyAfter.Milliseconds())...)
	s.replyToWaiters(nil)
}

// What follows besides.

// jitter spreads each backoff by this part of it to either side.
const jitter = 0.2

// promptRestarts is how many failures in a row still leave a worker that hung its
// restart without backoff: it has served until then.
const promptRestarts = 3

// A worker that serves and ends with exit code 0 has done what it wanted to, unless
// that is mostFlashes times in a row within defaultFlash of being ready.
const (
	defaultFlash = time.Second
	mostFlashes  = 3
)

// enter changes the state; after limit, if it is not 0, timeUp comes.
func (s *Supervisor) enter(phase phase, limit time.Duration) {
	s.closeDesk()
	s.unwatch()
	s.unwatch = func() {}
	s.phase, s.since, s.nextAt = phase, time.Now(), time.Time{}
	s.timer.Stop()
	if limit > 0 {
		s.timer.Reset(limit)
	}
}

// wait waits for the first client.
func (s *Supervisor) wait() {
	s.enter(waiting, 0)
	queues := s.spec.Queues
	s.unwatch = s.watch(event{kind: clientWaits}, func(ctx context.Context) bool {
		if err := queues.AwaitClient(ctx); err != nil && ctx.Err() == nil {
			// Better a worker that nobody needs yet than clients that nobody serves.
			s.log.Error("cannot notice a waiting client, starting the worker now", "error", err)
		}
		return true
	})
}

// rest is what follows a generation that was not to go on: where it may be so, nothing
// until the next client comes.
func (s *Supervisor) rest(may bool) {
	queued, err := s.spec.Queues.Queued()
	switch {
	case err != nil || queued > 0 || !may:
		// Somebody has come meanwhile, or it is to run although nobody comes.
		s.start(event{})
	case s.options.ExitIdle:
		s.replyToWaiters(nil)
		s.why = ReasonIdle
		s.finish(event{})
	default:
		s.replyToWaiters(nil)
		s.wait()
	}
}

// prepareFailure is told that a generation cannot serve, and ends. What follows is decided
// by then: who waits is told, and who asks while it ends asks for the next one.
func (s *Supervisor) prepareFailure(e event) {
	s.problem = fmt.Sprintf("generation %d: %v", s.number, e.err)
	if s.untried() {
		s.rollBack()
		s.again = true
		return
	}
	s.replyToWaiters(errors.New(s.problem))
}

// afterFailure decides what follows a generation that failed.
func (s *Supervisor) afterFailure(exit Exit) {
	if s.untried() {
		s.rollBack()
		s.start(event{})
		return
	}
	s.failures++
	fatal := exit.Reason == ReasonCrash && slices.Contains(s.spec.FatalExitCodes, exit.Code)
	if fatal {
		s.problem += " (in restart.fatal_exit_codes: no retry until the config changes or somebody runs gateway restart)"
	}
	s.replyToWaiters(errors.New(s.problem))
	if fatal {
		s.enter(failed, 0)
		s.updateDesk()
		s.log.Error("worker failed for good", "generation", s.number, "exit", exit.String())
		return
	}
	// The timer of a state without a limit never fires.
	pause := max(1, min(s.backoff.NextBackOff(), s.spec.Backoff.Max))
	s.enter(backingOff, pause)
	s.nextAt = s.since.Add(pause)
	s.updateDesk()
	s.log.Warn("worker failed, next generation after a pause", "generation", s.number, "exit", exit.String(),
		"failures_in_a_row", s.failures, "pause", pause.Round(time.Millisecond))
}

// untried reports whether the spec is another one than the last that is known to
// work.
func (s *Supervisor) untried() bool {
	return s.good != nil && s.good.Edition != s.spec.Edition
}

// rollBack goes back to the last spec that worked: the generation that failed was
// the first of a new one.
func (s *Supervisor) rollBack() {
	s.rolled, s.reason = s.spec.Edition, s.problem
	s.replyToWaiters(fmt.Errorf("%s; the last configuration that worked comes back", s.problem))
	s.log.Error("the new configuration does not work, going back to the last one that did", "generation", s.number, "error", s.problem)
	s.spec = *s.good
	s.problem = ""
	s.resetBackoff()
}

// resetFailures breaks the row of failures: the generation has served for long
// enough.
func (s *Supervisor) resetFailures(event) {
	s.failures = 0
	s.backoff.Reset()
}

func (s *Supervisor) resetBackoff() {
	s.backoff = backoff.NewExponentialBackOff()
	s.backoff.InitialInterval, s.backoff.MaxInterval = s.spec.Backoff.Min, s.spec.Backoff.Max
	s.backoff.Multiplier, s.backoff.RandomizationFactor = 2, jitter
	s.backoff.Reset()
}

// showProblem shows what is wrong with a generation that starts.
func (s *Supervisor) showProblem(e event) { s.problem = e.text }

// stop ends the generation because the launcher ends.
func (s *Supervisor) stop(event) { s.present().handle(event{kind: stopAsked, reason: ReasonStop}) }

func (s *Supervisor) hurry(e event) { s.present().handle(e) }

func (s *Supervisor) finish(event) {
	s.discard()
	s.enter(stopped, 0)
}

func (s *Supervisor) record(exit Exit) {
	s.last = &exit
	if exit.Reason != ReasonRestart || exit.Lived-exit.ReadyAfter >= cmp.Or(s.options.flash, defaultFlash) {
		s.flashes = 0
	} else {
		s.flashes++
	}
	s.options.Ended(exit)
	told := []any{
		"generation", exit.Generation, "exit", exit.String(), "reason", exit.Reason,
		"lived_ms", exit.Lived.Milliseconds(), "strays", len(exit.Strays),
	}
	if exit.Detail != "" {
		told = append(told, "detail", exit.Detail)
	}
	s.log.Info("worker ended", told...)
	if exit.Killed > 0 {
		tree.Report(s.log, "the worker left processes, which were killed", exit.Generation, exit.Strays)
	} else if len(exit.Strays) > 0 {
		s.log.Info("the worker left processes, which ended by the stop signal", "generation", exit.Generation, "strays", len(exit.Strays), "who", tree.Names(exit.Strays))
	}
}
