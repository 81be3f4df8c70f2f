package worker

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

	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/handoff/shim"
	"openclaw-gateway/worker/leader"
	"openclaw-gateway/worker/notify"
	"openclaw-gateway/worker/probe"
	"openclaw-gateway/worker/tree"
)

// birth is what it takes to start a generation.
type birth struct {
	*generation
	given   []string // the worker's environment, by the launcher's and the spec
	marks   []string // and the launcher's own entries
	place   string   // where its socket and script are
	program program  // what the worker is
	notify  *notify.Socket
	control *net.UnixConn // the launcher's end of the shim's; nil without one
	remote  *os.File      // and the shim's
	undo    []func() error
}

// prepare makes what the worker needs, in steps, each of which says how it is undone when one of those behind it fails.
func (g *generation) prepare() error {
	if g.options.MendOutput != nil {
		g.options.MendOutput()
	}
	g.birth = &birth{generation: g}
	return g.birth.do(g.birth.findPlace, g.birth.plantTree, g.birth.findProgram, g.birth.openNotify, g.birth.prepareHandoff)
}

// start starts the worker, and prepares what has not been prepared. What the worker does from then on comes as events.
func (g *generation) start() error {
	if g.birth == nil {
		if err := g.prepare(); err != nil {
			return err
		}
	}
	b := g.birth
	g.birth = nil
	g.started = time.Now()
	g.enter(starting, g.spec.ReadyTimeout)
	if err := b.do(b.openControl, b.startProcess); err != nil {
		return err
	}
	b.follow()
	return nil
}

// drop takes back what was prepared.
func (g *generation) drop() error { return g.birth.takeBack() }

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
	b.place, err = b.options.Place()
	return err
}

func (b *birth) plantTree() (err error) {
	if b.tree, err = b.trees.Generation(b.number); err != nil {
		return err
	}
	b.undo = append(b.undo, b.tree.Drop)
	b.given, b.marks = slices.Concat(os.Environ(), b.spec.Environment), b.tree.Environment
	return nil
}

func (b *birth) findProgram() error {
	// The error of the start would not tell which file it misses.
	if info, err := os.Stat(b.spec.Directory); err != nil {
		return fmt.Errorf("worker.directory: %w", err)
	} else if !info.IsDir() {
		return fmt.Errorf("worker.directory: %s is not a directory", b.spec.Directory)
	}
	path, err := handoff.Lookup(b.spec.Command[0], b.spec.Directory, tree.Environment(b.given, b.marks...))
	if err != nil {
		return fmt.Errorf("worker.command: %w", err)
	}
	b.program = program{path: path, argv: b.spec.Command, directory: b.spec.Directory}
	return nil
}

func (b *birth) openNotify() (err error) {
	if b.notify, err = notify.New(b.place, b.number); err != nil {
		return err
	}
	b.undo = append(b.undo, b.notify.Close)
	b.marks = append(b.marks, "NOTIFY_SOCKET="+b.notify.Path)
	if promised := b.spec.Alive.Watchdog; promised > 0 {
		// Without WATCHDOG_PID it is for whichever process of the worker cares, sd_watchdog_enabled(3).
		b.marks = append(b.marks, fmt.Sprintf("WATCHDOG_USEC=%d", promised.Microseconds()))
	}
	return nil
}

func (b *birth) prepareHandoff() error {
	kind, err := handoff.Choose(b.spec.Handoff, b.program.path, b.spec.Command)
	if err != nil {
		return fmt.Errorf("worker.handoff: %w", err)
	}
	if b.handoff, err = handoff.New(kind, b.spec.Handoff == handoff.Auto, b.spec.Sockets, tree.Environment(b.given, b.marks...), b.place); err != nil {
		return err
	}
	b.undo = append(b.undo, b.handoff.Close)
	b.marks = append(b.marks, b.handoff.Env()...)
	b.program.environ, b.program.files = tree.Environment(b.given, b.marks...), b.handoff.Files()
	return nil
}

func (b *birth) openControl() (err error) {
	if b.control != nil || (b.handoff.Shim() == nil && !b.tree.Outside) {
		return nil
	}
	if b.control, b.remote, err = handoff.ShimControl(); err != nil {
		return err
	}
	b.undo = append(b.undo, b.control.Close, b.remote.Close)
	return nil
}

func (b *birth) startProcess() (err error) {
	b.process, err = b.spawn.start(b.first(), b.tree)
	if err != nil && b.tree.RefusesBirth() {
		b.options.Log.Debug("the worker is moved into its cgroup: it cannot be born there", "generation", b.number, "error", err)
		// Nothing of the worker's runs elsewhere: what is moved is the shim, which waits for its command.
		b.tree.Outside = true
		if err = b.openControl(); err == nil {
			b.process, err = b.spawn.start(b.first(), b.tree)
		}
	}
	if err != nil {
		return fmt.Errorf("start the worker in %s: %w", b.spec.Directory, err)
	}
	b.handoff.Started(b.process.Pid)
	if b.control != nil {
		_ = b.remote.Close()
	}
	return nil
}

// first is what the process is at first: the shim, or the worker itself.
func (b *birth) first() program {
	first := b.program
	if b.control != nil {
		// The program that runs now, also when its file has been replaced.
		first.path, first.argv = "/proc/self/exe", []string{"gateway", "shim"}
		first.environ = append(slices.Clone(first.environ), shim.Variable+"="+strconv.Itoa(3+len(first.files)))
		first.files = append(slices.Clone(first.files), b.remote)
	}
	return first
}

