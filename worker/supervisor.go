package worker

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os/exec"
	"time"

	"github.com/cenkalti/backoff/v5"

	"openclaw-gateway/worker/tree"
)

// Options are what a supervisor needs besides the spec.
type Options struct {
	Log *slog.Logger
	// Directory is the launcher's runtime directory, an absolute path that
	// nobody but the launcher's user can write to.
	Directory string
	// Place returns where the next generation's socket and script are to lie: Directory, unless that has been removed.
	Place func() (string, error)
	// Alone says that this process has no other business than the worker: every
	// process that comes to be below it is the worker's unless Exec has started it,
	// it inherits the worker's orphans, and all of them end with their generation.
	Alone bool
	// AtOnce starts the first generation without waiting for a client.
	AtOnce bool
	// ExitIdle says what follows when a worker was stopped because nobody needed it
	// (Spec.IdleStop, Spec.WaitAfterExit0) and nobody waits: Run returns, and somebody else has to
	// start everything again for the next client. Otherwise the supervisor waits
	// for that itself.
	ExitIdle bool
	// Good is a spec that has worked before, in an earlier life of the launcher;
	// nil: none is known.
	Good *Spec
	// Known is the number of the last generation of an earlier launcher; 0: none is known.
	Known int
	// Observe is called with each change, by the goroutine that owns the
	// state: it must not block.
	Observe func(Status)
	// Ended is called with the end of each generation, as Observe is.
	Ended func(Exit)
	// MendOutput sees to it that the standard output and standard error that a generation inherits lead somewhere; it is called
	// before each. nil: they do.
	MendOutput func()
	// ListensOn returns the addresses on which a process and its descendants
	// listen, to explain a worker that does not become ready.
	ListensOn func(pid int) []netip.AddrPort
	// Serving reports whether one of the processes has an accepted connection of a held address.
	Serving func(pids []int) bool
	// Extended is called when a worker asks for more time to end while the launcher ends: from then on so much.
	Extended func(time.Duration)
	// OpenDesk opens the front desk, which accepts clients and answers them until
	// what it returns is called; that returns when it accepts no more.
	OpenDesk func() (closeDesk func())
	// Heartbeat is called at this interval by the goroutine that owns the
	// state, to prove that it is alive. 0: never.
	Heartbeat      func()
	HeartbeatEvery time.Duration

	answerTimeout   time.Duration // 0: defaultAnswerTimeout
	relistenTimeout time.Duration // 0: defaultRelistenTimeout
	clashTimeout    time.Duration // 0: defaultClashTimeout
	flash           time.Duration // 0: defaultFlash
	restTimeout     time.Duration // 0: defaultRestTimeout
}

// Supervisor runs one generation of the worker after the other.
type Supervisor struct {
	requests chan request
	done     chan struct{} // closed when Run has returned
	reaper   *tree.Reaper  // nil unless Alone

	// Owned by the goroutine of Run, but events, on which it listens.
	surroundings
	log   *slog.Logger
	spec  Spec
	good  *Spec // the last one whose worker became ready
	phase phase
	since time.Time // when it was entered
	timer *time.Timer
	// serving is the generation that has become ready, coming the one that has not
	// yet; succession.go is how the one follows the other.
	serving  *generation
	coming   *generation
	prepared *generation // for the one that serves to be replaced; nil while that is not asked
	number   int         // of the last generation
	again    bool        // the next generation starts when the present one has ended
	backoff  *backoff.ExponentialBackOff
	failures int
	flashes  int // generations in a row that ended by themselves as soon as they were ready
	last     *Exit
	problem  string
	rolled   int    // edition of the spec that was rolled back
	reason   string // and why
	nextAt   time.Time
	waiters  []chan<- error // who is to be told what comes of a start
	replies  []reply        // for those who are told with the next publish
	unwatch  func()         // ends the wait for a client
	shut     func()         // closes the front desk; nil when it is closed
	why      Reason         // Run returns
	seen     Status         // what Observe was called with last
}

