package worker

import (
	"context"
	"errors"
	"log/slog"
	"os/exec"
	"time"

	"github.com/cenkalti/backoff/v5"

	"openclaw-gateway/clock"
	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/generation"
	"openclaw-gateway/worker/spawn"
	"openclaw-gateway/worker/tree"
)

// Options are what a supervisor needs besides the spec.
type Options struct {
	generation.Options

	// Directory is the launcher's runtime directory, an absolute path that
	// nobody but the launcher's user can write to.
	Directory string
	// Cached is called when a worker serves that was told where to keep what it compiles (Cache), with the name of the part of that
	// which it has for its own, "" where that is not known; it must not block. nil: nobody cares.
	Cached func(part string)
	// Alone says that this process has no other business than the worker: every
	// process that comes to be below it is the worker's unless Exec has started it,
	// it inherits the worker's orphans, and all of them end with their generation. As PID 1 it inherits everybody's, and only
	// those do that show that they are the worker's.
	Alone bool
	// HasSocket is as in [tree.Trees].
	HasSocket func(pid int) bool
	// AtOnce starts the first generation without waiting for a client.
	AtOnce bool
	// ExitIdle says what follows when a worker was stopped because nobody needed it
	// (Spec.IdleStop, Spec.WaitAfterExit0) and nobody waits: Run returns, and somebody else has to
	// start everything again for the next client. Otherwise the supervisor waits
	// for that itself.
	ExitIdle bool
	// Good is a spec that has worked before, in an earlier life of the launcher;
	// nil: none is known.
	Good *generation.Spec
	// Binds is a command that is known, from an earlier life of the launcher, to bind its address itself, so that its worker gets
	// intercept beside what handoff.Auto comes to; Bound is called when one is found out.
	Binds []string
	Bound func(command []string)
	// Spawn is the process's first thread ([spawn.Here]); nil: one of its own, and it cannot become another program.
	Spawn spawn.Spawner
	// Resume is what an earlier program of this process has passed on; nil: nothing. RolledBack is the edition that it had rolled back
	// then, and Lost is told that it cannot be taken up: the process has to end, and all that is below it.
	Resume     *Saved
	RolledBack int
	Lost       func(error)
	// Known is the number of the last generation of an earlier launcher; 0: none is known.
	Known int
	// Observe is called with each change, by the goroutine that owns the
	// state: it must not block.
	Observe func(Status)
	// Ended is called with the end of each generation, as Observe is.
	Ended func(ends.Exit)
	// OpenDesk opens the front desk, which accepts clients and answers them until
	// what it returns is called; that returns when it accepts no more.
	OpenDesk func() (closeDesk func())
	// Heartbeat is called at this interval by the goroutine that owns the
	// state, to prove that it is alive. 0: never.
	Heartbeat      func()
	HeartbeatEvery time.Duration

	flash   time.Duration    // 0: defaultFlash
	cramped func(int) string // nil: Trees.Cramped
}

// Supervisor runs one generation of the worker after the other.
type Supervisor struct {
	requests chan request
	holds    chan *hold
	done     chan struct{} // closed when Run has returned
	reaper   *tree.Reaper  // nil unless Alone

	// Owned by the goroutine of Run, but events, on which it listens.
	around  generation.Surroundings
	options Options
	log     *slog.Logger
	spec    generation.Spec
	good    *generation.Spec // the last one whose worker became ready
	phase   phase
	since   time.Time // when it was entered
	timer   *time.Timer
	// serving is the generation that has become ready, coming the one that has not
	// yet; succession.go is how the one follows the other.
	serving   *generation.Generation
	coming    *generation.Generation
	leaving   *generation.Generation // has let go of the sockets for the coming one, and finishes what it has accepted
	prepared  *generation.Generation // for the one that serves to be replaced; nil while that is not asked
	number    int                    // of the last generation
	again     bool                   // the next generation starts when the present one has ended
	tries     []string               // that command gets intercept then, because it may be one that binds its address itself
	binds     []string               // the command that is known to do so
	later     ends.Reason            // it is to be replaced when what is leaving has gone; "": it is not
	anew      ends.Reason            // another successor starts when the one that is being thrown away has gone; "": none does
	asked     ends.Reason            // why there is a successor
	cold      string                 // why the last one that was to load its modules ahead has not; "": it has
	spoiled   int                    // how many in a row have failed that had
	spent     string                 // the key of their program
	now       bool                   // the serving one is not waited for when its successor stands at the gate
	backoff   *backoff.ExponentialBackOff
	proven    bool       // the serving one has been ready for reset_after
	noStandby error      // why there is no standby although there is to be one; nil: there is, or may be
	ended     *ends.Exit // of the one that served, while the standby that does not follow it is thrown away
	silent    time.Time  // since when nobody has served who was to; zero: somebody does
	lives     int        // so many generations have had the sockets, or were to
	failures  int
	flashes   int // generations in a row that ended by themselves as soon as they were ready
	last      *ends.Exit
	problem   string
	rolled    int    // edition of the spec that was rolled back
	reason    string // and why
	nextAt    time.Time
	waiters   []chan<- error   // who is to be told what comes of a start
	replies   []reply          // for those who are told with the next publish
	unwatch   func()           // ends the wait for a client
	shut      func()           // closes the front desk; nil when it is closed
	why       ends.Reason      // Run returns
	cramped   func(int) string // why memory has no room for another one like that generation
	holding   *hold            // nil: nobody wishes that everything stands still
	seen      Status           // what Observe was called with last
}

