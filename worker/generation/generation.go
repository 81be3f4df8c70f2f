package generation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/leader"
	"openclaw-gateway/worker/notify"
	"openclaw-gateway/worker/probe"
	"openclaw-gateway/worker/proctree"
	"openclaw-gateway/worker/signs"
	"openclaw-gateway/worker/spawn"
	"openclaw-gateway/worker/tree"
	"openclaw-gateway/worker/why"
)

// Options are what a generation needs besides its spec.
type Options struct {
	Log *slog.Logger
	// Place returns where the generation's socket and script are to lie: a directory that nobody but the launcher's user can write to.
	Place func() (string, error)
	// MendOutput sees to it that the standard output and standard error that a generation inherits lead somewhere; it is called
	// before each. nil: they do.
	MendOutput func()
	// ListensOn returns the addresses on which a process and its descendants
	// listen, to explain a worker that does not become ready.
	ListensOn func(pid int) []netaddr.Address
	// Serving reports whether one of the processes has an accepted connection of a held address.
	Serving func(pids []int) bool
	// Extended is called when a worker asks for more time to end while the launcher ends: from then on so much.
	Extended func(time.Duration)
	// Cache returns the directory in which a Node.js is to keep what it compiles (Spec.Cache): nobody else can write there. nil:
	// there is none.
	Cache func() (string, error)
	// Modules returns the directory with what is known of the modules of a Node.js (Spec.Prewarm): nobody else can look there. nil:
	// there is none.
	Modules func() (string, error)
	// Restart is the command that has the next generation started now, for people.
	Restart string

	// What tests have shorter, or longer.
	AnswerTimeout   time.Duration // 0: defaultAnswerTimeout
	RelistenTimeout time.Duration // 0: defaultRelistenTimeout
	ClashTimeout    time.Duration // 0: defaultClashTimeout
	RestTimeout     time.Duration // 0: defaultRestTimeout
	SettleTime      time.Duration // 0: prewarm.Settled
}

// Surroundings are what all generations of a supervisor share.
type Surroundings struct {
	Options Options
	Trees   *tree.Trees
	Spawn   spawn.Spawner
	Events  chan Event
}

// Generation is one life of the worker: a machine of its own, with a state, a timer
// and a table. The supervisor's goroutine owns it; the goroutines that watch it send
// events.
type Generation struct {
	Surroundings
	Number     int
	Spec       Spec
	Stage      Stage
	Since      time.Time // when it entered that
	Until      time.Time // when it is left at the latest; zero: that is not known
	timer      *time.Timer
	tell       func(Event) // the supervisor
	birth      *birth      // what it was prepared with, until it is started
	Handoff    handoff.Handoff
	Process    *os.Process
	tree       *tree.Tree
	Started    time.Time
	ReadyAfter time.Duration // 0: it never was
	Stall      time.Duration // as in Exit
	Ceased     time.Time     // when it began to end; zero: it has not
	Served     bool          // an earlier one with the same command was ready
	// cancel ends what watches the generation, but not the wait for its end.
	cancel context.CancelFunc
	// over is closed by cancel.
	over <-chan struct{}

	// What a reporting handoff has told.
	loaded      bool // that it does
	Listening   map[netaddr.Address]bool
	closedEarly bool                     // an address that it had, before it was ready
	closed      []netaddr.Address        // held addresses on which it no longer listens
	elsewhere   []netaddr.Address        // fixed ports that are not the launcher's
	besides     []netaddr.Address        // those of them on which it listens now
	clash       netaddr.Address          // an address in use that it wanted besides
	clashV6Only bool                     // and for IPv6 clients alone
	both        netaddr.Address          // the IPv6 wildcard, where the worker has asked for all of IPv4 with it, of which there is a socket of its own
	absent      map[netaddr.Address]bool // held addresses that this machine did not have when it mattered
	Warning     string                   // what clients miss although it serves; "": nothing
	Unserved    *[]netaddr.Address       // of a ready one, those on which it does not listen therefore; nil: none
	OpenClaw    handoff.OpenClaw         // which it runs
	Cache       string                   // where it was told to keep what it compiles; "": nowhere
	Part        string                   // what it has for its own there, as it says
	Cached      bool                     // it has found something of an earlier one's
	Uncached    string                   // why it was not told, although it could be; "": nothing is wrong
	obstacle    string                   // why something of it gets no socket by intercept; "": nothing is wrong
	Binds       bool                     // it is to have intercept at any price
	Bound       bool                     // it has bound a held address by that
	unfiltered  bool                     // it was started without, because that would have had a price
	Deprived    bool                     // it has paid it: no_new_privs
	adopted     chan struct{}            // closed when it listens on every held address
	relisten    *time.Timer              // runs while the worker lives on without a listener that it had

	Executed chan struct{} // closed when the process has become the worker, or could not

	own *probe.Connections
	// endProbes ends the launcher's requests, of which one may be under way when
	// the worker says itself that it is ready; probesEnd is closed after the last.
	endProbes context.CancelFunc
	probesEnd <-chan struct{}
	Probed    string // what the last probe was answered with

	gate
	ahead
	unwatch  func()        // ends the wait for the last client to leave
	idleStop time.Duration // for how long nobody may be connected; 0: endless
	aliveness
	leader    *leader.Leader
	notify    *notify.Socket // what the worker says
	unheard   chan struct{}  // closed when nothing that is said counts any more
	Says      string         // STATUS= of a worker that starts, or that reloads
	extended  bool           // by EXTEND_TIMEOUT_USEC=
	stopLimit time.Duration  // from the stop signal to SIGKILL
	stopUntil time.Time      // the same as a moment
	headless  bool           // its main process has ended, and others live
	code      int            // with which that has; -1: by a signal, or nobody can tell
	rest      context.Context
	killRest  context.CancelFunc // those are killed
	Why       ends.Reason        // why it was told to end; "": it does so by itself
	detail    string
}

