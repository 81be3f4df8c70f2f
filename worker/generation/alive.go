package generation

import (
	"context"
	"slices"
	"time"

	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/signs"
)

// aliveness is what shows whether a ready generation serves.
type aliveness struct {
	alive signs.Settings
	cease func()        // ends what watches for the signs, and returns when it has ended
	Hung  []*signs.Hung // the signs that it does not, the first one first
	Blind string        // why a client that waits too long is not seen, although that is looked at; "": it is
	Mute  string        // why no request of alive.path is made, although one is to be; "": it is
	beats chan bool     // WATCHDOG=1 of the worker; true: WATCHDOG=trigger
}

// WatchAlive watches for the signs that a ready worker hangs, until it is called with another Alive.
func (g *Generation) WatchAlive(settings signs.Settings) {
	if g.alive == settings {
		return
	}
	g.cease()
	g.alive, g.Hung, g.Blind, g.Mute = settings, nil, "", ""
	watched := signs.Worker{
		Log: g.Options.Log, Generation: g.Number, Queues: g.Spec.Queues, Prober: g.prober(), Target: g.target, Waiting: g.own.Waiting, Beats: g.beats,
		Hangs:    func(ctx context.Context, hung signs.Hung) { g.sign(ctx, Hangs, hung) },
		Relieved: func(ctx context.Context, hung signs.Hung) { g.sign(ctx, Relieved, hung) },
		Blind: func(ctx context.Context, by signs.Sign, err error) {
			g.tellOf(ctx, Event{Kind: Blinded, Err: err, hung: signs.Hung{By: by}})
		},
	}
	g.cease = watched.Watch(settings)
}

// sign tells of a sign, or that it has gone.
func (g *Generation) sign(ctx context.Context, kind Kind, hung signs.Hung) {
	g.tellOf(ctx, Event{Kind: kind, hung: hung})
}

func (g *Generation) tellOf(ctx context.Context, e Event) {
	e.Generation = g.Number
	select {
	case g.Events <- e:
	case <-ctx.Done():
	}
}

func (g *Generation) takeBlind(e Event) {
	why := ""
	if e.Err != nil {
		why = e.Err.Error()
	}
	if e.hung.By == signs.ByProbe {
		g.Mute = why
	} else {
		g.Blind = why
	}
}

func (g *Generation) takeHang(e Event) {
	g.Hung = append(g.Hung, &e.hung)
	g.Options.Log.Warn("worker hangs", g.Told("by", e.hung.By, "problem", e.hung.Detail)...)
	if g.alive.Restart {
		g.stop(ends.ReasonHung, e.hung.Detail)
	}
}

func (g *Generation) takeRelief(e Event) {
	before := g.Hung
	g.Hung = slices.DeleteFunc(slices.Clone(before), func(h *signs.Hung) bool { return h.By == e.hung.By })
	if len(before) > 0 && len(g.Hung) == 0 {
		g.Options.Log.Info("worker serves again", g.Told("after_ms", time.Since(before[0].Since).Milliseconds())...)
	}
}
