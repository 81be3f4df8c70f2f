// Package signs watches for the signs that a worker which is ready does not serve.
package signs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/probe"
)

// Sign is how a worker that is ready is seen not to serve.
type Sign string

// The signs, as the status shows them.
const (
	ByQueue    Sign = "queue"    // a client has waited too long to be accepted
	ByProbe    Sign = "probe"    // it does not answer the launcher's requests
	ByWatchdog Sign = "watchdog" // it does not say WATCHDOG=1
)

// Hung is a worker that is ready and does not serve.
type Hung struct {
	By    Sign
	Since time.Time
	// Address is where the client waits, of ByQueue.
	Address netaddr.Address
	Detail  string // a sentence
}

// Settings say when a worker that is ready counts as hung, and what follows.
type Settings struct {
	Queue       time.Duration // a client has stood unaccepted for so long; 0: not looked at
	Path        string        // asked for as Spec.ReadyPath is; "": no request is made
	Shown       string        // the same as the log and the status may show it
	Interval    time.Duration // between two requests
	Timeout     time.Duration // for the answer
	Failures    int           // in a row
	Watchdog    time.Duration // the worker was promised as WATCHDOG_USEC that it is missed after so long without WATCHDOG=1; 0: it was not
	Restart     bool          // it is replaced
	StopTimeout time.Duration // of a hung one, from the signal to SIGKILL
}

// Queues tell of a client that waits too long, and that none does any more.
type Queues interface {
	// AwaitStall returns on which socket a client has stood unaccepted for so long, and since when, and an error when the
	// context is done or when that cannot be seen. AwaitRelief returns nil when no such client is left.
	AwaitStall(ctx context.Context, limit time.Duration) (address netaddr.Address, since time.Time, err error)
	AwaitRelief(ctx context.Context, limit time.Duration) error
	// Unaccepted reports whether a connection to this machine has not been accepted yet, named by its two ends.
	Unaccepted(server, client netaddr.Address) (bool, error)
}

// Worker is what is watched.
type Worker struct {
	Log        *slog.Logger
	Generation int
	Queues     Queues
	Prober     probe.Prober
	Target     func(path string) (target probe.Target, can bool) // where a path of the configuration leads
	Waiting    func() net.Conn                                   // the launcher's own request that may not have been accepted; nil: none
	Beats      <-chan bool                                       // WATCHDOG=1 of the worker; true: WATCHDOG=trigger
	// Hangs is told of a sign, and Relieved that it has gone.
	Hangs, Relieved func(context.Context, Hung)
	// Blind is told that a sign cannot be seen, and why; nil: it can be again.
	Blind func(context.Context, Sign, error)
}

// Watch watches until what it returns is called, which returns when nothing does any more.
func (w *Worker) Watch(alive Settings) (cease func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	if alive.Queue > 0 {
		watching.Go(func() { w.watchQueue(ctx, alive.Queue) })
	}
	if alive.Path != "" {
		watching.Go(func() { w.watchAnswers(ctx, alive) })
	}
	if alive.Watchdog > 0 {
		watching.Go(func() { w.watchBeats(ctx, alive.Watchdog) })
	}
	return func() {
		cancel()
		watching.Wait()
	}
}

func (w *Worker) watchQueue(ctx context.Context, limit time.Duration) {
	for {
		address, since, err := w.Queues.AwaitStall(ctx, limit)
		if err == nil {
			w.Hangs(ctx, Hung{By: ByQueue, Since: since, Address: address, Detail: fmt.Sprintf(
				"a client has waited on %s since %s and is not accepted: the worker hangs, or is full", address, since.Format(time.TimeOnly))})
			err = w.Queues.AwaitRelief(ctx, limit)
		}
		w.Relieved(ctx, Hung{By: ByQueue})
		if err != nil {
			if ctx.Err() == nil {
				w.Log.Error("a worker that hangs is not noticed by its queue (alive.queue)", "generation", w.Generation, "error", err)
				w.Blind(ctx, ByQueue, err)
			}
			return
		}
	}
}

// errNowhere is why no request is made.
var errNowhere = errors.New("no address of listen can be asked from here; a URL, such as http://HOST:PORT/PATH, is asked wherever that is")

// watchAnswers makes a request each alive.interval, which whoever configures alive.path wants.
func (w *Worker) watchAnswers(ctx context.Context, alive Settings) {
	probes := w.Prober
	probes.AnswerTimeout = alive.Timeout
	blind := false
	// aim says once, and not when it is too late, that nobody can tell from here.
	aim := func() (target probe.Target, can bool) {
		if target, can = w.Target(alive.Path); can == blind {
			blind = !can
			var why error
			if blind {
				why = errNowhere
				w.Log.Error("a worker that hangs is not noticed by its answers (alive.path)", "generation", w.Generation, "error", why)
			}
			w.Blind(ctx, ByProbe, why)
		}
		return target, can
	}
	ask := func() (complaint string) {
		target, can := aim()
		if !can {
			return ""
		}
		shown, _ := w.Target(cmp.Or(alive.Shown, alive.Path))
		// Its queue would be filled with requests that were given up.
		if conn := w.Waiting(); conn != nil {
			if waiting, err := w.Queues.Unaccepted(probe.Ends(conn)); err == nil && waiting {
				return fmt.Sprintf("GET %s: the last request is not accepted yet", shown)
			}
		}
		ctx, cancel := context.WithTimeoutCause(ctx, alive.Timeout, fmt.Errorf("not answered in %s", alive.Timeout))
		defer cancel()
		return probes.Ask(ctx, target, shown)
	}
	aim()
	failures := 0
	ticker := time.NewTicker(alive.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		complaint, hung := ask(), failures >= alive.Failures
		if failures++; complaint == "" {
			failures = 0
		}
		switch {
		case hung && failures == 0:
			w.Relieved(ctx, Hung{By: ByProbe})
		case !hung && failures == alive.Failures:
			w.Hangs(ctx, Hung{By: ByProbe, Since: time.Now(), Detail: complaint})
		}
	}
}

// watchBeats misses a worker that does not say WATCHDOG=1 as often as it was asked to (sd_watchdog_enabled(3)).
func (w *Worker) watchBeats(ctx context.Context, promised time.Duration) {
	timer := time.NewTimer(promised)
	defer timer.Stop()
	missed := false
	miss := func(detail string) {
		if !missed {
			w.Hangs(ctx, Hung{By: ByWatchdog, Since: time.Now(), Detail: detail})
		}
		missed = true
	}
	for {
		select {
		case trigger := <-w.Beats:
			timer.Reset(promised)
			if trigger {
				miss("it has said WATCHDOG=trigger: something is wrong within it")
			} else if missed {
				missed = false
				w.Relieved(ctx, Hung{By: ByWatchdog})
			}
		case <-timer.C:
			miss(fmt.Sprintf("it has not said WATCHDOG=1 for %s (alive.watchdog)", promised))
		case <-ctx.Done():
			return
		}
	}
}