// New returns a generation that has not been started.
func New(number int, spec Spec, around Surroundings, tell func(Event)) *Generation {
	g := &Generation{
		Surroundings: around, Number: number, Spec: spec, tell: tell, timer: time.NewTimer(0),
		Listening: map[netaddr.Address]bool{}, absent: map[netaddr.Address]bool{}, adopted: make(chan struct{}), Executed: make(chan struct{}),
		unheard: make(chan struct{}), own: new(probe.Connections), cancel: func() {}, endProbes: func() {}, unwatch: func() {}, aliveness: aliveness{cease: func() {}, beats: make(chan bool, 1)},
		gate: gate{passed: make(chan struct{})},
	}
	close(g.passed)
	g.timer.Stop()
	g.rest, g.killRest = context.WithCancel(context.Background())
	return g
}

// enter changes the state; after limit, if it is not 0, timeUp comes.
func (g *Generation) enter(stage Stage, limit time.Duration) {
	g.WatchIdle(0)
	g.WatchAlive(signs.Settings{})
	g.Stage, g.Since = stage, time.Now()
	g.SetLimit(limit)
}

func (g *Generation) SetLimit(limit time.Duration) {
	g.timer.Stop()
	g.Until = time.Time{}
	if limit > 0 {
		g.timer.Reset(limit)
		g.Until = time.Now().Add(limit)
	}
}

// Limit yields when the time in the present state is up.
func (g *Generation) Limit() <-chan time.Time {
	if g == nil {
		return nil
	}
	return g.timer.C
}

// send is for the goroutines that watch the generation.
func (g *Generation) send(e Event) {
	e.Generation = g.Number
	select {
	case g.Events <- e:
	case <-g.over:
	}
}

// Told adds to a message which generation and which process it is about.
func (g *Generation) Told(more ...any) []any {
	return append([]any{"generation", g.Number, "worker_pid", g.Process.Pid}, more...)
}

// pass leaves an event to the supervisor.
func (g *Generation) pass(e Event) { g.tell(e) }

func (g *Generation) becomeReady(e Event) {
	if g.Gated {
		g.said = true
		return
	}
	if e.adopted && !g.listensEverywhere() {
		// It only tried whether its address is free, and has let go of it.
		g.closedEarly = true
		return
	}
	g.lengthenQueues()
	g.endProbes()
	g.enter(Ready, 0)
	g.Says = ""
	g.ReadyAfter = g.Since.Sub(g.Started)
	g.watchListeners()
	g.noteUnserved()
	g.noteServed(e.answered)
	g.tell(Event{Kind: BecameReady, Generation: g.Number})
}

