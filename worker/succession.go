package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/generation"
	"openclaw-gateway/worker/tree"
)

// The steps from one generation to the next, in the order of restart.mode
// "exclusive" (that of "handover" is in handover.go): what the next one needs is prepared, and the serving one is stopped (replace);
// when nothing of it is left, the coming one is started (afterEnd, start); when it is ready it
// is the serving one (promote). So of the two slots one at the most is taken.

// present is the generation that there is: of several the one that has the sockets.
func (s *Supervisor) present() *generation.Generation {
	if s.phase == ending {
		return cmp.Or(s.serving, s.coming, s.leaving)
	}
	return cmp.Or(s.serving, s.coming)
}

// replace ends the present generation for the next one. One that serves goes on serving when what the next one needs cannot
// be had: a program that is not there, or a full disk.
func (s *Supervisor) replace(e generation.Event) {
	s.discard()
	serves := s.serving != nil && s.serving.Stage == generation.Ready
	switch {
	case s.awaited() && s.coming.Stage == generation.Parked && !serves && s.coming.Spec.Edition == s.spec.Edition &&
		(!s.coming.Standby || s.fails(s.serving.Ending())):
		// It is about to follow.
	case s.awaited():
		s.anew = e.Reason
		s.coming.Handle(generation.Event{Kind: generation.StopAsked, Reason: e.Reason})
	case serves && s.leaving != nil:
		s.later = e.Reason // there are no three
	case serves && s.tryBeside(e.Reason):
	case serves:
		s.replaceServing(e.Reason)
	default:
		s.again = true
		s.present().Handle(generation.Event{Kind: generation.StopAsked, Reason: e.Reason})
	}
}

// replaceServing stops the serving generation for the next one, if that can be prepared.
func (s *Supervisor) replaceServing(reason ends.Reason) {
	if s.serving.Stage == generation.Ready && s.prepared == nil {
		if err := s.prepare(); err != nil {
			s.keepServing(err)
			return
		}
	}
	s.again = true
	s.serving.Handle(generation.Event{Kind: generation.StopAsked, Reason: reason})
	if s.now { // which was asked for while there was to be a successor
		s.now = false
		s.serving.Handle(generation.Event{Kind: generation.HurryAsked})
	}
}

// prepare makes what the next generation needs.
func (s *Supervisor) prepare() error {
	next := s.following(s.number + 1)
	if err := next.Prepare(); err != nil {
		return fmt.Errorf("generation %d cannot be started: %w", next.Number, err)
	}
	s.prepared = next
	return nil
}

// following is a generation that is made from the present spec.
func (s *Supervisor) following(number int) *generation.Generation {
	g := generation.New(number, s.spec, s.around, s.handle)
	g.Binds = slices.Equal(s.tries, s.spec.Command) || slices.Equal(s.binds, s.spec.Command)
	return g
}

// discard takes back what was prepared for a generation that does not come.
func (s *Supervisor) discard() {
	if s.prepared == nil {
		return
	}
	if err := s.prepared.Drop(); err != nil {
		s.log.Warn("something is left of a generation that was prepared", "generation", s.prepared.Number, "error", err)
	}
	s.prepared = nil
}

// keepServing tells why the next generation cannot be started. The standby has been thrown away for that, and the hurry is over.
func (s *Supervisor) keepServing(why error) {
	defer s.standBy()
	s.now = false
	if s.untried() {
		s.problem = why.Error()
		s.rollBack()
		return
	}
	s.log.Error("the worker is not restarted", "generation", s.serving.Number, "error", why)
	s.replyToWaiters(fmt.Errorf("%w; generation %d goes on serving", why, s.serving.Number))
}

