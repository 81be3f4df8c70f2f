package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/leader"
	"openclaw-gateway/worker/probe"
	"openclaw-gateway/worker/proctree"
	"openclaw-gateway/worker/tree"
	"openclaw-gateway/worker/why"
)

// surroundings are what all generations of a supervisor share.
type surroundings struct {
	options Options
	trees   *tree.Trees
	spawn   spawner
	events  chan event
}

// generation is one life of the worker: a machine of its own, with a state, a timer
// and a table. The supervisor's goroutine owns it; the goroutines that watch it send
// events.
type generation struct {
	surroundings
	number     int
	spec       Spec
	stage      stage
	since      time.Time // when it entered that
	until      time.Time // when it is left at the latest; zero: that is not known
	timer      *time.Timer
	tell       func(event) // the supervisor
	birth      *birth      // what it was prepared with, until it is started
	handoff    handoff.Handoff
	process    *os.Process
	tree       *tree.Tree
	started    time.Time
	readyAfter time.Duration // 0: it never was
	served     bool          // an earlier one with the same command was ready
	// cancel ends what watches the generation, but not the wait for its end.
	cancel context.CancelFunc
	// over is closed by cancel.
	over <-chan struct{}

	// What a reporting handoff has told.
	loaded      bool // that it does
	listening   map[netip.AddrPort]bool
	closedEarly bool                    // an address that it had, before it was ready
	closed      []netip.AddrPort        // held addresses on which it no longer listens
	elsewhere   []netip.AddrPort        // fixed ports that are not the launcher's
	clash       netip.AddrPort          // an address in use that it wanted besides
	absent      map[netip.AddrPort]bool // held addresses that this machine did not have when it mattered
	warning     string                  // what clients miss although it serves; "": nothing
	unserved    *[]netip.AddrPort       // of a ready one, those on which it does not listen therefore; nil: none
	openclaw    handoff.OpenClaw        // which it runs
	adopted     chan struct{}           // closed when it listens on every held address
	relisten    *time.Timer             // runs while the worker lives on without a listener that it had

	executed chan struct{} // closed when the process has become the worker, or could not

	own *probe.Connections
	// endProbes ends the launcher's requests, of which one may be under way when
	// the worker says itself that it is ready; probesEnd is closed after the last.
	endProbes context.CancelFunc
	probesEnd <-chan struct{}
	probed    string // what the last probe was answered with

	unwatch  func()        // ends the wait for the last client to leave
	idleStop time.Duration // for how long nobody may be connected; 0: endless
	aliveness
	leader    *leader.Leader
	unheard   chan struct{} // closed when nothing that is said counts any more
	says      string        // STATUS= of a worker that starts, or that reloads
	extended  bool          // by EXTEND_TIMEOUT_USEC=
	stopLimit time.Duration // from the stop signal to SIGKILL
	stopUntil time.Time     // the same as a moment
	headless  bool          // its main process has ended, and others live
	rest      context.Context
	killRest  context.CancelFunc // those are killed
	why       Reason             // why it was told to end; "": it does so by itself
	detail    string
}

// newGeneration returns a generation that has not been started.
func newGeneration(number int, spec Spec, around surroundings, tell func(event)) *generation {
	g := &generation{
		surroundings: around, number: number, spec: spec, tell: tell, timer: time.NewTimer(0),
		listening: map[netip.AddrPort]bool{}, absent: map[netip.AddrPort]bool{}, adopted: make(chan struct{}), executed: make(chan struct{}),
		unheard: make(chan struct{}), own: new(probe.Connections), endProbes: func() {}, unwatch: func() {}, aliveness: aliveness{cease: func() {}, beats: make(chan bool, 1)},
	}
	g.timer.Stop()
	g.rest, g.killRest = context.WithCancel(context.Background())
	return g
}

// enter changes the state; after limit, if it is not 0, timeUp comes.
func (g *generation) enter(stage stage, limit time.Duration) {
	g.watchIdle(0)
	g.watchAlive(Alive{})
	g.stage, g.since = stage, time.Now()
	g.setLimit(limit)
}