type request struct {
	spec    *generation.Spec // nil: as it is
	restart bool
	now     bool // without waiting for the end of the present generation
	reply   chan<- error
}

// reply is what somebody is told who has waited.
type reply struct {
	to  chan<- error
	err error
}

// New returns a supervisor that does nothing until Run.
func New(spec generation.Spec, options Options) *Supervisor {
	s := &Supervisor{
		requests: make(chan request), holds: make(chan *hold), done: make(chan struct{}),
		around: generation.Surroundings{Options: options.Options, Events: make(chan generation.Event)}, options: options,
		log: options.Log, spec: spec, good: options.Good, binds: options.Binds, number: options.Known, timer: time.NewTimer(0), unwatch: func() {}, why: ends.ReasonStop,
	}
	s.timer.Stop()
	if options.Alone {
		s.reaper = tree.NewReaper()
	}
	s.around.Trees = tree.New(s.log, s.reaper, options.Directory)
	s.around.Trees.HasSocket = options.HasSocket
	if s.cramped = options.cramped; s.cramped == nil {
		s.cramped = s.around.Trees.Cramped
	}
	return s
}

// Exec runs a command that is not the worker's, beside its generations, and returns
// when all that it has started has ended: at the latest when the context is done,
// which kills it. What systemd has told the launcher alone is not in its environment.
func (s *Supervisor) Exec(ctx context.Context, cmd *exec.Cmd) error {
	return s.around.Trees.Run(ctx, cmd)
}

// ErrStopping says that the launcher ends, so that nothing is started any more.
var ErrStopping = errors.New("the launcher is stopping")

// Restart starts the next generation; now kills the present one, if it is there, right behind its stop signal, and also
// where it is being stopped already. What it returns yields nil when the next one is ready, or the reason why it is not, once.
func (s *Supervisor) Restart(now bool) <-chan error {
	return s.ask(request{restart: true, now: now})
}

// Apply makes spec what the next generation is made from. With restart that
// generation starts now, unless the supervisor waits for a first client; without,
// the spec has to ask for the same worker as before in other circumstances, and it
// starts now only where a generation has failed for good. The outcome comes
// as with Restart. Of two calls the later one counts. A spec that is refused
// changes nothing, and its reason is the outcome.
func (s *Supervisor) Apply(spec generation.Spec, restart bool) <-chan error {
	return s.ask(request{spec: &spec, restart: restart})
}

func (s *Supervisor) ask(r request) <-chan error {
	reply := make(chan error, 1)
	r.reply = reply
	select {
	case s.requests <- r:
	case <-s.done:
		reply <- ErrStopping
	}
	return reply
}

