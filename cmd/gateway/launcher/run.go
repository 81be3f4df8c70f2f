package launcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/config/watch"
	"openclaw-gateway/cmd/gateway/launcher/announce"
	"openclaw-gateway/cmd/gateway/launcher/compilecache"
	"openclaw-gateway/cmd/gateway/launcher/control"
	"openclaw-gateway/cmd/gateway/launcher/runtimedir"
	"openclaw-gateway/cmd/gateway/logging"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/listener"
	"openclaw-gateway/units/instance"
	"openclaw-gateway/worker"
	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/generation"
	"openclaw-gateway/worker/proctree"
	"openclaw-gateway/worker/spawn"
	"openclaw-gateway/worker/tree"
)

// Options are what the launcher is told besides its configuration.
type Options struct {
	Instance instance.Name
	Config   string // the file as it was named; "" looks for it, each time anew
	Hello    string // the argument with which this program is the worker where the configuration names none
}

// IdleStatus is what the program exits with after [ErrIdle], and only then: EX_TEMPFAIL of sysexits.h, which the service
// unit takes for success and after which it does not start the launcher again.
const IdleStatus = 75

// ErrIdle says that the launcher has ended because nobody needs the worker, and leaves systemd alone with the sockets.
var ErrIdle = errors.New("nobody needs the worker")

// Run is the way of the sockets: inherit or bind them, supervise the worker that
// gets them, report what it does. An address that it has to bind itself and cannot is an [AddressInUse].
//
// It has to be called on the process's first thread: what is started there lives on when the launcher becomes another program.
func Run(ctx context.Context, options Options) error {
	return spawn.Here(func(spawner spawn.Spawner) error { return run(ctx, options, spawner) })
}

func run(ctx context.Context, options Options, spawner spawn.Spawner) error {
	stops, others := catchSignals() // before anything else: until then one that ends the launcher ends the worker at once
	heirloom, err := findHeirloom()
	if err != nil {
		return err
	}
	takeSockets := func() (listener.Set, source, error) { return inherit(options.Instance) }
	if heirloom != nil {
		takeSockets = func() (listener.Set, source, error) { return heirloom.source(options) }
	}
	sockets, source, err := takeSockets()
	if err != nil {
		return err
	}
	files := config.Named{Path: options.Config, Instance: options.Instance}
	// Before it is read, so that no edit is missed.
	edits, unwatched := watch.New(files.Watched())
	cfg, rejected := files.LoadAfter(keptGood())
	switch byHand := source.kind == api.FromItself; {
	case byHand && rejected != nil:
		return rejected
	case byHand && options.Instance != "" && files.Name() == "":
		// The addresses of the defaults are another instance's.
		return fmt.Errorf("there is no configuration of an instance %s: write %s, or name another file by --config", options.Instance, files.Watched())
	}
	log, level, flush := newLog(cfg, source.refused)
	defer flush()
	directory, err := runtimedir.New(options.Instance)
	if err != nil {
		return err
	}
	takeControl := control.New
	if heirloom != nil {
		takeControl = func(directory *runtimedir.Directory, log *slog.Logger) (*control.Control, error) {
			return control.Resume(directory, log, heirloom.Control)
		}
	}
	control, err := takeControl(directory, log)
	if err != nil {
		return err
	}
	defer control.Close()
	if heirloom == nil {
		if err := tree.Sweep(log, directory.Own); err != nil {
			log.Error("cannot end all that an earlier launcher has left", "error", err)
		}
	}
	defer keepCame(sockets, log).Wait()
	held := newHeldSockets(sockets, source, log)
	if source.kind == api.FromItself {
		// Before anything else, because without the addresses there is nothing to do.
		if sockets, err = held.claim(0, wishOf(cfg)); err != nil {
			return err
		}
		defer held.unlink()
	}
	l := newLauncher(log, level, held, files, options.Hello)
	l.reporter.place, l.control, l.spawner, l.stops, l.flush = control.Problem, control, spawner, stops, flush
	control.Changed = l.reporter.changed
	if supervised := supervision(log, directory, options.Instance, source); heirloom == nil {
		l.begin(cfg, rejected, supervised)
	} else if err := l.resume(heirloom, supervised); err != nil {
		return fmt.Errorf("go on where the program before was: %w", err)
	}

	// What runs beside the supervisor. All of it ends after it: a worker that is stopping may still be asked for, and may
	// shut the sockets down at its end.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	l.editions.watch = func() error {
		edits, err := watch.New(files.Watched())
		if err == nil {
			go l.watchFile(ctx, edits)
		}
		return err
	}
	if heirloom == nil {
		l.answer()
	}
	defer beside(ctx, func(ctx context.Context) {
		select {
		case <-l.answering:
			control.Keep(ctx)
		case <-ctx.Done():
		}
	})()
	defer l.editions.end()
	defer l.reporter.history.Kept.Wait()
	defer l.binds.kept.Wait()
	defer l.alarm.Kept.Wait()
	defer beside(context.Background(), held.relisten)()
	defer beside(ctx, l.alarm.Watch)()
	defer time.AfterFunc(announce.StartJobLimit, l.reporter.systemd.EndStartJob).Stop()
	// Until the process ends: one that comes while the launcher ends must not kill it.
	go handleOthers(others, log, func() { l.reloadBeside(ctx, false) }, stops.hangUp)
	go stops.handle(func(signal string) {
		log.Info("stopping", "signal", signal)
		announce.Notify(daemon.SdNotifyStopping)
		stop()
	}, l.Hurry)
	if unwatched == nil {
		defer edits.Close()
		go l.watchFile(ctx, edits)
	} else {
		l.editions.unwatched.because(unwatched, log, "configuration")
	}
	if heirloom != nil {
		l.reloadBeside(ctx, true) // what has been edited meanwhile
	}
	if source.kind == api.FromItself && cfg.Log.Format != config.FormatJSON { // whose reader wants nothing else
		if target, _ := sockets.Reach(sockets[0].Address); target.IsUnix() {
			go fmt.Printf("gateway: run `%s`\n", say.Shell("curl", "--unix-socket", target.Path(), "http://localhost/"))
		} else {
			go fmt.Printf("gateway: open http://%s/\n", target) // perhaps nobody reads it
		}
	}

	why := l.supervisor.Run(ctx, l.hurry)
	l.desk.drain(context.Background())
	if source.kind == api.FromItself {
		return nil
	}
	// systemd keeps them, and must not keep one that was shut down, nor what the worker has set.
	if err := sockets.Restore(); err != nil || why != ends.ReasonIdle {
		return err
	}
	log.Info("nobody needs the worker, the launcher ends: the next client has systemd start it again", "exit_status", IdleStatus)
	announce.Notify(daemon.SdNotifyStopping + "\nSTATUS=nobody needs the worker: the next client on " +
		say.Addresses(sockets.Addresses()) + " starts everything again")
	return ErrIdle
}

