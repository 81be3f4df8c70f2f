package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/config/watch"
	"openclaw-gateway/listener"
	"openclaw-gateway/listener/frontdesk"
	"openclaw-gateway/worker"
)

// launcher is "gateway run": it ties the held sockets, the configuration and
// the supervisor together, and is what the control socket speaks to.
type launcher struct {
	log        *slog.Logger
	level      *slog.LevelVar
	files      configFile
	held       listener.Set
	holder     holder
	since      time.Time
	supervisor *worker.Supervisor
	announce   *announcer
	observed   atomic.Pointer[worker.Status]

	// mu makes one reload wait for the other.
	mu sync.Mutex
	// latest is the configuration that was applied last; nil before the first
	// good one. good is the last one whose worker became ready.
	latest, good atomic.Pointer[edition]
	editions     int // how many have been prepared
	remembering  sync.WaitGroup
	keeping      sync.Mutex // one at a time, so that the last one stays

	report atomic.Pointer[configReport]
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
	queued, err := l.held.Queued()
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
	l.announce.observe(status)
	if good := l.good.Load(); status.RolledBack != 0 && good != nil {
		l.level.Set(good.cfg.Log.Level)
	}
	latest := l.latest.Load()
	if status.State != worker.Ready || latest == nil || status.Edition != latest.spec.Edition {
		return
	}
	if l.good.Swap(latest) != latest {
		l.remembering.Go(l.remember)
	}
}

// openDesk lets the launcher answer the clients itself.
func (l *launcher) openDesk() (closeDesk func()) {
	desk, err := frontdesk.Open(l.held, l.notice, l.log)
	if err != nil {
		l.log.Error("cannot open the front desk, clients wait in the queue", "error", err)
		return func() {}
	}
	l.log.Info("front desk opened: clients are answered with 503")
	return func() {
		desk.Close()
		l.log.Info("front desk closed: clients wait for the next generation")
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

// watchFile applies each edit of the configuration file.
func (l *launcher) watchFile(ctx context.Context, edits *watch.Watcher) {
	err := edits.Run(ctx, func() {
		l.log.Info("the configuration file was edited", "path", l.files.name())
		// The outcome is in the log, and the next edit must not wait for it.
		go func() { _ = l.reload(ctx) }()
	})
	if err != nil && ctx.Err() == nil {
		l.log.Error("edits of the configuration are not noticed any more, use gateway reload", "error", err)
	}
}

// mend watches for a worker that shuts the sockets down for everybody.
func (l *launcher) mend(ctx context.Context) {
	watch, err := l.held.Watch(ctx)
	if err != nil {
		l.log.Error("cannot watch the sockets: one that a worker shuts down is mended with the next generation", "error", err)
		return
	}
	defer watch.Close()
	for {
		mended, err := watch.Mended()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			l.log.Error("cannot watch the sockets any more: one that a worker shuts down is mended with the next generation", "error", err)
			return
		}
		l.log.Warn("somebody shut a listening socket down; it listens again", "address", joinAddresses(mended.Addresses()))
	}
}