// Run supervises until the context is done; then it stops the worker and
// returns ReasonStop when nothing of it is left. A receive from hurry meanwhile
// ends the worker without waiting for its stop.timeout. With Options.ExitIdle it
// returns ReasonIdle as soon as a worker was stopped that nobody needs.
func (s *Supervisor) Run(ctx context.Context, hurry <-chan struct{}) ends.Reason {
	defer close(s.done)
	spawning, end := context.WithCancel(context.Background())
	defer end()
	if s.around.Spawn = s.options.Spawn; s.around.Spawn == nil {
		s.around.Spawn = spawn.New(spawning)
	}
	if s.options.Resume != nil {
		s.prepareResume(s.options.Resume)
	}
	if s.reaper != nil {
		s.reaper.Inherit(spawning, s.log)
	}
	s.around.Trees.Enter()
	s.resetBackoff()
	var heartbeat <-chan struct{}
	if s.options.HeartbeatEvery > 0 {
		due, end := clock.Beat(s.options.HeartbeatEvery)
		defer end()
		heartbeat = due
	}
	stop := ctx.Done()
	var hurried <-chan struct{} // of no meaning before
	s.begin()
	for s.phase != stopped {
		s.publish()
		s.quieten()
		select {
		case e := <-s.around.Events:
			s.dispatch(e)
		case r := <-s.requests:
			s.take(r)
		case h := <-s.holds:
			s.takeHold(h)
		case stood := <-s.holding.stands():
			s.beStill(stood)
		case <-s.holding.given():
			s.giveUp()
		case <-s.timer.C:
			s.handle(generation.Event{Kind: generation.TimeUp})
		case <-s.serving.Limit():
			s.serving.Handle(generation.Event{Kind: generation.TimeUp})
		case <-s.coming.Limit():
			s.coming.Handle(generation.Event{Kind: generation.TimeUp})
		case <-s.leaving.Limit():
			s.leaving.Handle(generation.Event{Kind: generation.TimeUp})
		case <-stop:
			stop, hurried = nil, hurry // once
			s.handle(generation.Event{Kind: generation.StopAsked})
		case <-hurried:
			s.handle(generation.Event{Kind: generation.HurryAsked})
		case <-heartbeat:
			s.options.Heartbeat()
		}
	}
	s.replyToWaiters(ErrStopping)
	s.publish()
	if s.holding != nil {
		s.endHold(ErrStopping)
	}
	return s.why
}

func (s *Supervisor) begin() {
	if saved := s.options.Resume; saved != nil {
		if err := s.resume(saved); err != nil {
			s.options.Lost(err)
		}
		return
	}
	switch {
	case s.spec.Refused != nil:
		s.problem = s.spec.Refused.Error()
		s.enter(failed, 0)
		s.updateDesk()
	case s.options.AtOnce:
		s.start(generation.Event{})
	default:
		s.wait()
	}
}

// dispatch gives an event to the machine that it is for. One of a generation that
// has gone is for nobody.
func (s *Supervisor) dispatch(e generation.Event) {
	if e.Generation == 0 {
		s.handle(e)
		return
	}
	for _, g := range s.living() {
		if g.Number == e.Generation {
			g.Handle(e)
			s.relieve()
			if e.Kind == generation.Reported && s.noStandby == nil {
				s.standBy() // nothing listened, perhaps, when it was proven
			}
			return
		}
	}
}

// take takes a request of somebody who waits for what comes of it.
func (s *Supervisor) take(r request) {
	reason, next := ends.ReasonRestart, &s.spec
	if r.spec != nil {
		reason, next = ends.ReasonConfig, r.spec
	}
	if next.Refused != nil {
		s.reply(r.reply, next.Refused)
		return
	}
	if r.spec != nil && !s.apply(r) {
		return
	}
	s.waiters = append(s.waiters, r.reply)
	s.failures, s.flashes = 0, 0
	s.problem = ""
	s.backoff.Reset()
	s.handle(generation.Event{Kind: generation.RestartAsked, Reason: reason})
	if r.now {
		s.handle(generation.Event{Kind: generation.HurryAsked})
	}
}

// apply takes a spec in, and reports whether it needs a generation of its own now.
func (s *Supervisor) apply(r request) (restart bool) {
	// The comparison may be out of date: a rollback came between.
	restart = r.restart || (r.spec.After != 0 && r.spec.After != s.spec.Edition)
	if !restart && s.good != nil && s.good.Edition == s.spec.Edition {
		// The same worker, with other circumstances.
		s.good = r.spec
	}
	s.spec = *r.spec
	s.rolled, s.reason = 0, ""
	s.resetBackoff()
	switch {
	case s.phase == waiting:
		// It has nothing to restart: the first client gets the new worker.
		s.wait()
	case restart || s.phase == failed:
		return true
	case s.phase == ending || s.phase == running && (s.coming != nil && !s.standsBy() || s.serving == nil || s.serving.Stage != generation.Ready):
		// Its worker is still on its way.
		s.waiters = append(s.waiters, r.reply)
		return false
	case s.awaitsLeaving() && s.spec.Handover: // two there may be now
		s.start(generation.Event{})
		s.waiters = append(s.waiters, r.reply)
		return false
	default:
		s.updateDesk()
		if s.serving != nil {
			s.serving.WatchIdle(s.spec.IdleStop)
			s.serving.WatchAlive(s.spec.Alive)
			s.changeStandby()
		}
	}
	s.reply(r.reply, nil)
	return false
}

