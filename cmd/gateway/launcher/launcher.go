package launcher

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/launcher/alarm"
	"openclaw-gateway/cmd/gateway/launcher/announce"
	"openclaw-gateway/cmd/gateway/launcher/control"
	"openclaw-gateway/cmd/gateway/logging"
	"openclaw-gateway/cmd/gateway/state"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/units"
	"openclaw-gateway/worker"
	"openclaw-gateway/worker/generation"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/proctree"
	"openclaw-gateway/worker/spawn"
)

// launcher is "gateway run": it ties the configuration, the supervisor and what is told of both together, and is what the
// control socket speaks to.
type launcher struct {
	log        *slog.Logger
	held       *heldSockets
	editions   *editions
	reporter   *reporter
	desk       *desk
	supervisor *worker.Supervisor
	alarm      *alarm.Alarm
	binds      *binds
	hurry      chan struct{} // to the supervisor
	control    *control.Control
	spawner    spawn.Spawner
	flush      func() // has what is logged written
	stops      *stops
	upgrading  sync.Mutex
	answer     func()        // has the control socket answer; after an upgrade when there is a status
	answering  chan struct{} // closed by that
}

func newLauncher(log *slog.Logger, level *slog.LevelVar, held *heldSockets, files config.Named, hello string) *launcher {
	l := &launcher{log: log, held: held, reporter: newReporter(held), binds: newBinds(log), hurry: make(chan struct{}, 1), answering: make(chan struct{}), flush: func() {}}
	l.answer = sync.OnceFunc(func() {
		if l.control != nil {
			l.control.Serve(l)
		}
		close(l.answering)
	})
	l.editions = &editions{
		assembler: assembler{files: files, held: held, hello: hello}, log: log, level: level, report: l.reporter.configured,
	}
	l.editions.environment = environmentWatch{log: log, edited: func() { l.reloadBeside(context.Background(), true) }, changed: l.reporter.changed}
	l.editions.goodKept = state.Keeper{Log: log, What: "the configuration that works is", Write: l.editions.save, Changed: l.reporter.changed}
	l.reporter.history.Begin(log, l.reporter.changed)
	ringing, _ := state.Path(state.Alarm) // what is wrong with that is told of the other files
	l.alarm = alarm.New(log, ringing)
	l.alarm.Settings = func() config.Alarm {
		if current := l.editions.current(); current != nil {
			return current.cfg.Alarm
		}
		return config.Alarm{}
	}
	l.alarm.Status = l.Status
	l.alarm.Run = func(ctx context.Context, cmd *exec.Cmd) error {
		cmd.Dir = handoff.Directory(homeDirectory())
		return l.supervisor.Exec(ctx, cmd)
	}
	l.reporter.alarm = l.alarm
	l.alarm.Kept.Changed, l.binds.kept.Changed = l.reporter.changed, l.reporter.changed
	l.reporter.kept = []*state.Keeper{&l.reporter.history.Kept, &l.alarm.Kept, &l.binds.kept}
	l.reporter.names = func() map[netaddr.Address]string {
		if current := l.editions.current(); current != nil {
			return current.cfg.Names
		}
		return nil
	}
	l.reporter.notes = l.editions.notes
	l.desk = &desk{held: held, log: log, observed: &l.reporter.observed}
	return l
}

// begin makes the supervisor, for the first configuration or the reason why there is none.
func (l *launcher) begin(cfg *config.Config, rejected error, options worker.Options) {
	l.editions.begin(cfg, rejected, func(first generation.Spec, good *generation.Spec) applier {
		options.AtOnce, options.Good, options.Known = l.editions.atOnce(), good, l.reporter.history.Newest
		options.Binds = l.binds.load()
		l.supervise(first, options)
		return l.supervisor
	})
}

// supervise makes the supervisor, whose first generation is made from this.
func (l *launcher) supervise(first generation.Spec, options worker.Options) {
	options.Observe, options.Ended = unmapping(l.log, l.observe), l.reporter.ended
	options.ListensOn, options.OpenDesk = listensOn, l.desk.open
	options.Serving, options.HasSocket, options.Extended = serving(l.held), hasSocket(l.held), extendStop
	options.MendOutput, options.Bound, options.Spawn = l.mendOutput, l.binds.keep, l.spawner
	l.supervisor = worker.New(first, options)
}

