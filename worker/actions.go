package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sys/unix"

	"openclaw-gateway/worker/handoff"
)

// jitter spreads each backoff by this part of it to either side.
const jitter = 0.2

// promptRestarts is how many failures in a row still leave a worker that ends
// with exit code 0 its restart without backoff: it asked for one.
const promptRestarts = 3

// deskPause is the longest wait for the next generation that clients spend in
// the queue; for a longer one the front desk opens.
const deskPause = 2 * time.Second

// defaultDesertion is how long a worker may live on without a listener that it
// had: a server that restarts within its process listens again.
const defaultDesertion = 10 * time.Second

// enter changes the state; after limit, if it is not 0, timeUp comes.
func (s *Supervisor) enter(state State, limit time.Duration) {
	s.closeDesk()
	s.unwatch()
	s.unwatch, s.patience = func() {}, 0
	s.state, s.since, s.nextAt = state, time.Now(), time.Time{}
	s.timer.Stop()
	if limit > 0 {
		s.timer.Reset(limit)
	}
}

// wait waits for the first client.
func (s *Supervisor) wait() {
	s.enter(Waiting, 0)
	ctx, cancel := context.WithCancel(context.Background())
	s.unwatch = cancel
	queues := s.spec.Queues
	s.watches.Go(func() {
		err := queues.AwaitClient(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			// Better a worker that nobody needs yet than clients that nobody serves.
			s.log.Error("cannot notice a waiting client, starting the worker now", "error", err)
		}
		select {
		case s.events <- event{kind: clientWaits}:
		case <-ctx.Done():
		}
	})
}

// start starts the next generation.
func (s *Supervisor) start(event) {
	s.number++
	s.enter(Starting, s.spec.ReadyTimeout)
	generation, err := newGeneration(s.number, s.spec, s.options, s.trees, s.spawn, s.events)
	if err != nil {
		s.present = nil
		s.crashed(event{exit: Exit{Generation: s.number, Code: -1, At: time.Now(), Detail: err.Error()}})
		return
	}
	s.present = generation
	s.log.Info("worker started", "generation", s.number, "worker_pid", generation.process.Pid, "handoff", generation.handoff.Kind())
}

func (s *Supervisor) serveClients(e event) {
	if e.adopted && !s.present.listensEverywhere() {
		// It only tried whether its address is free, and has let go of it.
		s.present.released = true
		return
	}
	s.lengthenQueues()
	s.present.endProbes()
	s.problem = ""
	// Not the generation's own, which an Apply without restart has left behind.
	good := s.spec
	s.good = &good
	s.enter(Ready, s.spec.Backoff.ResetAfter)
	s.readyAt = s.since
	s.watchDesertion()
	s.tendIdle()
	if s.spec.Backoff.ResetAfter == 0 {
		s.proven(event{})
	}
	s.log.Info("worker ready", "generation", s.number, "worker_pid", s.present.process.Pid,
		"after_ms", s.readyAt.Sub(s.present.started).Milliseconds())
	s.settle(nil)
}

// lengthenQueues gives the sockets their full backlog again: Node.js shrinks it
// by listening with one of its own.
func (s *Supervisor) lengthenQueues() {
	if err := s.present.spec.Queues.Listen(); err != nil {
		s.log.Error("cannot give the sockets their full backlog again", "error", err)
	}
}

func (s *Supervisor) note(e event) {
	before := len(s.present.elsewhere)
	again := slices.Contains(s.present.closed, e.report.Address)
	if err := s.present.note(e.report); err != nil {
		s.giveUp(event{err: err})
		return
	}
	if s.state == Starting && s.present.released && s.present.listensEverywhere() {
		s.serveClients(event{})
		return
	}
	if s.state == Ready && e.report.Event == handoff.Listening && e.report.Held {
		s.lengthenQueues()
		if again {
			s.log.Info("worker listens again", "generation", s.number, "worker_pid", s.present.process.Pid, "address", e.report.Address)
		}
	}
	s.watchDesertion()
	if len(s.present.elsewhere) > before && s.state == Starting && len(s.present.listening) == 0 {
		s.problem = s.present.explain(nil)
		s.log.Info("worker listens on another address", "generation", s.number, "address", e.report.Address)
	}
}

// watchDesertion sees to it that a worker which has closed a listener does not
// live on without it for long.
func (s *Supervisor) watchDesertion() {
	g := s.present
	switch {
	case s.state != Ready:
	case len(g.closed) == 0 && g.deserted != nil:
		g.deserted.Stop()
		g.deserted = nil
	case len(g.closed) > 0 && g.deserted == nil:
		s.log.Warn("worker has closed a listener", "generation", s.number, "worker_pid", g.process.Pid, "address", join(g.closed))
		patience := cmp.Or(s.options.desertion, defaultDesertion)
		lost := event{kind: lost, generation: g.number, err: fmt.Errorf(
			"it has closed its listener on %s and has not listened again for %s", join(g.closed), patience)}
		g.deserted = time.AfterFunc(patience, func() {
			select {
			case s.events <- lost:
			case <-g.over:
			}
		})
	}
}