// lengthenQueues gives the sockets their full backlog again: Node.js shrinks it
// by listening with one of its own.
func (g *Generation) lengthenQueues() {
	if err := g.Spec.Queues.Listen(); err != nil {
		g.Options.Log.Error("cannot give the sockets their full backlog again", "error", err)
	}
}

// WatchIdle has the event idled come when no client was connected to a ready
// worker for so long; 0: never. A change of that time starts it anew.
func (g *Generation) WatchIdle(idle time.Duration) {
	if g.idleStop == idle {
		return
	}
	g.unwatch()
	g.unwatch, g.idleStop = func() {}, idle
	if idle == 0 {
		return
	}
	g.unwatch = g.Watch(Event{Kind: Idled, Generation: g.Number}, func(ctx context.Context) bool {
		// One of the launcher's own requests would be taken for a client's.
		select {
		case <-g.probesEnd:
		case <-ctx.Done():
			return false
		}
		err := g.Spec.Queues.AwaitIdle(ctx, idle, g.own.From())
		if err != nil && ctx.Err() == nil {
			g.Options.Log.Error("the worker is not stopped when nobody needs it (worker.idle_stop)", "generation", g.Number, "error", err)
		}
		return err == nil
	})
}

// Watch has the event come when f says so, until what it returns is called, which
// waits for the end of f.
func (s Surroundings) Watch(e Event, f func(context.Context) (happened bool)) (unwatch func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if !f(ctx) {
			return
		}
		select {
		case s.Events <- e:
		case <-ctx.Done():
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// stopIdle ends a generation that nobody needs.
func (g *Generation) stopIdle(Event) {
	g.Options.Log.Info("nobody has been connected to the worker (worker.idle_stop)", "generation", g.Number, "for", g.idleStop)
	g.stop(ends.ReasonIdle, "")
}

func (g *Generation) takeProbe(e Event) {
	g.Probed = e.Text
	g.Options.Log.Debug("worker is not ready yet", "generation", g.Number, "probe", e.Text)
}

// stopLate ends a generation that did not become ready in time.
func (g *Generation) stopLate(Event) {
	held := addresses(g.Spec.Sockets)
	listens := slices.DeleteFunc(g.Options.ListensOn(g.Process.Pid), func(address netaddr.Address) bool {
		return slices.Contains(held, address)
	})
	err := errors.New(g.explain(listens))
	switch {
	case g.Ahead && g.Gated:
		err = fmt.Errorf("its modules were not loaded ahead in %s (restart.prewarm_timeout)", g.Spec.PrewarmTimeout)
	case g.Gated && !g.clash.IsValid() && len(g.elsewhere) == 0 && len(listens) == 0:
		err = fmt.Errorf("it has not come to listen on %s in %s (ready.timeout)", why.Join(held), g.Spec.ReadyTimeout)
	case g.extended:
		err = fmt.Errorf("not ready in the time that it has asked for (EXTEND_TIMEOUT_USEC=): %w", err)
	case !g.stuck() || time.Since(g.Since) >= g.Spec.ReadyTimeout:
		err = fmt.Errorf("not ready after %s (ready.timeout): %w", g.Spec.ReadyTimeout, err)
	}
	g.stopUnready(Event{Err: err})
}

// stopUnready ends a generation that cannot serve.
func (g *Generation) stopUnready(e Event) {
	if e.Report.Event == handoff.Closed && len(g.closed) == 0 {
		return // it has listened again while that was on its way
	}
	level := slog.LevelError
	if g.Ahead && g.Gated {
		level = slog.LevelWarn // another one will
	}
	g.Options.Log.Log(context.Background(), level, "worker does not serve", g.Told("error", e.Err)...)
	if !g.Gated {
		g.tell(Event{Kind: CannotServe, Generation: g.Number, Err: e.Err})
	}
	g.stop(ends.ReasonUnready, e.Err.Error())
}

func (g *Generation) stopAsked(e Event) {
	detail := ""
	if g.Gated && g.Standby {
		detail = "a standby that was not needed"
	}
	g.stop(e.Reason, detail)
}

// stopForGood is about a generation that is being stopped already. One that has not had the sockets, and stops by itself, is not waited
// for: it may be frozen.
func (g *Generation) stopForGood(e Event) {
	if g.Gated && g.Why == "" {
		g.Why = e.Reason
		g.killAll()
	}
	if e.Reason == ends.ReasonStop {
		g.Why = ends.ReasonStop
	}
}

func (g *Generation) stop(why ends.Reason, detail string) {
	g.Why, g.detail = why, detail
	if g.Gated {
		g.discard()
		return
	}
	if g.Elder != nil {
		g.Handoff.Release() // one that waits takes no signal
	}
	g.leave()
	signal := g.Spec.StopSignal
	select {
	case <-g.Executed:
	default:
		// Still the shim, which has nothing to put in order and might swallow
		// another signal; but for one that was ready already, faster than it was heard of.
		if g.ReadyAfter == 0 {
			signal = unix.SIGKILL
		}
	}
	g.Options.Log.Info("stopping the worker", g.Told("reason", why, "signal", ends.SignalName(signal))...)
	g.signal(signal)
	// One that was stopped, as by Ctrl-Z, takes it only when it goes on; systemd.kill(5) does the same.
	g.signal(unix.SIGCONT)
	if g.Spec.StopAll && signal != unix.SIGKILL {
		g.tree.Signal(g.Process.Pid, signal)
	}
}

// leave is the beginning of the end.
func (g *Generation) leave() {
	hung := g.Hung // and goes on doing so
	g.cancel()
	g.stopLimit = g.Spec.StopTimeout
	if len(g.Hung) > 0 {
		g.stopLimit = min(g.stopLimit, g.alive.StopTimeout)
	}
	g.enter(Stopping, g.stopLimit)
	g.Ceased = g.Since
	g.stopUntil, g.Hung = g.Until, hung
}

// kill ends what has not ended by itself.
func (g *Generation) kill(e Event) {
	switch {
	case e.Kind == HurryAsked:
		g.Options.Log.Warn("killing the worker now, as was asked for", g.Told()...)
	case g.headless && time.Until(g.stopUntil) > 0 && g.restServes():
		g.SetLimit(min(restPause, time.Until(g.stopUntil)))
		return
	case g.headless:
		g.Options.Log.Warn("what the main process of the worker has left does not end, killing it", g.Told()...)
	default:
		g.Options.Log.Warn("the worker has not ended in its time, killing it", g.Told("stop_timeout", g.stopLimit)...)
	}
	g.killRest()
	g.signal(unix.SIGKILL)
}

// restServes reports whether what the main process has left still answers somebody; nobody does where all have ended meanwhile.
func (g *Generation) restServes() bool {
	var left []int
	for _, process := range g.tree.Left(g.Process.Pid) {
		left = append(left, process.PID)
	}
	return len(left) > 0 && g.Options.Serving(left)
}

// restPause is between two looks whether what the main process has left still answers somebody: nothing tells.
const restPause = time.Second

// defaultRestTimeout is how long what the main process has left may take to end, unless it answers somebody: one that is deaf
// to the signal must not keep the clients waiting.
const defaultRestTimeout = 10 * time.Second

// behead is told that the main process has ended, and that others of the generation live. They have got the signal.
func (g *Generation) behead(e Event) {
	if g.Stage != Stopping {
		g.leave()
	}
	g.headless, g.code = true, e.Exit.Code
	if g.Kind() == handoff.Preload {
		g.closeUnheld()
	}
	if g.Gated { // it has served nobody, and may be frozen
		g.killRest()
	}
	g.SetLimit(max(1, min(time.Until(g.stopUntil), cmp.Or(g.Options.RestTimeout, defaultRestTimeout))))
}

// Ending is why the generation ends, as far as that is known before it has ended, with the exit code of a main process that has crashed.
func (g *Generation) Ending() (reason ends.Reason, code int) {
	switch {
	case g.Why != "" || !g.headless:
		return g.Why, 0
	case g.code == 0 && g.ReadyAfter > 0:
		return ends.ReasonRestart, 0
	default:
		return ends.ReasonCrash, g.code
	}
}

func (g *Generation) signal(signal syscall.Signal) {
	if err := g.Process.Signal(signal); err != nil {
		g.Options.Log.Debug("the worker has ended already", "generation", g.Number, "error", err)
	}
}

// end says why the generation has ended.
func (g *Generation) end(e Event) {
	exit := e.Exit
	switch {
	case g.Stage == Stopping && g.Why != "":
		exit.Reason, exit.Detail = g.Why, g.detail
	case g.ReadyAfter > 0 && exit.Code == 0:
		exit.Reason = ends.ReasonRestart
		exit.Detail = cmp.Or(g.seen(exit).Background(), "the worker itself asked for the restart, or somebody else told it to end")
	default:
		end := g.seen(exit)
		exit.Reason = ends.ReasonCrash
		if end.OOM() {
			exit.Reason = ends.ReasonOOM
		}
		if g.ReadyAfter == 0 && g.clash.IsValid() {
			exit.Detail = cmp.Or(exit.Detail, g.explain(nil))
		}
		exit.Detail = cmp.Or(exit.Detail, end.Advice())
	}
	exit.Successor, exit.Prewarmed = g.Gated, g.Prewarmed()
	exit.ReadyAfter, exit.Cached, exit.GateAfter, exit.ReleasedAfter = g.ReadyAfter, g.Cached, g.GateAfter, g.ReleasedAfter()
	exit.Stall = g.Stall
	g.enter(gone, 0)
	g.tell(Event{Kind: Ended, Generation: g.Number, Exit: exit})
}

// Kind is how the worker comes by the sockets, as far as it is seen.
func (g *Generation) Kind() handoff.Kind {
	kind := g.Handoff.Kind()
	switch {
	case g.Bound:
		return handoff.Intercept
	case kind == handoff.Auto && g.loaded:
		return handoff.Preload
	case kind == handoff.Auto && g.ReadyAfter > 0:
		return handoff.ListenFDs
	}
	return kind
}

// tells reports whether the handoff tells on which addresses the worker listens.
func (g *Generation) tells() bool {
	return g.Kind() == handoff.Preload || g.Kind() == handoff.Intercept
}

// filter reports whether the worker was to get the sockets for binding their addresses.
func (g *Generation) filter() bool {
	order := g.Handoff.Shim()
	return order != nil && order.Filter != nil
}

// MayBind reports whether the worker, which has not served, may be one that binds its address itself, and could not: the next one is
// given the sockets for that, at the price of no_new_privs. An end counts that says nothing else.
func (g *Generation) MayBind(exit *ends.Exit) bool {
	kind := g.Handoff.Kind()
	switch {
	case g.Spec.Handoff != handoff.Auto, g.Binds, g.ReadyAfter > 0, g.filter() && !g.unfiltered, !why.MayBind(g.Spec.Command, kind),
		len(g.Listening) > 0, len(g.elsewhere) > 0, g.clash.IsValid(), // its addresses are what is wrong
		g.OpenClaw.Release != "" && why.Away(g.Spec.Command, kind) == "": // which listens itself
		return false
	}
	return exit == nil || exit.Reason == ends.ReasonCrash && exit.Code > 0 && exit.Code < notExecuted && !slices.Contains(g.Spec.FatalExitCodes, exit.Code)
}

// notExecuted is the first of the exit codes by which a shell and env say that they have not executed a program.
const notExecuted = 126

// seen is what a generation was seen to do until its end.
func (g *Generation) seen(exit ends.Exit) why.End {
	return why.End{
		Code: exit.Code, Signal: exit.Signal, Ready: g.ReadyAfter > 0, Lived: exit.Lived, Strays: len(exit.Strays), OOMKills: g.tree.OOMKills,
		Restart: g.Options.Restart, Command: g.Spec.Command, Directory: g.Spec.Directory, Served: g.Served,
		Handoff: g.Kind(), Auto: g.Spec.Handoff == handoff.Auto, Filtered: g.filter() && !g.unfiltered && g.obstacle == "", Listened: len(g.Listening) > 0, Held: why.Join(addresses(g.Spec.Sockets)),
	}
}

// await waits for the end of the main process, and returns when the last
// process of the generation has gone.
func (g *Generation) await(heard func()) ends.Exit {
	pid := g.leader.Await(heard).Pid
	exit := ends.Exit{Generation: g.Number, PID: pid, Code: -1, At: time.Now(), Lived: time.Since(g.Started)}
	g.tree.MainEnded()
	exit.Strays = g.tree.Left(pid)
	if len(exit.Strays) > 0 {
		g.Events <- Event{Kind: Beheaded, Generation: g.Number, Exit: ends.Exit{Code: leader.Status(pid)}}
		g.tree.Linger(g.rest, pid, g.Spec.StopSignal)
	}
	killed, err := g.tree.End(pid)
	if err != nil {
		g.Options.Log.Error("cannot end everything that a generation has left", "generation", g.Number, "error", err)
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
