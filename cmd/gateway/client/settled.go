package client

import (
	"context"
	"time"

	"openclaw-gateway/cmd/gateway/dropins"
)

// Settled is the same one when its manager has said how the launcher ended that it starts again: while it does, it does not know
// that any more, and between two starts there may be no more than a moment. After five seconds it is what is known then.
func (t Target) Settled(ctx context.Context) Target {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	told, err := t.Manager().Told(ctx, t.Service())
	var tick <-chan time.Time
	if err != nil { // another user's manager tells root nothing unasked
		ticker := time.NewTicker(10 * time.Millisecond) // which is as long as it takes to ask
		defer ticker.Stop()
		tick = ticker.C
	}
	for ask := true; t.Ended == ""; {
		if ask {
			now := t.Refreshed(ctx)
			if ctx.Err() != nil {
				return t
			}
			t = now
			if t.Ended != "" || t.Again == "" {
				return t // or it has come up, or is started no more
			}
		}
		select {
		case said, more := <-told:
			if !more {
				return t
			}
			if dropins.HasEnded(said) {
				t = t.refreshed(ctx, said)
				t.Ended = endOf(said)
			}
			// Only then: on a busy machine a question takes longer than a start.
			state := said["ActiveState"]
			ask = state != "" && state != "activating"
		case <-tick:
			ask = true
		case <-ctx.Done():
			return t
		}
	}
	return t
}
