package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/worker/cgroup"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/handoff/shim"
)

// generation is one life of the worker. The supervisor's goroutine owns it; the
// goroutines that watch it send events.
type generation struct {
	number  int
	spec    Spec
	handoff handoff.Handoff
	process *os.Process
	group   *cgroup.Group // nil where there is none
	started time.Time
	// cancel ends what watches the generation, but not the wait for its end.
	cancel context.CancelCauseFunc
	// over is closed by cancel.
	over <-chan struct{}
	// deserted runs while the worker lives on without a listener that it had.
	deserted *time.Timer

	// What a reporting handoff has told.
	listening map[netip.AddrPort]bool
	released  bool             // it has let go of an address that it had, before it was ready
	closed    []netip.AddrPort // held addresses on which it no longer listens
	elsewhere []netip.AddrPort // fixed ports that are not the launcher's
	clash     netip.AddrPort   // an address in use that it wanted besides
	adopted   chan struct{}    // closed when it listens on every held address

	executed chan struct{} // closed when the process has become the worker, or could not

	own *ownConnections
	// endProbes ends the launcher's requests, of which one may be under way when
	// the worker says itself that it is ready; probesEnd is closed after the last.
	endProbes context.CancelFunc
	probesEnd <-chan struct{}
	probed    string // what the last probe was answered with
	why       Reason // why it was told to end
	detail    string
}

// kind of an event.
type kind int

const (
	clientWaits  kind = iota
	restartAsked      // by somebody, or by a new spec
	stopAsked         // the launcher ends
	hurryAsked        // the launcher ends, and somebody is tired of waiting
	becameReady       // the generation serves
	idled             // no client has been connected for long enough
	lost              // the generation cannot serve: it must be replaced
	reported          // the handoff tells what the worker listens on
	probed            // a probe was answered with something else than ready
	ended             // the last process of the generation has gone
	timeUp            // the timer of the state
)

type event struct {
	kind       kind
	generation int // whose it is; 0: nobody's
	report     handoff.Report
	exit       Exit
	err        error
	text       string
	adopted    bool // becameReady because it listens, not because it said so
}

