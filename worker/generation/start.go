package generation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/handoff/shim"
	"openclaw-gateway/worker/leader"
	"openclaw-gateway/worker/nodejs"
	"openclaw-gateway/worker/notify"
	"openclaw-gateway/worker/probe"
	"openclaw-gateway/worker/spawn"
	"openclaw-gateway/worker/tree"
	"openclaw-gateway/worker/why"
)

// birth is what it takes to start a generation.
type birth struct {
	*Generation
	given   []string      // the worker's environment, by the launcher's and the spec
	marks   []string      // and the launcher's own entries
	place   string        // where its socket and script are
	program spawn.Program // what the worker is
	control *net.UnixConn // the launcher's end of the shim's; nil without one
	remote  *os.File      // and the shim's
	undo    []func() error
}

// Prepare makes what the worker needs, in steps, each of which says how it is undone when one of those behind it fails.
func (g *Generation) Prepare() error {
	if g.Options.MendOutput != nil {
		g.Options.MendOutput()
	}
	g.birth = &birth{Generation: g}
	return g.birth.do(g.birth.findPlace, g.birth.plantTree, g.birth.findProgram, g.birth.openNotify, g.birth.prepareHandoff, g.birth.hasten, g.birth.prepareAhead)
}

// Start starts the worker, and prepares what has not been prepared. What the worker does from then on comes as events.
func (g *Generation) Start() error {
	if g.birth == nil {
		if err := g.Prepare(); err != nil {
			return err
		}
	}
	b := g.birth
	g.birth = nil
	g.Started = time.Now()
	limit := g.Spec.ReadyTimeout
	if g.Ahead {
		limit = g.Spec.PrewarmTimeout
		g.yield(true)
	}
	g.enter(Starting, limit)
	if err := b.do(b.openControl, b.startProcess); err != nil {
		return err
	}
	if g.Ahead {
		g.giveWay()
	}
	b.follow(leader.New(b.Process, b.Trees.Waited), b.probe, b.become)
	return nil
}

// Drop takes back what was prepared.
func (g *Generation) Drop() error { return g.birth.takeBack() }

func (b *birth) do(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return errors.Join(err, b.takeBack())
		}
	}
	return nil
}

func (b *birth) takeBack() (err error) {
	for _, undo := range slices.Backward(b.undo) {
		err = errors.Join(err, undo())
	}
	return err
}

func (b *birth) findPlace() (err error) {
	b.place, err = b.Options.Place()
	return err
}

func (b *birth) plantTree() (err error) {
	if b.tree, err = b.Trees.Generation(b.Number); err != nil {
		return err
	}
	b.undo = append(b.undo, b.tree.Drop)
	b.given, b.marks = slices.Concat(os.Environ(), b.Spec.Environment), b.tree.Environment
	return nil
}

func (b *birth) findProgram() error {
	if b.Spec.Directory == "" {
		if b.Spec.Directory = handoff.Directory(b.Spec.Home); b.Spec.Directory != b.Spec.Home {
			b.Options.Log.Info("the worker starts in /: its home cannot be entered", "generation", b.Number, "home", b.Spec.Home)
		}
	}
	// The error of the start would not tell which file it misses.
	if info, err := os.Stat(b.Spec.Directory); err != nil {
		return fmt.Errorf("worker.directory: %w", err)
	} else if !info.IsDir() {
		return fmt.Errorf("worker.directory: %s is not a directory", b.Spec.Directory)
	}
	path, err := handoff.Lookup(b.Spec.Command[0], b.Spec.Directory, tree.Environment(b.given, b.marks...))
	if err != nil {
		return fmt.Errorf("worker.command: %w", err)
	}
	b.program = spawn.Program{Path: path, Argv: b.Spec.Command, Directory: b.Spec.Directory}
	return nil
}