// serving tells whether processes have a client of a held address; not knowing is none.
func serving(held *heldSockets) func(pids []int) bool {
	return func(pids []int) bool {
		ctx, cancel := context.WithTimeout(context.Background(), listensLimit)
		defer cancel()
		sockets, _ := held.current()
		some, _ := sockdiag.AnyAccepted(ctx, sockets.Addresses(), pids...)
		return some
	}
}

// hasSocket tells whether a process has one of the held sockets open; not knowing is no.
func hasSocket(held *heldSockets) func(pid int) bool {
	return func(pid int) bool {
		ctx, cancel := context.WithTimeout(context.Background(), listensLimit)
		defer cancel()
		sockets, _ := held.current()
		wanted := map[string]uint64{}
		for _, socket := range sockets {
			wanted[fmt.Sprintf("socket:[%d]", socket.Inode)] = socket.Inode
		}
		found, err := sockdiag.Descriptors(ctx, pid, wanted)
		return err == nil && len(found) > 0
	}
}

// extendStop lets systemd wait for as long as the worker has asked for, and the launcher's own end after it.
func extendStop(more time.Duration) {
	announce.Notify(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", units.NeededStopLimit(more).Microseconds()))
}

// mendOutput keeps the worker from a standard output that leads nowhere.
func (l *launcher) mendOutput() {
	mended, err := logging.NewStreams(filepath.Base(os.Args[0]), proctree.Service(os.Getpid())).Mend()
	if err != nil {
		l.log.Error("what the worker says is lost: journald has been stopped", "error", err)
	} else if mended {
		l.log.Warn("journald has been stopped and started: the worker's output goes there by another stream")
	}
}

// observe takes note of what the supervisor does; it must not wait for a reload,
// which waits for the supervisor.
func (l *launcher) observe(status worker.Status) {
	l.editions.observe(status)
	l.reporter.observe(status, l.editions.addresses(status.Edition))
	l.alarm.Observe(status)
	l.answer()
}

// reloadBeside applies the configuration; the outcome is in the log, and whoever calls does not wait for it.
func (l *launcher) reloadBeside(ctx context.Context, noticed bool) {
	go func() { _ = l.editions.reload(ctx, noticed) }()
}

// Status is what the launcher knows by heart.
func (l *launcher) Status() api.Status {
	return l.reporter.status(l.reporter.observed.Load(), l.editions.problems())
}

// Watch sends the status now and at each change.
func (l *launcher) Watch(ctx context.Context, send func(api.Status) error) {
	l.reporter.watch(ctx, l.editions.problems, send)
}

// History is the lives of the last generations.
func (l *launcher) History() api.History { return l.reporter.lives() }

// Check says what a configuration would do if it were applied now.
func (l *launcher) Check(question api.CheckRequest) api.CheckReply {
	return l.editions.check(question, l.reporter.observed.Load().State == worker.Waiting)
}

// Reload applies the configuration as it is now.
func (l *launcher) Reload(ctx context.Context) error { return l.editions.reload(ctx, false) }

// Hurry has the worker killed right behind its stop signal when the launcher stops.
func (l *launcher) Hurry() {
	select {
	case l.hurry <- struct{}{}:
	default: // in a hurry already
	}
}

// Restart starts the next generation.
func (l *launcher) Restart(ctx context.Context, now bool) error {
	if l.editions.latest.Load() == nil {
		// What was wrong with the configuration may have been mended since.
		return l.Reload(ctx)
	}
	return newPending(l.supervisor.Restart(now)).wait(ctx)
}

// listensLimit is for a worker with millions of descriptors.
const listensLimit = time.Second

// listensOn explains a worker that listens elsewhere; not knowing is no error.
func listensOn(pid int) []netaddr.Address {
	ctx, cancel := context.WithTimeout(context.Background(), listensLimit)
	defer cancel()
	addresses, _ := sockdiag.OpenBy(ctx, proctree.Tree(pid)...)
	return addresses
}