// newGeneration starts the worker. What it does from now on comes as events.
func newGeneration(number int, spec Spec, o Options, trees *trees, spawn spawner, events chan<- event) (_ *generation, err error) {
	g := &generation{
		number: number, spec: spec, listening: map[netip.AddrPort]bool{},
		own:     new(ownConnections),
		adopted: make(chan struct{}), executed: make(chan struct{}), started: time.Now(),
	}
	if err := spec.Queues.Restore(); err != nil {
		return nil, err
	}
	var undo []func() error
	defer func() {
		if err != nil {
			for _, f := range slices.Backward(undo) {
				err = errors.Join(err, f())
			}
		}
	}()

	// The error of the start would not tell which file it misses.
	if info, err := os.Stat(spec.Directory); err != nil {
		return nil, fmt.Errorf("worker.directory: %w", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("worker.directory: %s is not a directory", spec.Directory)
	}
	given, own := slices.Concat(os.Environ(), spec.Environment), []string{
		"GATEWAY_GENERATION=" + strconv.Itoa(number), markKey + "=" + trees.mark(),
	}
	environ := environment(given, own...)
	path, err := handoff.Lookup(spec.Command[0], spec.Directory, environ)
	if err != nil {
		return nil, fmt.Errorf("worker.command: %w", err)
	}
	chosen, err := handoff.Choose(spec.Handoff, path, spec.Command)
	if err != nil {
		return nil, fmt.Errorf("worker.handoff: %w", err)
	}
	var notify *notifySocket
	if spec.Probe == ProbeAuto || spec.Probe == ProbeNotify {
		if notify, err = newNotifySocket(o.Directory, number); err != nil {
			return nil, err
		}
		undo = append(undo, notify.Close)
		own = append(own, "NOTIFY_SOCKET="+notify.path)
	}
	if g.handoff, err = handoff.New(chosen, spec.Sockets, environ, o.Directory); err != nil {
		return nil, err
	}
	undo = append(undo, g.handoff.Close)
	own = append(own, g.handoff.Env()...)
	worker := program{
		path: path, argv: spec.Command, environ: environment(given, own...), directory: spec.Directory, files: g.handoff.Files(),
	}
	first, become := worker, func() error { return nil }
	if order := g.handoff.Shim(); order != nil {
		control, remote, err := handoff.ShimControl()
		if err != nil {
			return nil, err
		}
		defer remote.Close()
		undo = append(undo, control.Close)
		// The program that runs now, also when its file has been replaced.
		first.path, first.argv = "/proc/self/exe", []string{"gateway", "shim"}
		first.environ = append(slices.Clone(environ), shim.Variable+"="+strconv.Itoa(3+len(worker.files)))
		first.files = append(slices.Clone(worker.files), remote)
		become = func() error {
			defer control.Close()
			if order.ListenPID {
				own = append(own, "LISTEN_PID="+strconv.Itoa(g.process.Pid))
			}
			return handoff.Send(control, shim.Command{Path: worker.path, Argv: worker.argv, Env: environment(given, own...)})
		}
	}
	if g.group, err = trees.make(number); err != nil {
		return nil, err
	}
	if g.group != nil {
		undo = append(undo, g.group.Remove)
	}
	if g.process, err = spawn.start(first, g.group, trees.reaper); err != nil {
		return nil, fmt.Errorf("start the worker in %s: %w", spec.Directory, err)
	}
	g.handoff.Started(g.process.Pid)

	ctx, cancel := context.WithCancelCause(context.Background())
	g.cancel, g.over = cancel, ctx.Done()
	send := func(e event) {
		e.generation = number
		select {
		case events <- e:
		case <-ctx.Done():
		}
	}
	reportsEnd := make(chan struct{})
	if reports := g.handoff.Reports(); reports != nil {
		go g.readReports(reports, send, reportsEnd)
	} else {
		close(reportsEnd)
	}
	if notify != nil {
		go notify.watch(g.process.Pid, func() { send(event{kind: becameReady}) })
		context.AfterFunc(ctx, func() { _ = notify.Close() })
	}
	probing := make(chan struct{})
	g.probesEnd = probing
	var probes context.Context
	probes, g.endProbes = context.WithCancel(ctx)
	go func() {
		defer close(probing)
		g.probe(probes, cmp.Or(o.answerTimeout, defaultAnswerTimeout), send)
	}()
	go func() {
		spawned := become()
		close(g.executed)
		exit := g.await(trees)
		if spawned != nil {
			exit.Detail = spawned.Error()
		}
		// The last report, why it could not listen perhaps, belongs before the
		// end; a stray that holds the pipe open must not delay it for long.
		select {
		case <-reportsEnd:
		case <-time.After(time.Second):
		}
		cancel(nil)
		_ = g.handoff.Close()
		<-probing
		if err := g.discardProbes(); err != nil {
			o.Log.Warn("requests of the launcher's own stay in the queue", "generation", number, "error", err)
		}
		events <- event{kind: ended, generation: number, exit: exit}
	}()
	return g, nil
}

// probe waits, in the way that ready.probe asks for, until the worker is ready.
// READY=1 of the worker is awaited elsewhere, at the same time.
func (g *generation) probe(ctx context.Context, answerTimeout time.Duration, send func(event)) {
	if g.spec.Probe == ProbeNotify {
		return
	}
	said := func(text string) { send(event{kind: probed, text: text}) }
	probes := prober{
		answerTimeout: answerTimeout, unaccepted: g.spec.Queues.Unaccepted, connected: g.own.add, answered: g.own.answered,
	}
	path := g.spec.Probe == ProbeHTTP || (g.spec.Probe == ProbeAuto && g.spec.ReadyPath != "")
	if g.handoff.Reports() != nil {
		select {
		case <-g.adopted:
		case <-ctx.Done():
			return
		}
	} else if !path && probes.awaitAnswers(ctx, g.spec, said) != nil {
		return
	}
	if path && probes.awaitPath(ctx, g.spec, said) != nil {
		return
	}
	send(event{kind: becameReady, adopted: g.handoff.Reports() != nil})
}

// listensEverywhere reports whether the worker listens on every held address, as
// far as its handoff tells.
func (g *generation) listensEverywhere() bool { return len(g.listening) == len(g.spec.Sockets) }

func (g *generation) readReports(reports *handoff.Reports, send func(event), end chan<- struct{}) {
	defer close(end)
	for {
		report, err := reports.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			send(event{kind: lost, err: err})
			return
		}
		send(event{kind: reported, report: report})
	}
}

// discardProbes takes the launcher's own requests out of the queues that the
// worker has not accepted: they would stand there in front of the clients, and
// make systemd start the service again that has just been stopped.
func (g *generation) discardProbes() error {
	left := map[netip.AddrPort][]netip.AddrPort{}
	for _, conn := range g.own.waiting() {
		target, client := ends(conn)
		waiting, err := g.spec.Queues.Unaccepted(target, client)
		if err != nil {
			return err
		}
		if !waiting {
			continue
		}
		for _, socket := range g.spec.Sockets {
			if dialAddress(socket.Address) == target {
				left[socket.Address] = append(left[socket.Address], client)
			}
		}
	}
	var errs []error
	for socket, clients := range left {
		errs = append(errs, g.spec.Queues.Discard(socket, clients))
	}
	return errors.Join(errs...)
}

