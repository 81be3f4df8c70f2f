package launcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/config/watch"
	"openclaw-gateway/cmd/gateway/logging"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/listener"
	"openclaw-gateway/worker"
)

// Options are what the launcher is told besides its configuration.
type Options struct {
	Config string // the file as it was named; "" looks for it, each time anew
	Hello  string // the argument with which this program is the worker where the configuration names none
}

// IdleStatus is what the program exits with after [errIdle], and only then: EX_TEMPFAIL of sysexits.h, which the service
// unit takes for success and after which it does not start the launcher again.
const IdleStatus = 75

// ErrIdle says that the launcher has ended because nobody needs the worker, and leaves systemd alone with the sockets.
var ErrIdle = errors.New("nobody needs the worker")

// Run is the way of the sockets: inherit or bind them, supervise the worker that
// gets them, report what it does.
func Run(ctx context.Context, options Options) error {
	sockets, holder, err := inherit()
	if err != nil {
		return err
	}
	files := config.Named{Path: options.Config}
	// Before it is read, so that no edit is missed.
	edits, unwatched := watch.New(files.Watched())
	cfg, rejected := files.Load()
	if rejected != nil && holder.kind != api.FromSystemd {
		return rejected
	}
	level := new(slog.LevelVar)
	format := config.FormatAuto
	if cfg != nil {
		level.Set(cfg.Log.Level)
		format = cfg.Log.Format
	}
	log := logging.New(format, level, os.Stderr)
	slog.SetDefault(log)
	for _, refused := range holder.refused {
		log.Error("socket refused", "error", refused)
	}
	directory, err := ownRuntimeDirectory()
	if err != nil {
		return err
	}
	control, err := listenControl(directory)
	if err != nil {
		return err
	}
	defer control.Close()
	if err := worker.Sweep(log, directory); err != nil {
		log.Error("cannot end all that an earlier launcher has left", "error", err)
	}
	held := newHolding(sockets, holder, log)
	if holder.kind == api.FromItself {
		// Before anything else, because without the addresses there is nothing to do.
		if sockets, err = held.claim(0, cfg.Listen); err != nil {
			return err
		}
	}

	l := &launcher{
		options: options, log: log, level: level, files: files, held: held, since: time.Now(), announce: new(announcer),
	}
	l.mu.Lock() // an edit waits until there is a supervisor
	spec, good := l.adopt(cfg, rejected)
	supervision := worker.Options{
		Log: log, Directory: directory, Alone: true, AtOnce: l.atOnce(), Good: good,
		// Only systemd starts a launcher again that has left the sockets alone.
		ExitIdle: holder.kind == api.FromSystemd && systemd.ExecutedThis(),
		Observe:  l.observe, Ended: l.history.add, ListensOn: listensOn, OpenDesk: l.openDesk,
	}
	if interval, err := daemon.SdWatchdogEnabled(false); err == nil && interval > 0 {
		supervision.HeartbeatEvery = interval / 2
		supervision.Heartbeat = func() { notify(daemon.SdNotifyWatchdog) }
	}
	l.supervisor = worker.New(spec, supervision)
	l.mu.Unlock()
	defer l.forgetEnvironment()

	control.serve(l)

	// systemctl start and a boot do not wait longer than this for the worker.
	patience := time.AfterFunc(startJobLimit, l.announce.giveUp)
	defer patience.Stop()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	hurry := make(chan struct{}, 1)
	go l.obey(ctx, stop, hurry)
	// Until the last worker has gone: one may shut the sockets down at its end.
	watching, unwatch := context.WithCancel(context.Background())
	defer unwatch()
	go l.mend(watching)
	if unwatched == nil {
		defer edits.Close()
		go l.watchFile(ctx, edits)
	} else {
		log.Error("edits of the configuration are not noticed, use gateway reload", "error", unwatched)
	}
	if holder.kind == api.FromItself {
		fmt.Printf("gateway: open http://%s/\n", sockets[0].Address)
	}
	why := l.supervisor.Run(ctx, hurry)
	l.remembering.Wait()
	l.drainDesk()
	if holder.kind != api.FromSystemd {
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

// holder is who keeps the listening sockets open while the launcher is away.
type holder struct {
	kind    api.Source
	pid     int // of the manager that passed the sockets
	refused []error
}

// inherit takes the sockets that systemd passed. Without any, the launcher has
// to bind them itself, which under systemd would bring back the race that the
// socket unit ends.
func inherit() (listener.Set, holder, error) {
	sockets, refused, err := listener.Inherit()
	switch {
	case errors.Is(err, listener.ErrNoSockets) && systemd.ExecutedThis():
		return nil, holder{}, errors.New("systemd passed no sockets to this service: enable the socket unit, " +
			"\"systemctl enable --now openclaw-gateway.socket\" (with --user for a user's), which \"gateway install\" writes")
	case errors.Is(err, listener.ErrNoSockets):
		return nil, holder{kind: api.FromItself}, nil
	case err != nil:
		return nil, holder{}, err
	case len(sockets) == 0:
		return nil, holder{}, errors.Join(refused...)
	}
	return sockets, holder{kind: api.FromSystemd, pid: os.Getppid(), refused: refused}, nil
}

// obey turns signals into requests until the launcher ends.
func (l *launcher) obey(ctx context.Context, stop context.CancelFunc, hurry chan<- struct{}) {
	signals := make(chan os.Signal, 4)
	// SIGPIPE as well: a journal that restarts must not end the launcher. It is
	// caught and not ignored because the worker would inherit that.
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGPIPE)
	defer signal.Stop(signals)
	for received := range signals {
		switch received {
		case unix.SIGPIPE:
		case unix.SIGHUP:
			l.log.Info("applying the configuration", "signal", "SIGHUP")
			go func() {
				// The outcome is in the log.
				_ = l.reload(ctx)
			}()
		default:
			if ctx.Err() != nil {
				select {
				case hurry <- struct{}{}:
				default: // in a hurry already
				}
				continue
			}
			l.log.Info("stopping", "signal", unix.SignalName(received.(unix.Signal)))
			notify(daemon.SdNotifyStopping)
			stop()
		}
	}
}