// replyToWaiters tells everybody who waits what has come of the start.
func (s *Supervisor) replyToWaiters(err error) {
	for _, waiter := range s.waiters {
		s.reply(waiter, err)
	}
	s.waiters = nil
}

// reply tells somebody what has come of a request, when the status that shows it has
// been published: who looks right behind it must find it.
func (s *Supervisor) reply(to chan<- error, err error) {
	s.replies = append(s.replies, reply{to, err})
}

// publish tells everybody what there is to know: first those who observe, then those
// who wait.
func (s *Supervisor) publish() {
	s.learn()
	s.observe()
	for _, reply := range s.replies {
		reply.to <- reply.err
	}
	s.replies = nil
}

func (s *Supervisor) observe() {
	shown := s.state()
	status := Status{
		State: shown, Generation: s.number, Since: s.since, Restarts: max(0, s.lives-1), Failures: s.failures,
		LastExit: s.last, NextStart: s.nextAt, Until: s.nextAt, QueueLimit: s.spec.Alive.Queue, FrontDesk: s.wantsDesk(), Problem: s.shownProblem(),
		Edition: s.spec.Edition, RolledBack: s.rolled, RollbackReason: s.reason,
	}
	status.Successor, status.Leaving = s.besides()
	if s.spec.Prewarm {
		status.Cold = s.cold
	}
	if s.noStandby != nil {
		status.NoStandby = s.noStandby.Error()
	}
	if status.Successor.Generation != 0 && s.good != nil {
		status.Edition = s.good.Edition // of the one that serves
	}
	if g := s.present(); g != nil {
		status.Generation, status.Until = g.Number, g.Until
		status.GateAfter, status.ReleasedAfter, status.Released = g.GateAfter, g.ReleasedAfter(), g.Released
		status.Stall = g.Stall
		status.PID, status.Handoff, status.Started, status.Since = g.Process.Pid, g.Kind(), g.Started, g.Since
		status.OpenClaw, status.Cached, status.Uncached, status.Prewarmed = g.OpenClaw, g.Cached, g.Uncached, g.Prewarmed()
		switch shown {
		case Ready:
			status.ReadyAfter, status.Apart = g.ReadyAfter, s.apart(g)
			if s.spec.Standby && status.NoStandby == "" {
				status.NoStandby = status.Apart
			}
			if g.Stage == generation.Ready {
				status.Until = time.Time{} // the timer is not of the state
			}
			status.Unserved, status.Warning, status.Deprived, status.Blind, status.Mute = g.Unserved, g.Warning, g.Deprived, g.Blind, g.Mute
			if len(g.Hung) > 0 {
				status.Hung = g.Hung[0]
			}
			status.Says = g.Says
		case Starting:
			status.Said, status.Says = g.Probed, g.Says
		case Stopping:
			status.Ending = g.Why
		}
	}
	if status != s.seen {
		s.seen = status
		s.options.Observe(status)
	}
}

// state is that of the supervisor, or of its generation if there is one.
func (s *Supervisor) state() State {
	if s.phase == running || s.phase == ending {
		g := s.present()
		if s.phase == running && g.Stage == generation.Stopping && s.awaited() && !g.HasLetGo() && !s.coming.Ahead && (g.Why == ends.ReasonRestart || g.Why == ends.ReasonConfig) {
			return Ready // until it has let go of the sockets
		}
		return [...]State{generation.Starting: Starting, generation.Parked: Starting, generation.Ready: Ready, generation.Stopping: Stopping}[g.Stage]
	}
	return [...]State{waiting: Waiting, backingOff: BackingOff, failed: Failed, stopped: Stopped}[s.phase]
}
