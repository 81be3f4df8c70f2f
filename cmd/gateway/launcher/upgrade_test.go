package launcher

import (
	"errors"
	"testing"
	"time"

	"openclaw-gateway/passed"
	"openclaw-gateway/worker"
	"openclaw-gateway/worker/signs"
)

// TestBequeath: when a generation did not serve is known to the next program, and what is told waits for no edit.
func TestBequeath(t *testing.T) {
	l, c, _ := rigControl(t)
	l.control = c
	status := worker.Status{State: worker.Ready, Generation: 3, PID: 7, Started: time.Now(), ReadyAfter: time.Second}
	for range 2 {
		l.observe(status)
		hung := status
		hung.Hung = &signs.Hung{Since: time.Now(), By: signs.ByQueue}
		l.observe(hung)
	}
	l.observe(status)
	want := l.History().Generations[0].Hung
	for range 3 { // one program after the other
		left, err := l.bequeath(worker.Saved{}, new(passed.Files))
		if err != nil {
			t.Fatal(err)
		}
		l, c, _ = rigControl(t)
		l.control = c
		l.reporter.history.Resume(left.History)
		l.observe(status)
		if lives := l.History().Generations; len(lives) != 1 || len(lives[0].Hung) != 2 || !lives[0].Hung[1].Until.Equal(*want[1].Until) {
			t.Errorf("it has %+v, want %+v", lives, want)
		}
	}
	l.editions.mu.Lock() // as whoever applies an edit, and waits for the supervisor, which calls bequeath
	if _, err := l.bequeath(worker.Saved{}, new(passed.Files)); !errors.Is(err, errEdited) {
		t.Errorf("while an edit is applied: %v", err)
	}
	l.editions.mu.Unlock()
}
