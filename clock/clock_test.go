package clock_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"openclaw-gateway/clock"
)

func TestSleep(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{-time.Second, 0, time.Nanosecond, 30 * time.Millisecond} {
		begin := time.Now()
		if err := clock.Sleep(t.Context(), d); err != nil || time.Since(begin) < d {
			t.Errorf("slept %s of %s: %v", time.Since(begin), d, err)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	soon, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	for want, ctx := range map[error]context.Context{context.Canceled: ended, context.DeadlineExceeded: soon} {
		if err := clock.Sleep(ctx, 24*time.Hour); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
}