func (b *birth) openNotify() (err error) {
	if b.notify, err = notify.New(b.place, b.Number); err != nil {
		return err
	}
	b.undo = append(b.undo, b.notify.Close)
	b.marks = append(b.marks, "NOTIFY_SOCKET="+b.notify.Path)
	if promised := b.Spec.Alive.Watchdog; promised > 0 {
		// Without WATCHDOG_PID it is for whichever process of the worker cares, sd_watchdog_enabled(3).
		b.marks = append(b.marks, fmt.Sprintf("WATCHDOG_USEC=%d", promised.Microseconds()))
	}
	return nil
}

func (b *birth) prepareHandoff() error {
	kind, err := handoff.Choose(b.Spec.Handoff, b.program.Path)
	if err != nil {
		return fmt.Errorf("worker.handoff: %w", err)
	}
	b.Binds = b.Binds || kind == handoff.Preload && why.StartsAnother(b.Spec.Command) // nothing else gets the sockets there
	if b.Elder != nil && !b.Ahead {
		if held := b.canWait(kind); held != "" {
			kind = held
		} else {
			b.gate = open()
			b.Apart = why.WithoutGate(kind)
		}
	}
	besides := handoff.Nothing
	switch {
	case b.Spec.Handoff == handoff.Auto && b.Binds:
		besides = handoff.Anyhow
	case b.Spec.Handoff == handoff.Auto:
		besides = handoff.Free
	}
	if b.Handoff, err = handoff.New(kind, besides, b.holds(), b.Spec.Sockets, tree.Environment(b.given, b.marks...), b.place, b.tree.Processes); err != nil {
		return err
	}
	b.undo = append(b.undo, b.Handoff.Close)
	b.marks = append(b.marks, b.Handoff.Env()...)
	b.program.Environ, b.program.Files = tree.Environment(b.given, b.marks...), b.Handoff.Files()
	return nil
}

// hasten has a Node.js that is started directly start sooner: it finds its modules without its own search, and keeps what it has
// compiled. That it cannot is no reason not to start it.
func (b *birth) hasten() error {
	argv, directory := b.Spec.Command, b.Spec.Directory
	if !b.Spec.Cache || !handoff.Direct(b.program.Path, argv, directory) {
		return nil
	}
	marks, err := nodejs.Resolve(argv, directory, b.place, tree.Environment(b.given, b.marks...))
	if err != nil {
		b.Options.Log.Warn("the worker finds its modules as without worker.cache", "generation", b.Number, "error", err)
	}
	b.marks = append(b.marks, marks...)
	if b.Options.Cache != nil && handoff.Caches(tree.Environment(b.given, b.marks...)) {
		if b.Cache, err = b.Options.Cache(); err == nil {
			b.marks = append(b.marks, "NODE_COMPILE_CACHE="+b.Cache)
			if b.Handoff.Reports() == nil { // it will not tell
				there, _ := os.ReadDir(b.Cache)
				b.Cached = len(there) > 0
			}
		} else {
			b.Uncached = "the worker was started without a compile cache: " + err.Error()
			b.Options.Log.Warn("the worker starts without a compile cache", "generation", b.Number, "error", err)
		}
	}
	b.program.Environ = tree.Environment(b.given, b.marks...)
	return nil
}

func (b *birth) openControl() (err error) {
	if b.control != nil || (b.Handoff.Shim() == nil && !b.tree.Outside) {
		return nil
	}
	if b.control, b.remote, err = handoff.ShimControl(); err != nil {
		return err
	}
	b.undo = append(b.undo, b.control.Close, b.remote.Close)
	return nil
}

func (b *birth) startProcess() (err error) {
	if b.Gated {
		b.tree.Gate()
	}
	b.Process, err = b.Spawn.Start(b.first(), b.tree)
	if err != nil && b.tree.RefusesBirth() {
		b.Options.Log.Debug("the worker is moved into its cgroup: it cannot be born there", "generation", b.Number, "error", err)
		// Nothing of the worker's runs elsewhere: what is moved is the shim, which waits for its command.
		b.tree.Outside = true
		if err = b.openControl(); err == nil {
			b.Process, err = b.Spawn.Start(b.first(), b.tree)
		}
	}
	if err != nil {
		return fmt.Errorf("start the worker in %s: %w", b.Spec.Directory, err)
	}
	b.Handoff.Started(b.Process.Pid)
	if b.modules != nil {
		b.modules.Started()
	}
	if b.control != nil {
		_ = b.remote.Close()
	}
	return nil
}