type request struct {
	spec    *Spec // nil: as it is
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
func New(spec Spec, options Options) *Supervisor {
	s := &Supervisor{
		requests: make(chan request), done: make(chan struct{}),
		surroundings: surroundings{options: options, events: make(chan event)},
		log:          options.Log, spec: spec, good: options.Good, number: options.Known, timer: time.NewTimer(0), unwatch: func() {}, why: ReasonStop,
	}
	s.timer.Stop()
	if options.Alone {
		s.reaper = tree.NewReaper()
	}
	s.trees = tree.New(s.log, s.reaper, options.Directory)
	return s
}

// Exec runs a command that is not the worker's, beside its generations, and returns
// when all that it has started has ended: at the latest when the context is done,
// which kills it. What systemd has told the launcher alone is not in its environment.
func (s *Supervisor) Exec(ctx context.Context, cmd *exec.Cmd) error { return s.trees.Run(ctx, cmd) }

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
func (s *Supervisor) Apply(spec Spec, restart bool) <-chan error {
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
func (s *Supervisor) Run(ctx context.Context, hurry <-chan struct{}) Reason {
	defer close(s.done)
	spawning, end := context.WithCancel(context.Background())
	defer end()
	s.spawn = newSpawner(spawning)
	if s.reaper != nil {
		s.reaper.Inherit(spawning, s.log)
	}
	s.trees.Enter()
	s.resetBackoff()
	var heartbeat <-chan time.Time
	if s.options.HeartbeatEvery > 0 {
		ticker := time.NewTicker(s.options.HeartbeatEvery)
		defer ticker.Stop()
		heartbeat = ticker.C
	}
	stop := ctx.Done()
	var hurried <-chan struct{} // of no meaning before
	s.begin()
	for s.phase != stopped {
		s.publish()
		select {
		case e := <-s.events:
			s.dispatch(e)
		case r := <-s.requests:
			s.take(r)
		case <-s.timer.C:
			s.handle(event{kind: timeUp})
		case <-s.serving.limit():
			s.serving.handle(event{kind: timeUp})
		case <-s.coming.limit():
			s.coming.handle(event{kind: timeUp})
		case <-stop:
			stop, hurried = nil, hurry // once
			s.handle(event{kind: stopAsked})
		case <-hurried:
			s.handle(event{kind: hurryAsked})
		case <-heartbeat:
			s.options.Heartbeat()
		}
	}
	s.replyToWaiters(ErrStopping)
	s.publish()
	return s.why
}

func (s *Supervisor) begin() {
	switch {
	case s.spec.Refused != nil:
		s.problem = s.spec.Refused.Error()
		s.enter(failed, 0)
		s.updateDesk()
	case s.options.AtOnce:
		s.start(event{})
	default:
		s.wait()
	}
}

// dispatch gives an event to the machine that it is for. One of a generation that
// has gone is for nobody.
func (s *Supervisor) dispatch(e event) {
	switch {
	case e.generation == 0:
		s.handle(e)
	case s.serving != nil && s.serving.number == e.generation:
		s.serving.handle(e)
	case s.coming != nil && s.coming.number == e.generation:
		s.coming.handle(e)
	}
}

// take takes a request of somebody who waits for what comes of it.
func (s *Supervisor) take(r request) {
	reason, next := ReasonRestart, &s.spec
	if r.spec != nil {
		reason, next = ReasonConfig, r.spec
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
	s.handle(event{kind: restartAsked, reason: reason})
	if r.now {
		s.handle(event{kind: hurryAsked})
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
	case s.phase == running && s.present().stage != ready:
		// Its worker is still on its way.
		s.waiters = append(s.waiters, r.reply)
		return false
	default:
		s.updateDesk()
		if s.serving != nil {
			s.serving.watchIdle(s.spec.IdleStop)
			s.serving.watchAlive(s.spec.Alive)
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
	s.observe()
	for _, reply := range s.replies {
		reply.to <- reply.err
	}
	s.replies = nil
}

func (s *Supervisor) observe() {
	status := Status{
		State: s.state(), Generation: s.number, Since: s.since, Restarts: max(0, s.number-s.options.Known-1), Failures: s.failures,
		LastExit: s.last, NextStart: s.nextAt, Until: s.nextAt, QueueLimit: s.spec.Alive.Queue, FrontDesk: s.wantsDesk(), Problem: s.problem,
		Edition: s.spec.Edition, RolledBack: s.rolled, RollbackReason: s.reason,
	}
	if g := s.present(); g != nil {
		status.Until = g.until
		status.PID, status.Handoff, status.Started, status.Since = g.process.Pid, g.kind(), g.started, g.since
		status.OpenClaw = g.openclaw
		switch g.stage {
		case ready:
			status.ReadyAfter, status.Until = g.readyAfter, time.Time{} // the timer is not of the state
			status.Unserved, status.Warning = g.unserved, g.warning
			if len(g.hung) > 0 {
				status.Hung = g.hung[0]
			}
			status.Says = g.says
		case starting:
			status.Said, status.Says = g.probed, g.says
		case stopping:
			status.Ending = g.why
		}
	}
	if status != s.seen {
		s.seen = status
		s.options.Observe(status)
	}
}

// state is that of the supervisor, or of its generation if there is one.
func (s *Supervisor) state() State {
	if s.phase == running {
		return [...]State{starting: Starting, parked: Starting, ready: Ready, stopping: Stopping}[s.present().stage]
	}
	return [...]State{waiting: Waiting, backingOff: BackingOff, failed: Failed, stopped: Stopped}[s.phase]
}