// tendIdle has the event idled come when no client was connected to a ready
// worker for as long as the spec says. A change of that time starts it anew.
func (s *Supervisor) tendIdle() {
	if s.state != Ready || s.patience == s.spec.IdleStop {
		return
	}
	s.unwatch()
	s.unwatch, s.patience = func() {}, s.spec.IdleStop
	if s.patience == 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s.unwatch = func() {
		cancel()
		// What it still might send would be of no use any more.
		<-done
	}
	g, patience := s.present, s.patience
	s.watches.Go(func() {
		defer close(done)
		// One of the launcher's own requests would be taken for a client's.
		select {
		case <-g.probesEnd:
		case <-ctx.Done():
			return
		}
		err := g.spec.Queues.AwaitIdle(ctx, patience, g.own.from())
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.log.Error("the worker is not stopped when nobody needs it (worker.idle_stop)", "generation", g.number, "error", err)
			return
		}
		select {
		case s.events <- event{kind: idled, generation: g.number}:
		case <-ctx.Done():
		}
	})
}

// dismiss ends a generation that nobody needs.
func (s *Supervisor) dismiss(event) {
	s.log.Info("nobody has been connected to the worker (worker.idle_stop)", "generation", s.number, "for", s.patience)
	s.end(ReasonIdle, "", (*Supervisor).rest)
}

// rest is what follows a generation that nobody needed: nothing, until the next
// client comes.
func (s *Supervisor) rest(event) {
	queued, err := s.spec.Queues.Queued()
	switch {
	case err != nil || queued > 0 || s.spec.IdleStop == 0:
		// Somebody has come meanwhile, or it is to run although nobody comes.
		s.start(event{})
	case s.options.ExitIdle:
		s.settle(nil)
		s.outcome = ReasonIdle
		s.finish(event{})
	default:
		s.settle(nil)
		s.wait()
	}
}

func (s *Supervisor) noteProbe(e event) {
	s.present.probed = e.text
	s.log.Debug("worker is not ready yet", "generation", s.number, "probe", e.text)
}

// proven breaks the row of failures: the generation has served for long enough.
func (s *Supervisor) proven(event) {
	s.failures = 0
	s.backoff.Reset()
}

// tooLate ends a generation that did not become ready in time.
func (s *Supervisor) tooLate(event) {
	var listens []netip.AddrPort
	if s.options.ListensOn != nil {
		held := addresses(s.present.spec.Sockets)
		listens = slices.DeleteFunc(s.options.ListensOn(s.present.process.Pid), func(address netip.AddrPort) bool {
			return slices.Contains(held, address)
		})
	}
	s.giveUp(event{err: fmt.Errorf("not ready after %s (ready.timeout): %s", s.present.spec.ReadyTimeout, s.present.explain(listens))})
}

// giveUp ends a generation that cannot serve. What follows is decided by then: who
// waits is told, and who asks while it ends asks for the next one.
func (s *Supervisor) giveUp(e event) {
	s.problem = fmt.Sprintf("generation %d: %v", s.number, e.err)
	s.log.Error("worker does not serve", "generation", s.number, "worker_pid", s.present.process.Pid, "error", e.err)
	next := (*Supervisor).failed
	if s.unproven() {
		s.rollBack()
		next = (*Supervisor).start
	} else {
		s.settle(errors.New(s.problem))
	}
	s.end(ReasonUnready, e.err.Error(), next)
}

// replace ends the generation for the next one.
func (s *Supervisor) replace(e event) {
	s.end(e.exit.Reason, "", (*Supervisor).start)
}

// halt ends the generation because the launcher ends.
func (s *Supervisor) halt(event) {
	s.end(ReasonStop, "", (*Supervisor).finish)
}

func (s *Supervisor) end(why Reason, detail string, next action) {
	s.present.why, s.present.detail = why, detail
	s.next = next
	s.present.cancel(nil)
	s.enter(Stopping, s.present.spec.StopTimeout)
	signal := s.present.spec.StopSignal
	select {
	case <-s.present.executed:
	default:
		// Still the shim, which has nothing to put in order and might swallow
		// another signal.
		signal = unix.SIGKILL
	}
	s.log.Info("stopping the worker", "generation", s.number, "worker_pid", s.present.process.Pid, "reason", why,
		"signal", signalName(signal))
	if err := s.present.process.Signal(signal); err != nil {
		s.log.Debug("the worker has ended already", "generation", s.number, "error", err)
	}
}

func (s *Supervisor) startNext(event) {
	// A launcher that ends starts nothing any more.
	if s.present.why != ReasonStop {
		s.next = (*Supervisor).start
	}
}

func (s *Supervisor) finishNext(event) {
	s.present.why = ReasonStop
	s.next = (*Supervisor).finish
}

func (s *Supervisor) kill(event) {
	s.log.Warn("the worker has not ended in its time, killing it", "generation", s.number,
		"worker_pid", s.present.process.Pid, "stop_timeout", s.present.spec.StopTimeout)
	if err := s.present.process.Kill(); err != nil {
		s.log.Debug("the worker has ended already", "generation", s.number, "error", err)
	}
}