// newLog makes the log as the configuration asks for it, if there is one, and tells it of the sockets that were refused.
func newLog(cfg *config.Config, refused []error) (log *slog.Logger, level *slog.LevelVar, flush func()) {
	level, format := new(slog.LevelVar), config.FormatAuto
	if cfg != nil {
		level.Set(cfg.Log.Level)
		format = cfg.Log.Format
	}
	log, flush = logging.New(format, level, os.Stderr)
	slog.SetDefault(log)
	for _, socket := range refused {
		log.Error("socket refused", "error", socket)
	}
	return log, level, flush
}

// supervision is what the supervisor is told of where it runs.
func supervision(log *slog.Logger, directory *runtimedir.Directory, name instance.Name, source source) worker.Options {
	cache := compilecache.New(name, log)
	options := worker.Options{
		Options:   generation.Options{Log: log, Place: directory.Path, Cache: cache.Path, Modules: cache.Modules, Restart: gateway(source.of, "restart")},
		Directory: directory.Own, Cached: func(part string) { go cache.Trim(part) }, Alone: true,
		// Only systemd starts a launcher again that has left the sockets alone.
		ExitIdle: source.kind == api.FromSystemd && proctree.ExecutedBySystemd(),
	}
	if interval, err := daemon.SdWatchdogEnabled(false); err == nil && interval > 0 {
		options.HeartbeatEvery = interval / 2
		options.Heartbeat = func() { announce.Notify(daemon.SdNotifyWatchdog) }
	}
	return options
}

// beside runs a part of the launcher until the context is done or end is called, which returns when it has ended.
func beside(ctx context.Context, part func(context.Context)) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { part(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// watchFile applies each edit of the configuration file.
func (l *launcher) watchFile(ctx context.Context, edits *watch.Watcher) {
	err := edits.Run(ctx, func() {
		l.log.Info("the configuration file was edited", "path", l.editions.files.Name())
		// The next edit must not wait for the outcome of this one.
		l.reloadBeside(ctx, true)
	})
	if err != nil && ctx.Err() == nil {
		l.editions.unwatched.because(err, l.log, "configuration")
		l.reporter.changed()
	}
}
