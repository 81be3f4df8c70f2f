package launcher

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/config/watch"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/listener"
	"openclaw-gateway/listener/frontdesk"
	"openclaw-gateway/worker"
)

// launcher is "gateway run": it ties the held sockets, the configuration and
// the supervisor together, and is what the control socket speaks to.
type launcher struct {
	options    Options
	log        *slog.Logger
	level      *slog.LevelVar
	files      config.Named
	held       *holding
	since      time.Time
	supervisor *worker.Supervisor
	announce   *announcer
	observed   atomic.Pointer[worker.Status]

	// mu makes one reload wait for the other.
	mu sync.Mutex
	// environment watches environmentFile; nil where none is watched.
	environment     *watch.Watcher
	environmentFile string
	// latest is the configuration that was applied last; nil before the first
	// good one. good is the last one whose worker became ready.
	latest, good atomic.Pointer[edition]
	editions     int // how many have been prepared
	remembering  sync.WaitGroup
	keeping      sync.Mutex // one at a time, so that the last one stays

	report atomic.Pointer[configReport]

	// desk is the last one that was closed; nil when there was none.
	desk atomic.Pointer[frontdesk.Desk]

	history history
	feed    feed
}

// atOnce reports whether the first generation should not wait for a client:
// because it was configured so, or because one waits already.
func (l *launcher) atOnce() bool {
	latest := l.latest.Load()
	if latest == nil {
		return false
	}
	if latest.cfg.Worker.Start == config.StartAtOnce {
		return true
	}
	sockets, _ := l.held.now()
	queued, err := sockets.Queued()
	return err == nil && queued > 0
}

// restart starts the next generation and returns when it is ready, or with the
// reason why it is not.
func (l *launcher) restart(ctx context.Context) error {
	if l.latest.Load() == nil {
		// What was wrong with the configuration may have been mended since.
		return l.reload(ctx)
	}
	return newOutcome(l.supervisor.Restart()).wait(ctx)
}

// observe takes note of what the supervisor does; it must not wait for a reload,
// which waits for the supervisor.
func (l *launcher) observe(status worker.Status) {
	l.observed.Store(&status)
	l.announce.observe(status, l.addresses(status))
	l.tell()
	if good := l.good.Load(); status.RolledBack != 0 && good != nil {
		l.level.Set(good.cfg.Log.Level)
	}
	if latest := l.latest.Load(); status.State == worker.Ready && latest != nil && status.Edition == latest.spec.Edition {
		if l.good.Swap(latest) != latest {
			l.remembering.Go(l.remember)
		}
	}
	l.letGo(status)
}

// letGo closes the addresses that an edit has removed, as soon as no generation
// has them any more and none will be made with them by a rollback.
func (l *launcher) letGo(status worker.Status) {
	if status.State != worker.Ready && status.State != worker.Waiting && status.RolledBack == 0 {
		return
	}
	good := l.good.Load()
	l.held.keep(func(edition int) bool {
		return edition == status.Edition || good != nil && edition == good.spec.Edition ||
			edition > max(status.Edition, status.RolledBack) // about to be applied
	})
}

// addresses returns those of the worker that the status is about.
func (l *launcher) addresses(status worker.Status) []netip.AddrPort {
	for _, e := range []*edition{l.latest.Load(), l.good.Load()} {
		if e != nil && e.spec.Edition == status.Edition {
			return e.addresses
		}
	}
	sockets, _ := l.held.now()
	return sockets.Addresses()
}

// tell lets those who watch know of another state or configuration.
func (l *launcher) tell() { l.feed.tell(&l.observed) }

// openDesk lets the launcher answer the clients itself.
func (l *launcher) openDesk() (closeDesk func()) {
	// They stay while the desk is open: it closes before a generation starts.
	sockets, _ := l.held.now()
	desk, err := frontdesk.Open(sockets, l.notice, l.log)
	if err != nil {
		l.log.Error("cannot open the front desk, clients wait in the queue", "error", err)
		return func() {}
	}
	l.log.Info("front desk opened: clients are answered with 503")
	return func() {
		desk.Close()
		l.desk.Store(desk)
		l.log.Info("front desk closed: clients wait for the next generation")
	}
}

// drainLimit is how long the launcher's end waits for clients at the front desk.
const drainLimit = 2 * time.Second

// drainDesk lets clients have their answer whom the front desk had accepted when
// the launcher was told to end.
func (l *launcher) drainDesk() {
	if desk := l.desk.Load(); desk != nil {
		ctx, cancel := context.WithTimeout(context.Background(), drainLimit)
		defer cancel()
		desk.Drain(ctx)
	}
}

// notice is what the front desk tells. The reason stays in the log and the
// status: it may name files and commands, and a client has not shown who it is.
func (l *launcher) notice() frontdesk.Notice {
	notice := frontdesk.Notice{Problem: "the server behind this port has failed"}
	if status := l.observed.Load(); status != nil {
		notice.Since, notice.Next = status.Since, status.NextStart
		exit := status.LastExit
		switch {
		case exit == nil:
			notice.Problem = "the server behind this port cannot be started"
		case exit.Reason == worker.ReasonUnready:
			notice.Problem = fmt.Sprintf("generation %d of the server behind this port did not serve", exit.Generation)
		default:
			notice.Problem = fmt.Sprintf("generation %d of the server behind this port ended: %s", exit.Generation, exit)
		}
	}
	return notice
}

// mend watches for a worker that shuts the sockets down for everybody.
func (l *launcher) mend(ctx context.Context) {
	for {
		sockets, epoch := l.held.now()
		watching, stop := context.WithCancel(ctx)
		follow := context.AfterFunc(epoch, stop)
		err := l.mendUntil(watching, sockets)
		follow()
		stop()
		switch {
		case ctx.Err() != nil:
			return
		case epoch.Err() == nil:
			l.log.Error("cannot watch the sockets: one that a worker shuts down is mended with the next generation", "error", err)
			return
		}
	}
}

func (l *launcher) mendUntil(ctx context.Context, sockets listener.Set) error {
	watch, err := sockets.Watch(ctx)
	if err != nil {
		return err
	}
	defer watch.Close()
	for {
		mended, err := watch.Mended()
		if err != nil {
			return err
		}
		l.log.Warn("somebody shut a listening socket down; it listens again", "address", say.Addresses(mended.Addresses()))
	}
}