// gone is the end of a generation that was told to end.
func (s *Supervisor) gone(e event) {
	exit := e.exit
	exit.Reason, exit.Detail = s.present.why, s.present.detail
	s.record(exit)
	next := s.next
	next(s, event{exit: exit})
}

// crashed is the end of a generation that nobody told to end.
func (s *Supervisor) crashed(e event) {
	exit, served := e.exit, s.state == Ready
	exit.Reason = ReasonCrash
	asked := exit.Code == 0 && served
	if asked {
		exit.Reason, exit.Detail = ReasonRestart, "the worker itself asked for the restart, or somebody else told it to end"
	}
	if exit.Detail == "" && !served && s.present != nil && s.present.clash.IsValid() {
		exit.Detail = s.present.explain(nil)
	}
	s.record(exit)
	if asked && s.failures < promptRestarts {
		s.failures++
		s.start(event{})
		return
	}
	s.problem = fmt.Sprintf("generation %d ended: %s", exit.Generation, exit)
	if exit.Detail != "" {
		s.problem += ": " + exit.Detail
	}
	s.failed(event{exit: exit})
}

// failed decides what follows a generation that failed.
func (s *Supervisor) failed(e event) {
	if s.unproven() {
		s.rollBack()
		s.start(event{})
		return
	}
	s.failures++
	fatal := e.exit.Reason == ReasonCrash && slices.Contains(s.spec.FatalExitCodes, e.exit.Code)
	if fatal {
		s.problem += " (in restart.fatal_exit_codes: no retry until the config changes or somebody runs gateway restart)"
	}
	s.settle(errors.New(s.problem))
	if fatal {
		s.enter(Failed, 0)
		s.tendDesk()
		s.log.Error("worker failed for good", "generation", s.number, "exit", e.exit.String())
		return
	}
	// The timer of a state without a limit never fires.
	pause := max(1, min(s.backoff.NextBackOff(), s.spec.Backoff.Max))
	s.enter(BackingOff, pause)
	s.nextAt = s.since.Add(pause)
	s.tendDesk()
	s.log.Warn("worker failed, next generation after a pause", "generation", s.number, "exit", e.exit.String(),
		"failures_in_a_row", s.failures, "pause", pause.Round(time.Millisecond))
}

// unproven reports whether the next generation should be made from another spec
// than the last one did that is known to work.
func (s *Supervisor) unproven() bool {
	return s.good != nil && s.good.Edition != s.spec.Edition
}

// rollBack goes back to the last spec that worked: the generation that failed was
// the first of a new one.
func (s *Supervisor) rollBack() {
	s.rolled, s.reason = s.spec.Edition, s.problem
	s.settle(fmt.Errorf("%s; the last configuration that worked comes back", s.problem))
	s.log.Error("the new configuration does not work, going back to the last one that did", "generation", s.number, "error", s.problem)
	s.spec = *s.good
	s.problem = ""
	s.resetBackoff()
}

// tendDesk has the clients answered, until the state changes, where the next
// generation is a long way off and the spec wants it.
func (s *Supervisor) tendDesk() {
	wanted := s.spec.FrontDesk && (s.state == Failed || s.nextAt.Sub(s.since) > deskPause)
	switch {
	case wanted && s.shut == nil && s.options.OpenDesk != nil:
		// The first client is answered at once, with what is known by then.
		s.publish()
		s.shut = s.options.OpenDesk()
	case !wanted:
		s.closeDesk()
	}
}

func (s *Supervisor) closeDesk() {
	if s.shut != nil {
		s.shut()
		s.shut = nil
	}
}

func (s *Supervisor) finish(event) { s.enter(Stopped, 0) }

func (s *Supervisor) record(exit Exit) {
	// readyAt is the last generation's that became ready.
	if g := s.present; g != nil && s.readyAt.After(g.started) {
		exit.ReadyAfter = s.readyAt.Sub(g.started)
	}
	s.present = nil
	s.last = &exit
	if s.options.Ended != nil {
		s.options.Ended(exit)
	}
	told := []any{
		"generation", exit.Generation, "exit", exit.String(), "reason", exit.Reason,
		"lived_ms", exit.Lived.Milliseconds(), "strays", len(exit.Strays),
	}
	if exit.Detail != "" {
		told = append(told, "detail", exit.Detail)
	}
	s.log.Info("worker ended", told...)
	report(s.log, "the worker left processes, which were killed", exit.Generation, exit.Strays)
}

func (s *Supervisor) resetBackoff() {
	s.backoff = backoff.NewExponentialBackOff()
	s.backoff.InitialInterval, s.backoff.MaxInterval = s.spec.Backoff.Min, s.spec.Backoff.Max
	s.backoff.Multiplier, s.backoff.RandomizationFactor = 2, jitter
	s.backoff.Reset()
}

func signalName(signal unix.Signal) string {
	if name := unix.SignalName(signal); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(signal))
}