// afterEnd decides what follows the end of a generation.
func (s *Supervisor) afterEnd(e generation.Event) {
	exit, ended := e.Exit, s.present()
	s.record(exit)
	if g := s.serving; g != nil && g.Number == exit.Generation {
		if s.silent = g.Ceased; s.silent.IsZero() {
			s.silent = exit.At
		}
	}
	successor := s.awaited() && s.coming.Number == exit.Generation
	switch {
	case s.phase == ending:
		s.forget(exit.Generation)
		s.finishAlone()
		return
	case s.leaving != nil && s.leaving.Number == exit.Generation:
		s.bury()
		return
	case successor && s.serving != nil:
		s.afterSuccessor(exit)
		return
	case s.awaited() && !successor && s.coming.Standby && (s.coming.Stage == generation.Stopping || !s.relieves(exit)):
		s.serving, s.ended = nil, &exit // what follows is decided when the standby has gone, too
		s.coming.Handle(generation.Event{Kind: generation.StopAsked, Reason: ends.ReasonRestart})
		return
	case s.awaited() && !successor && s.coming.Stage == generation.Stopping:
		s.serving, s.again = nil, true // when what is being thrown away has gone, too
		return
	case s.awaited() && !successor:
		s.succeed(exit)
		return
	}
	s.serving, s.coming = nil, nil
	s.unprove()
	if ended != nil && ended.Binds && ended.Clashes() {
		s.tries = ended.Spec.Command // it binds itself: what is wrong is which address, and only so that is seen
	}
	if ended != nil && ended.Ahead && s.coldAfter(ended, exit) {
		return
	}
	if s.ended != nil {
		exit, ended, s.ended = *s.ended, nil, nil
	}
	switch {
	case s.again || s.later != "" || s.anew != "":
		s.start(generation.Event{})
	case exit.Reason == ends.ReasonIdle:
		s.rest(s.spec.IdleStop > 0)
	case exit.Reason == ends.ReasonRestart && s.flashes < mostFlashes:
		s.rest(s.spec.WaitAfterExit0)
	case exit.Reason == ends.ReasonHung && s.failures < promptRestarts:
		s.failures++
		s.start(generation.Event{})
	case exit.Reason == ends.ReasonUnready:
		s.afterFailure(exit)
	case ended != nil && ended.MayBind(&exit):
		s.try(ended)
		s.start(generation.Event{})
	default:
		s.problem = fmt.Sprintf("generation %d ended: %s", exit.Generation, exit)
		if exit.Detail != "" {
			s.problem += ": " + exit.Detail
		}
		s.afterFailure(exit)
	}
}

// start starts the next generation.
func (s *Supervisor) start(generation.Event) {
	if s.leaving != nil && !s.spec.Handover {
		s.awaitLeaving()
		return
	}
	if s.prepared != nil && s.prepared.Spec.Edition != s.spec.Edition {
		s.discard()
	}
	s.number++
	s.lives++
	s.again, s.later, s.anew, s.now = false, "", "", false
	s.enter(running, 0)
	g := s.prepared
	if g == nil {
		g = s.following(s.number)
		g.Elder = s.leaving // which may have other ports still
	}
	s.prepared, s.tries = nil, nil
	g.Served = s.worked(g)
	err := s.spec.Queues.Restore() // nobody serves
	if err == nil {
		err = g.Start()
	}
	if err != nil {
		s.afterEnd(generation.Event{Exit: ends.Exit{Generation: s.number, Code: -1, Reason: ends.ReasonCrash, At: time.Now(), Detail: err.Error()}})
		return
	}
	s.coming = g
	s.log.Info("worker started", g.Told("handoff", g.Handoff.Kind())...)
}

// awaitLeaving has the next generation start when the one that leaves has gone, with all its processes: it may be alone only.
func (s *Supervisor) awaitLeaving() {
	s.again = true
	s.log.Warn("the next generation waits for the one that leaves (restart.mode)", "leaving", s.leaving.Number)
	s.enter(backingOff, 0)
}

// awaitsLeaving reports whether the next generation is to start as soon as the one that leaves has gone.
func (s *Supervisor) awaitsLeaving() bool {
	return s.phase == backingOff && s.again && s.leaving != nil
}

// shownProblem is why no generation serves, and what the next one waits for.
func (s *Supervisor) shownProblem() string {
	if !s.awaitsLeaving() {
		return s.problem
	}
	waits := fmt.Sprintf("the next generation starts when generation %d has finished its work (restart.mode: exclusive); %s --now ends that", s.leaving.Number, s.options.Restart)
	if s.problem == "" {
		return waits
	}
	return s.problem + "; " + waits
}

// worked reports whether an earlier generation with the same command was ready.
func (s *Supervisor) worked(g *generation.Generation) bool {
	return s.good != nil && slices.Equal(s.good.Command, g.Spec.Command)
}