// first is what the process is at first: the shim, or the worker itself.
func (b *birth) first() spawn.Program {
	first := b.program
	if b.control != nil {
		// The program that runs now, also when its file has been replaced.
		first.Path, first.Argv = "/proc/self/exe", []string{"gateway", "shim"}
		first.Environ = append(slices.Clone(first.Environ), shim.Variable+"="+strconv.Itoa(3+len(first.Files)))
		first.Files = append(slices.Clone(first.Files), b.remote)
	}
	return first
}

// become has the shim become the worker, and returns when it has.
func (b *birth) become() error {
	if b.control == nil {
		return nil
	}
	defer b.control.Close()
	order := cmp.Or(b.Handoff.Shim(), &handoff.Order{})
	if order.ListenPID {
		b.marks = append(b.marks, "LISTEN_PID="+strconv.Itoa(b.Process.Pid))
	}
	return handoff.Send(b.control, shim.Command{
		Path: b.program.Path, Argv: b.program.Argv, Env: tree.Environment(b.given, b.marks...),
	}, *order)
}

// follow watches the worker until its end: whose main process is led so, with a probe that returns when it is ready, and become, which
// has the process become the worker.
func (g *Generation) follow(main *leader.Leader, probe func(context.Context), become func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel, g.over = cancel, ctx.Done()
	reportsEnd, probesEnd, notifyEnd := make(chan struct{}), make(chan struct{}), make(chan struct{})
	g.probesEnd, g.leader = probesEnd, main
	go func() {
		defer close(reportsEnd)
		g.readReports()
	}()
	if g.Ahead && g.modules != nil { // nil: a program before this one has been told all that there was
		go g.readAhead()
	}
	go func() {
		defer close(notifyEnd)
		g.notify.Watch(func(pid int) bool { return g.tree.Holds(pid, g.leader.Process().Pid) }, g.hear)
	}()
	var probes context.Context
	probes, g.endProbes = context.WithCancel(ctx)
	go func() {
		defer close(probesEnd)
		probe(probes)
	}()
	go func() {
		spawned := become()
		close(g.Executed)
		exit := g.await(g.notify.Flush)
		close(g.unheard)
		_ = g.notify.Close()
		<-notifyEnd
		if spawned != nil {
			exit.Detail = spawned.Error()
		}
		// The last report, why it could not listen perhaps, belongs before the
		// end; a stray that holds the pipe open must not delay it for long.
		select {
		case <-reportsEnd:
		case <-time.After(time.Second):
		}
		cancel()
		_ = g.Handoff.Close()
		if g.modules != nil {
			_ = g.modules.Close()
		}
		<-probesEnd
		if err := g.own.Discard(addresses(g.Spec.Sockets), g.Spec.Queues); err != nil {
			g.Options.Log.Warn("a request of the launcher's own stays in the queue", "generation", g.Number, "error", err)
		}
		g.Events <- Event{Kind: Ended, Generation: g.Number, Exit: exit}
	}()
}

func (g *Generation) readReports() {
	reports := g.Handoff.Reports()
	for reports != nil {
		report, err := reports.Next()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, os.ErrClosed):
			return
		case err != nil: // whoever runs in the worker can write there
			g.Options.Log.Debug("the worker reports something that is not understood", "generation", g.Number, "error", err)
		case report.Event == handoff.Arrived:
			g.send(Event{Kind: Arrived, Report: report})
		default:
			g.note(Event{Kind: Reported, Report: report}) // what it closes while it is being stopped, too
		}
	}
}

