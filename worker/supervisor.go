package worker

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os/exec"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Options are what a supervisor needs besides the spec.
type Options struct {
	Log *slog.Logger
	// Directory is the launcher's runtime directory, an absolute path that
	// nobody but the launcher's user can write to.
	Directory string
	// Alone says that this process has no other business than the worker: every
	// process that comes to be below it is the worker's unless Exec has started it,
	// it inherits the worker's orphans, and all of them end with their generation.
	Alone bool
	// AtOnce starts the first generation without waiting for a client.
	AtOnce bool
	// ExitIdle says what follows when a worker was stopped because nobody needed it
	// (Spec.IdleStop) and nobody waits: Run returns, and somebody else has to
	// start everything again for the next client. Otherwise the supervisor waits
	// for that itself.
	ExitIdle bool
	// Good is a spec that has worked before, in an earlier life of the launcher;
	// nil: none is known.
	Good *Spec
	// Observe is called with each change, by the goroutine that owns the
	// state: it must not block. nil: nobody watches.
	Observe func(Status)
	// Ended is called with the end of each generation, as Observe is. nil: nobody
	// keeps a record.
	Ended func(Exit)
	// ListensOn returns the addresses on which a process and its descendants
	// listen, to explain a worker that does not become ready. nil: unknown.
	ListensOn func(pid int) []netip.AddrPort
	// OpenDesk opens the front desk, which accepts clients and answers them until
	// what it returns is called; that returns when it accepts no more. nil:
	// clients wait in the queue.
	OpenDesk func() (closeDesk func())
	// Heartbeat is called at this interval by the goroutine that owns the
	// state, to prove that it is alive. 0: never.
	Heartbeat      func()
	HeartbeatEvery time.Duration

	answerTimeout time.Duration // 0: defaultAnswerTimeout
	desertion     time.Duration // 0: defaultDesertion
}

// Supervisor runs one generation of the worker after the other.
type Supervisor struct {
	options  Options
	requests chan request
	events   chan event
	done     chan struct{} // closed when Run has returned
	reaper   *reaper       // nil unless Alone

	// Owned by the goroutine of Run.
	log      *slog.Logger
	spawn    spawner
	trees    *trees
	spec     Spec
	good     *Spec // the last one whose worker became ready
	state    State
	since    time.Time
	timer    *time.Timer
	present  *generation
	number   int
	backoff  *backoff.ExponentialBackOff
	failures int
	last     *Exit
	problem  string
	rolled   int                      // edition of the spec that was rolled back
	reason   string                   // and why
	next     func(*Supervisor, event) // what follows when the present generation has ended
	nextAt   time.Time
	readyAt  time.Time
	waiters  []chan<- error     // who is to be told what comes of a start
	answers  []answer           // of those who are told with the next publish
	unwatch  context.CancelFunc // ends the wait for a client, or for the last one to leave
	patience time.Duration      // that Ready has with a worker that nobody needs; 0: endless
	shut     func()             // closes the front desk; nil when it is closed
	watches  sync.WaitGroup     // those waits
	outcome  Reason             // why Run returns
	seen     Status             // what Observe was called with last
}

type request struct {
	spec    *Spec // nil: as it is
	restart bool
	reply   chan<- error
}

// answer is what somebody is told who has waited for an outcome.
type answer struct {
	reply   chan<- error
	outcome error
}

// New returns a supervisor that does nothing until Run.
func New(spec Spec, options Options) *Supervisor {
	s := &Supervisor{
		options: options, log: options.Log, spec: spec, good: options.Good,
		requests: make(chan request), events: make(chan event), done: make(chan struct{}), unwatch: func() {},
		outcome: ReasonStop,
	}
	if options.Alone {
		s.reaper = newReaper()
	}
	return s
}

// Exec runs a command that has nothing to do with the worker, and waits for it.
func (s *Supervisor) Exec(cmd *exec.Cmd) error { return s.reaper.run(cmd) }

// ErrStopping says that the launcher ends, so that nothing is started any more.
var ErrStopping = errors.New("the launcher is stopping")

