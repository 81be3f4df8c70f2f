package clock

import (
	"context"
	"time"
)

// Beat says each time when a heartbeat is due, until stop is called.
func Beat(every time.Duration) (due <-chan struct{}, stop func()) {
	ctx, stop := context.WithCancel(context.Background())
	beats := make(chan struct{})
	go func() {
		for Sleep(ctx, every) == nil {
			select {
			case beats <- struct{}{}:
			case <-ctx.Done():
			}
		}
	}()
	return beats, stop
}