// note takes in what the handoff reports. It returns an error when the worker
// can no longer serve.
func (g *generation) note(report handoff.Report) error {
	switch report.Event {
	case handoff.Listening:
		switch {
		case report.Held:
			g.listening[report.Address] = true
			g.closed = slices.DeleteFunc(g.closed, func(address netip.AddrPort) bool { return address == report.Address })
		case !report.Ephemeral && !slices.Contains(g.elsewhere, report.Address):
			g.elsewhere = append(g.elsewhere, report.Address)
		}
	case handoff.Closed:
		delete(g.listening, report.Address)
		g.closed = append(g.closed, report.Address)
	case handoff.Failed:
		if report.Code == "EADDRINUSE" && g.clashes(report.Address) {
			g.clash = report.Address
		}
	case handoff.Exhausted:
		return fmt.Errorf("the worker has listened on %s so often that this process has no socket left for it", report.Address)
	}
	select {
	case <-g.adopted:
	default:
		if g.listensEverywhere() {
			close(g.adopted)
		}
	}
	return nil
}

// clashes reports whether address is not one of the held ones but overlaps one:
// the same port, and one of the two is for all addresses of the machine.
func (g *generation) clashes(address netip.AddrPort) bool {
	return slices.ContainsFunc(g.spec.Sockets, func(s handoff.Socket) bool {
		return s.Address != address && s.Address.Port() == address.Port() &&
			(s.Address.Addr().IsUnspecified() || address.Addr().IsUnspecified())
	})
}

// explain says what kept the worker from serving, as far as is known; listens
// holds the addresses on which its processes were seen to listen.
func (g *generation) explain(listens []netip.AddrPort) string {
	held := join(addresses(g.spec.Sockets))
	var elsewhere, adopted, missing []netip.AddrPort
	for _, address := range slices.Concat(g.elsewhere, listens) {
		if !slices.Contains(elsewhere, address) {
			elsewhere = append(elsewhere, address)
		}
	}
	for _, address := range addresses(g.spec.Sockets) {
		if g.listening[address] {
			adopted = append(adopted, address)
		} else {
			missing = append(missing, address)
		}
	}
	switch {
	case g.clash.IsValid():
		return fmt.Sprintf("it wanted to listen on %s, which overlaps %s that the launcher holds: make the worker listen on %s, or set listen to %s",
			g.clash, held, held, g.clash)
	// With an answer to the probe, another port is not what is wrong.
	case len(elsewhere) > 0 && len(adopted) == 0 && g.probed == "":
		return fmt.Sprintf("it listens on %s, not on %s: set its port in worker.command, or set listen to %s", join(elsewhere), held, join(elsewhere))
	case g.spec.Probe == ProbeNotify:
		return "it has not said READY=1 to its NOTIFY_SOCKET, as ready.probe asks of it"
	case g.handoff.Reports() != nil && len(missing) > 0 && len(adopted) > 0:
		return fmt.Sprintf("it listens on %s only: make it listen on %s too, or take that out of listen", join(adopted), join(missing))
	case g.handoff.Reports() != nil && len(missing) > 0:
		return fmt.Sprintf("it has not listened on %s", held)
	case g.probed != "":
		return g.probed
	default:
		return fmt.Sprintf("it has not taken a connection on %s: does it accept sockets by the listen-fds protocol? (worker.handoff)", held)
	}
}

// await waits for the end of the main process, and returns when the last
// process of the generation has gone.
func (g *generation) await(trees *trees) Exit {
	pid := g.process.Pid
	for {
		// Not reaped yet: its pid stays its own until the others have ended.
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	exit := Exit{Generation: g.number, Code: -1, At: time.Now(), Lived: time.Since(g.started)}
	strays, err := trees.end(pid, g.group)
	if err != nil {
		trees.log.Error("cannot end everything that a generation has left", "generation", g.number, "error", err)
	}
	exit.Strays = strays
	state, waitErr := g.process.Wait()
	trees.reaper.waited(pid)
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

func addresses(sockets []handoff.Socket) []netip.AddrPort {
	result := make([]netip.AddrPort, 0, len(sockets))
	for _, socket := range sockets {
		result = append(result, socket.Address)
	}
	return result
}

func join(addresses []netip.AddrPort) string {
	words := make([]string, 0, len(addresses))
	for _, address := range addresses {
		words = append(words, address.String())
	}
	return strings.Join(words, " and ")
}
