package worker

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

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
	Address netip.AddrPort
	Detail  string // a sentence
}

// aliveness is what shows whether a ready generation serves.
type aliveness struct {
	alive Alive
	cease func()    // ends what watches for the signs, and returns when it has ended
	hung  []*Hung   // the signs that it does not, the first one first
	beats chan bool // WATCHDOG=1 of the worker; true: WATCHDOG=trigger
}

// watchAlive watches for the signs that a ready worker hangs, until it is called with another Alive.
func (g *generation) watchAlive(alive Alive) {
	if g.alive == alive {
		return
	}
	g.cease()
	g.alive, g.hung = alive, nil
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	g.cease = func() {
		cancel()
		watching.Wait()
	}
	if alive.Queue > 0 {
		watching.Go(func() { g.watchQueue(ctx, alive.Queue) })
	}
	if alive.Path != "" {
		watching.Go(func() { g.watchAnswers(ctx, alive) })
	}
	if alive.Watchdog > 0 {
		watching.Go(func() { g.watchBeats(ctx, alive.Watchdog) })
	}
}

// sign tells of a sign, or that it has gone.
func (g *generation) sign(ctx context.Context, kind kind, hung Hung) {
	select {
	case g.events <- event{kind: kind, generation: g.number, hung: hung}:
	case <-ctx.Done():
	}
}

func (g *generation) watchQueue(ctx context.Context, limit time.Duration) {
	for {
		address, since, err := g.spec.Queues.AwaitStall(ctx, limit)
		if err == nil {
			g.sign(ctx, hangs, Hung{By: ByQueue, Since: since, Address: address, Detail: fmt.Sprintf(
				"a client has waited on %s since %s and is not accepted: it hangs, or is full", address, since.Format(time.TimeOnly))})
			err = g.spec.Queues.AwaitRelief(ctx, limit)
		}
		g.sign(ctx, relieved, Hung{By: ByQueue})
		if err != nil {
			if ctx.Err() == nil {
				g.options.Log.Error("a worker that hangs is not noticed by its queue (alive.queue)", "generation", g.number, "error", err)
			}
			return
		}
	}
}

// watchAnswers makes a request each alive.interval, which whoever configures alive.path wants.
func (g *generation) watchAnswers(ctx context.Context, alive Alive) {
	probes := g.prober()
	probes.AnswerTimeout = alive.Timeout
	ask := func() (complaint string) {
		target, shown := g.url(alive.Path), g.url(cmp.Or(alive.Shown, alive.Path))
		if target == "" {
			return "" // nobody can tell from here
		}
		// Its queue would be filled with requests that were given up.
		if conn := g.own.Waiting(); conn != nil {
			if waiting, err := g.spec.Queues.Unaccepted(probe.Ends(conn)); err == nil && waiting {
				return fmt.Sprintf("GET %s: the last request is not accepted yet", shown)
			}
		}
		ctx, cancel := context.WithTimeoutCause(ctx, alive.Timeout, fmt.Errorf("not answered in %s", alive.Timeout))
		defer cancel()
		return probes.Ask(ctx, target, shown)
	}
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
			g.sign(ctx, relieved, Hung{By: ByProbe})
		case !hung && failures == alive.Failures:
			g.sign(ctx, hangs, Hung{By: ByProbe, Since: time.Now(), Detail: complaint})
		}
	}
}

// watchBeats misses a worker that does not say WATCHDOG=1 as often as it was asked to (sd_watchdog_enabled(3)).
func (g *generation) watchBeats(ctx context.Context, promised time.Duration) {
	timer := time.NewTimer(promised)
	defer timer.Stop()
	missed := false
	miss := func(detail string) {
		if !missed {
			g.sign(ctx, hangs, Hung{By: ByWatchdog, Since: time.Now(), Detail: detail})
		}
		missed = true
	}
	for {
		select {
		case trigger := <-g.beats:
			timer.Reset(promised)
			if trigger {
				miss("it has said WATCHDOG=trigger: something is wrong within it")
			} else if missed {
				missed = false
				g.sign(ctx, relieved, Hung{By: ByWatchdog})
			}
		case <-timer.C:
			miss(fmt.Sprintf("it has not said WATCHDOG=1 for %s (alive.watchdog)", promised))
		case <-ctx.Done():
			return
		}
	}
}

func (g *generation) takeHang(e event) {
	g.hung = append(g.hung, &e.hung)
	g.options.Log.Warn("worker hangs", g.told("by", e.hung.By, "problem", e.hung.Detail)...)
	if g.alive.Restart {
		g.stop(ReasonHung, e.hung.Detail)
	}
}

func (g *generation) takeRelief(e event) {
	before := g.hung
	g.hung = slices.DeleteFunc(slices.Clone(before), func(h *Hung) bool { return h.By == e.hung.By })
	if len(before) > 0 && len(g.hung) == 0 {
		g.options.Log.Info("worker serves again", g.told("after_ms", time.Since(before[0].Since).Milliseconds())...)
	}
}