// promote is the last step: the generation that was coming serves.
func (s *Supervisor) promote(generation.Event) {
	g := s.coming
	s.serving, s.coming = g, nil
	s.problem = ""
	if !s.silent.IsZero() {
		g.Stall, s.silent = time.Since(s.silent), time.Time{}
	}
	// Not the generation's own, which an Apply without restart has left behind.
	good := s.spec
	s.good = &good
	if g.Ahead {
		s.spoiled, s.cold = 0, ""
	}
	s.unprove()
	proof := s.proof()
	g.SetLimit(proof)
	g.WatchIdle(s.spec.IdleStop)
	g.WatchAlive(s.spec.Alive)
	if proof == 0 {
		s.settle(generation.Event{})
	} else if s.spec.Backoff.ResetAfter == 0 {
		s.resetFailures()
	}
	if g.Cache != "" && s.options.Cached != nil {
		s.options.Cached(g.Part)
	}
	s.log.Info("worker ready", g.Told("after_ms", g.ReadyAfter.Milliseconds())...)
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
	s.silent = time.Time{}
	queues := s.spec.Queues
	s.unwatch = s.around.Watch(generation.Event{Kind: generation.ClientWaits}, func(ctx context.Context) bool {
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
		s.start(generation.Event{})
	case s.options.ExitIdle && s.leaving == nil:
		s.replyToWaiters(nil)
		s.why = ends.ReasonIdle
		s.finish(generation.Event{})
	default:
		s.replyToWaiters(nil)
		s.wait()
	}
}

// prepareFailure is told that a generation cannot serve, and ends. What follows is decided
// by then: who waits is told, and who asks while it ends asks for the next one.
func (s *Supervisor) prepareFailure(e generation.Event) {
	if s.awaited() || s.coming != nil && s.coming.Ahead {
		return // which follows, or one that begins cold does
	}
	s.problem = fmt.Sprintf("generation %d: %v", s.number, e.Err)
	if s.coming != nil && s.coming.MayBind(nil) {
		s.try(s.coming)
		s.again = true
		return
	}
	if s.untried() {
		s.rollBack()
		s.again = true
		return
	}
	s.replyToWaiters(errors.New(s.problem))
}

// try has the next generation of this command get the sockets by intercept, whatever that costs.
func (s *Supervisor) try(g *generation.Generation) {
	s.tries = g.Spec.Command
	s.log.Warn("worker has listened on no held address: the next generation gets the sockets when it binds that itself, by intercept", "generation", s.number)
}

// learn remembers the command of a worker that serves because it got the sockets so. It may tell after it has become ready.
func (s *Supervisor) learn() {
	g := s.serving
	if g == nil || !g.Binds || !g.Bound || slices.Equal(s.binds, g.Spec.Command) {
		return
	}
	s.binds = g.Spec.Command
	if s.options.Bound != nil {
		s.options.Bound(s.binds)
	}
}

// afterFailure decides what follows a generation that failed.
func (s *Supervisor) afterFailure(exit ends.Exit) {
	if s.untried() {
		s.rollBack()
		s.start(generation.Event{})
		return
	}
	s.failures++
	fatal := exit.Reason == ends.ReasonCrash && slices.Contains(s.spec.FatalExitCodes, exit.Code)
	if fatal {
		s.problem += fmt.Sprintf(" (in restart.fatal_exit_codes: no retry until the config changes or somebody runs %s)", s.options.Restart)
	}
	s.replyToWaiters(errors.New(s.problem))
	if fatal {
		s.enter(failed, 0)
		s.updateDesk()
		s.log.Error("worker failed for good", "generation", s.number, "exit", exit.String())
		return
	}
	pause := s.pause()
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

// pause is how long the next generation waits after a failure. The timer of a state without a limit never fires.
func (s *Supervisor) pause() time.Duration {
	return max(1, min(s.backoff.NextBackOff(), s.spec.Backoff.Max))
}

// resetFailures breaks the row of failures: the generation has served for long
// enough.
func (s *Supervisor) resetFailures() {
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
func (s *Supervisor) showProblem(e generation.Event) { s.problem = e.Text }

// stop ends all generations because the launcher ends.
func (s *Supervisor) stop(generation.Event) {
	s.enter(ending, 0)
	for _, g := range s.living() {
		g.Handle(generation.Event{Kind: generation.StopAsked, Reason: ends.ReasonStop})
	}
	s.finishAlone()
}

// hurry is for a generation that is ending, and for the one that will be when its successor stands at the gate.
func (s *Supervisor) hurry(e generation.Event) {
	s.now = s.awaited() || s.later != ""
	for _, g := range s.living() {
		g.Handle(e)
	}
}

// forget empties the slot of a generation that has gone.
func (s *Supervisor) forget(number int) {
	for _, slot := range []**generation.Generation{&s.leaving, &s.serving, &s.coming} {
		if *slot != nil && (*slot).Number == number {
			*slot = nil
		}
	}
}

func (s *Supervisor) finishAlone() {
	if len(s.living()) == 0 {
		s.finish(generation.Event{})
	}
}

func (s *Supervisor) finish(generation.Event) {
	s.discard()
	s.enter(stopped, 0)
}

func (s *Supervisor) record(exit ends.Exit) {
	if !exit.Successor || exit.Reason == ends.ReasonCrash || exit.Reason == ends.ReasonOOM || exit.Reason == ends.ReasonUnready {
		s.last = &exit // else it was thrown away, and nothing ended that anybody had
	}
	switch {
	case exit.Successor: // it was never ready
	case exit.Reason != ends.ReasonRestart || exit.Lived-exit.ReadyAfter >= cmp.Or(s.options.flash, defaultFlash):
		s.flashes = 0
	default:
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
