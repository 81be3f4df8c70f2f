package clock

import (
	"testing"
	"time"
)

// TestBeatAtOnce: two upgrades within one interval would otherwise leave systemd's watchdog without a beat for longer than it waits.
func TestBeatAtOnce(t *testing.T) {
	t.Parallel()
	due, stop := Beat(time.Hour)
	defer stop()
	select {
	case <-due:
	case <-time.After(10 * time.Second):
		t.Fatal("no first beat")
	}
}