// Restart starts the next generation. What it returns yields nil when that is
// ready, or the reason why it is not, once.
func (s *Supervisor) Restart() <-chan error {
	return s.ask(request{restart: true})
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
	defer s.watches.Wait()
	spawning, end := context.WithCancel(context.Background())
	defer end()
	s.spawn = newSpawner(spawning)
	if s.reaper != nil {
		s.reaper.inherit(spawning, s.log)
	}
	s.trees = newTrees(s.log, s.reaper, s.options.Directory)
	s.timer = time.NewTimer(0)
	s.timer.Stop()
	s.resetBackoff()
	var heartbeat <-chan time.Time
	if s.options.HeartbeatEvery > 0 {
		ticker := time.NewTicker(s.options.HeartbeatEvery)
		defer ticker.Stop()
		heartbeat = ticker.C
	}
	stop := ctx.Done()
	var hurried <-chan struct{} // of no meaning before

	switch {
	case s.spec.Refused != nil:
		s.problem = s.spec.Refused.Error()
		s.enter(Failed, 0)
		s.tendDesk()
	case s.options.AtOnce:
		s.start(event{})
	default:
		s.wait()
	}
	for s.state != Stopped {
		s.publish()
		select {
		case e := <-s.events:
			if e.generation == 0 || (s.present != nil && e.generation == s.present.number) {
				s.handle(e)
			}
		case r := <-s.requests:
			s.serve(r)
		case <-s.timer.C:
			s.handle(event{kind: timeUp})
		case <-stop:
			stop, hurried = nil, hurry // once
			s.handle(event{kind: stopAsked})
		case <-hurried:
			s.handle(event{kind: hurryAsked})
		case <-heartbeat:
			s.options.Heartbeat()
		}
	}
	s.settle(ErrStopping)
	s.publish()
	return s.outcome
}

// serve takes a request of somebody who waits for the outcome.
func (s *Supervisor) serve(r request) {
	reason, next := ReasonRestart, &s.spec
	if r.spec != nil {
		reason, next = ReasonConfig, r.spec
	}
	if next.Refused != nil {
		s.answer(r.reply, next.Refused)
		return
	}
	if r.spec != nil {
		// The comparison may be out of date: a rollback came between.
		r.restart = r.restart || (r.spec.After != 0 && r.spec.After != s.spec.Edition)
		if !r.restart && s.good != nil && s.good.Edition == s.spec.Edition {
			// The same worker, with other circumstances.
			s.good = r.spec
		}
		s.spec = *r.spec
		s.rolled, s.reason = 0, ""
		s.resetBackoff()
		// A waiting launcher has nothing to restart: the first client gets the
		// new worker.
		if s.state == Waiting {
			s.wait()
			s.answer(r.reply, nil)
			return
		}
		switch {
		case r.restart || s.state == Failed:
		case s.state == Starting || s.state == Stopping:
			// Its worker is still on its way.
			s.waiters = append(s.waiters, r.reply)
			return
		default:
			s.tendDesk()
			s.tendIdle()
			s.answer(r.reply, nil)
			return
		}
	}
	s.waiters = append(s.waiters, r.reply)
	s.failures = 0
	s.problem = ""
	s.backoff.Reset()
	s.handle(event{kind: restartAsked, exit: Exit{Reason: reason}})
}

// settle tells everybody who waits for the outcome of a start.
func (s *Supervisor) settle(err error) {
	for _, waiter := range s.waiters {
		s.answer(waiter, err)
	}
	s.waiters = nil
}

// answer tells somebody an outcome, when the status that shows it has been
// published: who looks right behind it must find it.
func (s *Supervisor) answer(reply chan<- error, outcome error) {
	s.answers = append(s.answers, answer{reply, outcome})
}

// publish has everybody know what there is to know: first those who observe, then
// those who wait.
func (s *Supervisor) publish() {
	s.show()
	for _, a := range s.answers {
		a.reply <- a.outcome
	}
	s.answers = nil
}

func (s *Supervisor) show() {
	if s.options.Observe == nil {
		return
	}
	status := Status{
		State: s.state, Generation: s.number, Since: s.since, Restarts: max(0, s.number-1), Failures: s.failures,
		LastExit: s.last, NextStart: s.nextAt, Problem: s.problem,
		Edition: s.spec.Edition, RolledBack: s.rolled, RollbackReason: s.reason,
	}
	if s.present != nil {
		status.PID, status.Handoff, status.Started = s.present.process.Pid, s.present.handoff.Kind(), s.present.started
		switch s.state {
		case Ready:
			status.ReadyAfter = s.readyAt.Sub(s.present.started)
		case Stopping:
			status.Ending = s.present.why
		}
	}
	if status != s.seen {
		s.seen = status
		s.options.Observe(status)
	}
}