func (g *generation) setLimit(limit time.Duration) {
	g.timer.Stop()
	g.until = time.Time{}
	if limit > 0 {
		g.timer.Reset(limit)
		g.until = time.Now().Add(limit)
	}
}

// limit yields when the time in the present state is up.
func (g *generation) limit() <-chan time.Time {
	if g == nil {
		return nil
	}
	return g.timer.C
}

// send is for the goroutines that watch the generation.
func (g *generation) send(e event) {
	e.generation = g.number
	select {
	case g.events <- e:
	case <-g.over:
	}
}

// told adds to a message which generation and which process it is about.
func (g *generation) told(more ...any) []any {
	return append([]any{"generation", g.number, "worker_pid", g.process.Pid}, more...)
}

// pass leaves an event to the supervisor.
func (g *generation) pass(e event) { g.tell(e) }

// park has the worker wait at the gate, for as long as it takes.
func (g *generation) park(event) { g.enter(parked, 0) }

func (g *generation) unpark(event) {
	g.enter(starting, g.spec.ReadyTimeout)
	g.handoff.Release()
}

func (g *generation) becomeReady(e event) {
	if e.adopted && !g.listensEverywhere() {
		// It only tried whether its address is free, and has let go of it.
		g.closedEarly = true
		return
	}
	g.lengthenQueues()
	g.endProbes()
	g.enter(ready, 0)
	g.says = ""
	g.readyAfter = g.since.Sub(g.started)
	g.watchListeners()
	g.noteUnserved()
	g.tell(event{kind: becameReady})
}

// lengthenQueues gives the sockets their full backlog again: Node.js shrinks it
// by listening with one of its own.
func (g *generation) lengthenQueues() {
	if err := g.spec.Queues.Listen(); err != nil {
		g.options.Log.Error("cannot give the sockets their full backlog again", "error", err)
	}
}

// watchIdle has the event idled come when no client was connected to a ready
// worker for so long; 0: never. A change of that time starts it anew.
func (g *generation) watchIdle(idle time.Duration) {
	if g.idleStop == idle {
		return
	}
	g.unwatch()
	g.unwatch, g.idleStop = func() {}, idle
	if idle == 0 {
		return
	}
	g.unwatch = g.watch(event{kind: idled, generation: g.number}, func(ctx context.Context) bool {
		// One of the launcher's own requests would be taken for a client's.
		select {
		case <-g.probesEnd:
		case <-ctx.Done():
			return false
		}
		err := g.spec.Queues.AwaitIdle(ctx, idle, g.own.From())
		if err != nil && ctx.Err() == nil {
			g.options.Log.Error("the worker is not stopped when nobody needs it (worker.idle_stop)", "generation", g.number, "error", err)
		}
		return err == nil
	})
}

