package clock

import (
	"context"
	"time"
)

// Beat says each time when a heartbeat is due, until stop is called. The first is due at once: one that has just been executed in
// place does not know how long ago the last one was.
func Beat(every time.Duration) (due <-chan struct{}, stop func()) {
	ctx, stop := context.WithCancel(context.Background())
	beats := make(chan struct{})
	go func() {
		for {
			select {
			case beats <- struct{}{}:
			case <-ctx.Done():
			}
			if Sleep(ctx, every) != nil {
				return
			}
		}
	}()
	return beats, stop
}
