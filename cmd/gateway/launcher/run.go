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
	"openclaw-gateway/cmd/gateway/logging"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/worker"
	"openclaw-gateway/worker/proctree"
	"openclaw-gateway/worker/tree"
)

// Options are what the launcher is told besides its configuration.
type Options struct {
	Config string // the file as it was named; "" looks for it, each time anew
	Hello  string // the argument with which this program is the worker where the configuration names none
}

// IdleStatus is what the program exits with after [ErrIdle], and only then: EX_TEMPFAIL of sysexits.h, which the service
// unit takes for success and after which it does not start the launcher again.
const IdleStatus = 75

// ErrIdle says that the launcher has ended because nobody needs the worker, and leaves systemd alone with the sockets.
var ErrIdle = errors.New("nobody needs the worker")

// Run is the way of the sockets: inherit or bind them, supervise the worker that
// gets them, report what it does. An address that it has to bind itself and cannot is an [AddressInUse].
func Run(ctx context.Context, options Options) error {
	sockets, source, err := inherit()
	if err != nil {
		return err
	}
	files := config.Named{Path: options.Config}
	// Before it is read, so that no edit is missed.
	edits, unwatched := watch.New(files.Watched())
	cfg, rejected := files.Load()
	if rejected != nil && source.kind == api.FromItself {
		return rejected
	}
	log, level := newLog(cfg, source.refused)
	directory, err := newRuntimeDirectory()
	if err != nil {
		return err
	}
	control, err := newControl(directory, log)
	if err != nil {
		return err
	}
	defer control.Close()
	if err := tree.Sweep(log, directory.own); err != nil {
		log.Error("cannot end all that an earlier launcher has left", "error", err)
	}
	held := newHeldSockets(sockets, source, log)
	if source.kind == api.FromItself {
		// Before anything else, because without the addresses there is nothing to do.
		if sockets, err = held.claim(0, cfg.Listen, cfg.DualStack); err != nil {
			return err
		}
	}
	l := newLauncher(log, level, held, files, options.Hello)
	l.reporter.place = control.problem
	l.begin(cfg, rejected, supervision(log, directory, source))

	// What runs beside the supervisor. All of it ends after it: a worker that is stopping may still be asked for, and may
	// shut the sockets down at its end.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	control.serve(l)
	defer beside(ctx, control.keep)()
	defer l.editions.end()
	defer l.reporter.history.kept.Wait()
	defer beside(context.Background(), held.relisten)()
	defer beside(ctx, l.alarm.watch)()
	defer time.AfterFunc(startJobLimit, l.reporter.systemd.endStartJob).Stop()
	handleSignals(log, func() { l.reloadBeside(ctx, false) }, func() {
		notify(daemon.SdNotifyStopping)
		stop()
	}, l.Hurry)
	if unwatched == nil {
		defer edits.Close()
		go l.watchFile(ctx, edits)
	} else {
		log.Error("edits of the configuration are not noticed, use gateway reload", "error", unwatched)
	}
	if source.kind == api.FromItself {
		target, _ := sockets.Reach(sockets[0].Address)
		fmt.Printf("gateway: open http://%s/\n", target)
	}

	why := l.supervisor.Run(ctx, l.hurry)
	l.desk.drain()
	if source.kind == api.FromItself {
		return nil
	}
	// systemd keeps them, and must not keep one that was shut down.
	if err := sockets.Listen(); err != nil || why != worker.ReasonIdle {
		return err
	}
	log.Info("nobody needs the worker, the launcher ends: the next client has systemd start it again", "exit_status", IdleStatus)
	notify(daemon.SdNotifyStopping + "\nSTATUS=nobody needs the worker: the next client on " +
		say.Addresses(sockets.Addresses()) + " starts everything again")
	return ErrIdle
}

// newLog makes the log as the configuration asks for it, if there is one, and tells it of the sockets that were refused.
func newLog(cfg *config.Config, refused []error) (*slog.Logger, *slog.LevelVar) {
	level, format := new(slog.LevelVar), config.FormatAuto
	if cfg != nil {
		level.Set(cfg.Log.Level)
		format = cfg.Log.Format
	}
	log := logging.New(format, level, os.Stderr)
	slog.SetDefault(log)
	for _, socket := range refused {
		log.Error("socket refused", "error", socket)
	}
	return log, level
}

// supervision is what the supervisor is told of where it runs.
func supervision(log *slog.Logger, directory *runtimeDirectory, source source) worker.Options {
	options := worker.Options{
		Log: log, Directory: directory.own, Place: directory.path, Alone: true,
		// Only systemd starts a launcher again that has left the sockets alone.
		ExitIdle: source.kind == api.FromSystemd && proctree.ExecutedBySystemd(),
	}
	if interval, err := daemon.SdWatchdogEnabled(false); err == nil && interval > 0 {
		options.HeartbeatEvery = interval / 2
		options.Heartbeat = func() { notify(daemon.SdNotifyWatchdog) }
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
		l.log.Error("edits of the configuration are not noticed any more, use gateway reload", "error", err)
	}
}