// defaultAnswerTimeout is how long a request of the launcher's may go unanswered
// once the worker has taken it from the queue.
const defaultAnswerTimeout = 3 * time.Second

// firstServed is how long a worker that was held at its gate has to itself when it listens, so that it answers those who have waited
// meanwhile: what follows when it is ready would take the processors from it for some milliseconds.
const firstServed = 10 * time.Millisecond

func (g *Generation) prober() probe.Prober {
	return probe.Prober{
		AnswerTimeout: cmp.Or(g.Options.AnswerTimeout, defaultAnswerTimeout), Unaccepted: g.Spec.Queues.Unaccepted,
		Reach: g.Spec.Queues.Reach, QueuedOn: g.Spec.Queues.QueuedOn, Displaced: g.Spec.Queues.Displaced, Connected: g.own.Add, Answered: g.own.Answered,
	}
}

// target is where a path leads that the configuration names: to the first address that can be asked. A path that can be asked for
// nowhere leads nowhere.
func (g *Generation) target(path string) (target probe.Target, can bool) {
	can = !strings.HasPrefix(path, "/")
	var at netaddr.Address
	for _, socket := range g.Spec.Sockets {
		if address, reached := g.Spec.Queues.Reach(socket.Address); reached {
			at, can = address, true
			break
		}
	}
	target = probe.At(at, path)
	target.Host = g.Spec.ReadyHost
	return target, can
}

// probe waits, in the way that ready.probe asks for, until the worker is ready.
// READY=1 of the worker is awaited elsewhere, at the same time.
func (g *Generation) probe(ctx context.Context) {
	if g.Spec.Probe == ProbeNotify {
		return
	}
	waited := false
	select {
	case <-g.passed:
	default:
		waited = true
		select {
		case <-g.passed:
		case <-ctx.Done():
			return // before, another one would answer
		}
	}
	said := func(text string) { g.send(Event{Kind: Probed, Text: text}) }
	probes := g.prober()
	path := g.Spec.Probe == ProbeHTTP || (g.Spec.Probe == ProbeAuto && g.Spec.ReadyPath != "")
	kind := g.Handoff.Kind()
	tells, answered := kind == handoff.Preload || kind == handoff.Intercept, false
	switch {
	case tells:
		select {
		case <-g.adopted:
		case <-ctx.Done():
			return
		}
		if waited && kind == handoff.Preload { // intercept tells later by itself
			select {
			case <-time.After(firstServed):
			case <-ctx.Done():
				return
			}
		}
	case path:
	case g.Handoff.Reports() != nil: // it may tell, and need not
		var err error
		if tells, err = g.awaitEither(ctx, probes, said); err != nil {
			return
		}
		answered = !tells
	case probes.AwaitAnswers(ctx, addresses(g.wanted()), said) != nil:
		return
	}
	if path && g.awaitPath(ctx, probes, said) != nil {
		return
	}
	g.send(Event{Kind: BecameReady, adopted: tells, answered: answered})
}

// awaitEither returns nil when the worker tells that it listens, if it can, or takes a request from each queue.
func (g *Generation) awaitEither(ctx context.Context, probes probe.Prober, said func(string)) (tells bool, err error) {
	asking, enough := context.WithCancel(ctx)
	defer enough()
	go func() {
		select {
		case <-g.adopted:
			enough()
		case <-asking.Done():
		}
	}()
	err = probes.AwaitAnswers(asking, addresses(g.wanted()), said)
	select {
	case <-g.adopted:
		return true, ctx.Err()
	default:
		return false, err
	}
}

func (g *Generation) awaitPath(ctx context.Context, probes probe.Prober, said func(string)) error {
	target, can := g.target(g.Spec.ReadyPath)
	if !can {
		return probes.AwaitAnswers(ctx, addresses(g.wanted()), said)
	}
	shown, _ := g.target(cmp.Or(g.Spec.ReadyShown, g.Spec.ReadyPath))
	return probes.AwaitPath(ctx, target, shown, said)
}