// watch has the event come when f says so, until what it returns is called, which
// waits for the end of f.
func (s surroundings) watch(e event, f func(context.Context) (happened bool)) (unwatch func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if !f(ctx) {
			return
		}
		select {
		case s.events <- e:
		case <-ctx.Done():
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// stopIdle ends a generation that nobody needs.
func (g *generation) stopIdle(event) {
	g.options.Log.Info("nobody has been connected to the worker (worker.idle_stop)", "generation", g.number, "for", g.idleStop)
	g.stop(ReasonIdle, "")
}

func (g *generation) takeProbe(e event) {
	g.probed = e.text
	g.options.Log.Debug("worker is not ready yet", "generation", g.number, "probe", e.text)
}

// stopLate ends a generation that did not become ready in time.
func (g *generation) stopLate(event) {
	held := addresses(g.spec.Sockets)
	listens := slices.DeleteFunc(g.options.ListensOn(g.process.Pid), func(address netip.AddrPort) bool {
		return slices.Contains(held, address)
	})
	err := errors.New(g.explain(listens))
	switch {
	case g.extended:
		err = fmt.Errorf("not ready in the time that it has asked for (EXTEND_TIMEOUT_USEC=): %w", err)
	case !g.stuck() || time.Since(g.since) >= g.spec.ReadyTimeout:
		err = fmt.Errorf("not ready after %s (ready.timeout): %w", g.spec.ReadyTimeout, err)
	}
	g.stopUnready(event{err: err})
}

// stopUnready ends a generation that cannot serve.
func (g *generation) stopUnready(e event) {
	g.options.Log.Error("worker does not serve", g.told("error", e.err)...)
	g.tell(event{kind: cannotServe, err: e.err})
	g.stop(ReasonUnready, e.err.Error())
}

func (g *generation) stopAsked(e event) { g.stop(e.reason, "") }

// stopForGood is about a generation that is being stopped already.
func (g *generation) stopForGood(e event) {
	if e.reason == ReasonStop {
		g.why = ReasonStop
	}
}

func (g *generation) stop(why Reason, detail string) {
	g.why, g.detail = why, detail
	g.leave()
	signal := g.spec.StopSignal
	select {
	case <-g.executed:
	default:
		// Still the shim, which has nothing to put in order and might swallow
		// another signal; but for one that was ready already, faster than it was heard of.
		if g.readyAfter == 0 {
			signal = unix.SIGKILL
		}
	}
	g.options.Log.Info("stopping the worker", g.told("reason", why, "signal", signalName(signal))...)
	g.signal(signal)
	// One that was stopped, as by Ctrl-Z, takes it only when it goes on; systemd.kill(5) does the same.
	g.signal(unix.SIGCONT)
	if g.spec.StopAll && signal != unix.SIGKILL {
		g.tree.Signal(g.process.Pid, signal)
	}
}

// leave is the beginning of the end.
func (g *generation) leave() {
	g.cancel()
	g.stopLimit = g.spec.StopTimeout
	if len(g.hung) > 0 {
		g.stopLimit = min(g.stopLimit, g.alive.StopTimeout)
	}
	g.enter(stopping, g.stopLimit)
	g.stopUntil = g.until
}

// kill ends what has not ended by itself.
func (g *generation) kill(e event) {
	switch {
	case e.kind == hurryAsked:
		g.options.Log.Warn("killing the worker now, as was asked for", g.told()...)
	case g.headless && time.Until(g.stopUntil) > 0 && g.options.Serving(pidsOf(g.tree.Left(g.process.Pid))):
		g.setLimit(min(restPause, time.Until(g.stopUntil)))
		return
	case g.headless:
		g.options.Log.Warn("what the main process of the worker has left does not end, killing it", g.told()...)
	default:
		g.options.Log.Warn("the worker has not ended in its time, killing it", g.told("stop_timeout", g.stopLimit)...)
	}
	g.killRest()
	g.signal(unix.SIGKILL)
}

func pidsOf(processes []proctree.Process) []int {
	var all []int
	for _, process := range processes {
		all = append(all, process.PID)
	}
	return all
}

// restPause is between two looks whether what the main process has left still answers somebody: nothing tells.
const restPause = time.Second

// defaultRestTimeout is how long what the main process has left may take to end, unless it answers somebody: one that is deaf
// to the signal must not keep the clients waiting.
const defaultRestTimeout = 10 * time.Second

// behead is told that the main process has ended, and that others of the generation live. They have got the signal.
func (g *generation) behead(event) {
	if g.stage != stopping {
		g.leave()
	}
	g.headless = true
	g.setLimit(max(1, min(time.Until(g.stopUntil), cmp.Or(g.options.restTimeout, defaultRestTimeout))))
}

func (g *generation) signal(signal syscall.Signal) {
	if err := g.process.Signal(signal); err != nil {
		g.options.Log.Debug("the worker has ended already", "generation", g.number, "error", err)
	}
}

// end says why the generation has ended.
func (g *generation) end(e event) {
	exit := e.exit
	switch {
	case g.stage == stopping && g.why != "":
		exit.Reason, exit.Detail = g.why, g.detail
	case g.readyAfter > 0 && exit.Code == 0:
		exit.Reason = ReasonRestart
		exit.Detail = cmp.Or(g.seen(exit).Background(), "the worker itself asked for the restart, or somebody else told it to end")
	default:
		end := g.seen(exit)
		exit.Reason = ReasonCrash
		if end.OOM() {
			exit.Reason = ReasonOOM
		}
		if g.readyAfter == 0 && g.clash.IsValid() {
			exit.Detail = cmp.Or(exit.Detail, g.explain(nil))
		}
		exit.Detail = cmp.Or(exit.Detail, end.Advice())
	}
	exit.ReadyAfter = g.readyAfter
	g.enter(gone, 0)
	g.tell(event{kind: ended, exit: exit})
}

// kind is how the worker comes by the sockets, as far as it is seen.
func (g *generation) kind() handoff.Kind {
	kind := g.handoff.Kind()
	switch {
	case kind == handoff.Auto && g.loaded:
		return handoff.Preload
	case kind == handoff.Auto && g.readyAfter > 0:
		return handoff.ListenFDs
	}
	return kind
}

// seen is what a generation was seen to do until its end.
func (g *generation) seen(exit Exit) why.End {
	return why.End{
		Code: exit.Code, Signal: exit.Signal, Ready: g.readyAfter > 0, Lived: exit.Lived, Strays: len(exit.Strays), OOMKills: g.tree.OOMKills,
		Command: g.spec.Command, Directory: g.spec.Directory, Served: g.served,
		Handoff: g.kind(), Listened: len(g.listening) > 0, Held: join(addresses(g.spec.Sockets)),
	}
}

// await waits for the end of the main process, and returns when the last
// process of the generation has gone.
func (g *generation) await(heard func()) Exit {
	pid := g.leader.Await(heard).Pid
	exit := Exit{Generation: g.number, PID: pid, Code: -1, At: time.Now(), Lived: time.Since(g.started)}
	g.tree.MainEnded()
	exit.Strays = g.tree.Left(pid)
	if len(exit.Strays) > 0 {
		g.events <- event{kind: beheaded, generation: g.number}
		g.tree.Linger(g.rest, pid, g.spec.StopSignal)
	}
	killed, err := g.tree.End(pid)
	if err != nil {
		g.options.Log.Error("cannot end everything that a generation has left", "generation", g.number, "error", err)
	}
	for _, process := range killed {
		if !slices.ContainsFunc(exit.Strays, func(p proctree.Process) bool { return p.PID == process.PID && p.Start == process.Start }) {
			exit.Strays = append(exit.Strays, process)
		}
	}
	exit.Killed = len(killed)
	state, waitErr := g.leader.Reap()
	if errors.Is(waitErr, leader.ErrUnknown) {
		exit.Code = -2
	}
	if err := errors.Join(err, waitErr); err != nil {
		exit.Detail = err.Error()
	}
	if state == nil {
		return exit
	}
	if status := state.Sys().(syscall.WaitStatus); status.Signaled() {
		exit.Signal = status.Signal()
	} else {
		exit.Code = status.ExitStatus()
	}
	return exit
}

// discardProbe takes the launcher's own request out of the queue that the worker
// has not accepted: it would stand there in front of the clients, and make
// systemd start the service again that has just been stopped.
func (g *generation) discardProbe() error {
	conn := g.own.Waiting()
	if conn == nil {
		return nil
	}
	target, client := probe.Ends(conn)
	waiting, err := g.spec.Queues.Unaccepted(target, client)
	if err != nil || !waiting {
		return err
	}
	for _, socket := range g.spec.Sockets {
		if at, _ := g.spec.Queues.Reach(socket.Address); at == target {
			return g.spec.Queues.Discard(socket.Address, client)
		}
	}
	return nil
}