// become has the shim become the worker, and returns when it has.
func (b *birth) become() error {
	if b.control == nil {
		return nil
	}
	defer b.control.Close()
	if order := b.handoff.Shim(); order != nil && order.ListenPID {
		b.marks = append(b.marks, "LISTEN_PID="+strconv.Itoa(b.process.Pid))
	}
	return handoff.Send(b.control, shim.Command{
		Path: b.program.path, Argv: b.program.argv, Env: tree.Environment(b.given, b.marks...),
	})
}

// follow watches the worker until its end.
func (b *birth) follow() {
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel, b.over = cancel, ctx.Done()
	reportsEnd, probesEnd, notifyEnd := make(chan struct{}), make(chan struct{}), make(chan struct{})
	b.probesEnd = probesEnd
	go func() {
		defer close(reportsEnd)
		b.readReports()
	}()
	b.leader = leader.New(b.process, b.trees.Waited)
	go func() {
		defer close(notifyEnd)
		b.notify.Watch(func(pid int) bool { return b.tree.Holds(pid, b.leader.Process().Pid) }, b.hear)
	}()
	var probes context.Context
	probes, b.endProbes = context.WithCancel(ctx)
	go func() {
		defer close(probesEnd)
		b.probe(probes)
	}()
	go func() {
		spawned := b.become()
		close(b.executed)
		exit := b.await(b.notify.Flush)
		close(b.unheard)
		_ = b.notify.Close()
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
		_ = b.handoff.Close()
		<-probesEnd
		if err := b.discardProbe(); err != nil {
			b.options.Log.Warn("a request of the launcher's own stays in the queue", "generation", b.number, "error", err)
		}
		b.events <- event{kind: ended, generation: b.number, exit: exit}
	}()
}

func (g *generation) readReports() {
	reports := g.handoff.Reports()
	for reports != nil {
		report, err := reports.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil { // whoever runs in the worker can write there
			g.options.Log.Debug("the worker reports something that is not understood", "generation", g.number, "error", err)
			continue
		}
		g.send(event{kind: reported, report: report})
	}
}

// defaultAnswerTimeout is how long a request of the launcher's may go unanswered
// once the worker has taken it from the queue.
const defaultAnswerTimeout = 3 * time.Second

func (g *generation) prober() probe.Prober {
	return probe.Prober{
		AnswerTimeout: cmp.Or(g.options.answerTimeout, defaultAnswerTimeout), Unaccepted: g.spec.Queues.Unaccepted,
		Reach: g.spec.Queues.Reach, QueuedOn: g.spec.Queues.QueuedOn, Connected: g.own.Add, Answered: g.own.Answered,
	}
}

// url is where a path leads that the configuration names: to the first address that can be asked. A path that can be asked for
// nowhere leads to "".
func (g *generation) url(path string) string {
	for _, socket := range g.spec.Sockets {
		if target, can := g.spec.Queues.Reach(socket.Address); can {
			return probe.URL(target, path)
		}
	}
	if strings.HasPrefix(path, "/") {
		return ""
	}
	return path
}

// probe waits, in the way that ready.probe asks for, until the worker is ready.
// READY=1 of the worker is awaited elsewhere, at the same time.
func (g *generation) probe(ctx context.Context) {
	if g.spec.Probe == ProbeNotify {
		return
	}
	said := func(text string) { g.send(event{kind: probed, text: text}) }
	probes := g.prober()
	path := g.spec.Probe == ProbeHTTP || (g.spec.Probe == ProbeAuto && g.spec.ReadyPath != "")
	tells := g.handoff.Kind() == handoff.Preload
	switch {
	case tells:
		select {
		case <-g.adopted:
		case <-ctx.Done():
			return
		}
	case path:
	case g.handoff.Kind() == handoff.Auto:
		var err error
		if tells, err = g.awaitEither(ctx, probes, said); err != nil {
			return
		}
	case probes.AwaitAnswers(ctx, addresses(g.spec.Sockets), said) != nil:
		return
	}
	if path && g.awaitPath(ctx, probes, said) != nil {
		return
	}
	g.send(event{kind: becameReady, adopted: tells})
}

// awaitEither returns nil when the worker tells that it listens, if it can, or takes a request from each queue.
func (g *generation) awaitEither(ctx context.Context, probes probe.Prober, said func(string)) (tells bool, err error) {
	asking, enough := context.WithCancel(ctx)
	defer enough()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-g.adopted:
			enough()
		case <-stop:
		}
	}()
	err = probes.AwaitAnswers(asking, addresses(g.spec.Sockets), said)
	select {
	case <-g.adopted:
		return true, ctx.Err()
	default:
		return false, err
	}
}

func (g *generation) awaitPath(ctx context.Context, probes probe.Prober, said func(string)) error {
	target := g.url(g.spec.ReadyPath)
	if target == "" {
		return probes.AwaitAnswers(ctx, addresses(g.spec.Sockets), said)
	}
	return probes.AwaitPath(ctx, target, g.url(cmp.Or(g.spec.ReadyShown, g.spec.ReadyPath)), said)
}
