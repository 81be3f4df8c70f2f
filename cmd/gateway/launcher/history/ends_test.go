package history

import (
	"testing"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/proctree"
)

// TestCounts: a successor that never had the sockets is no restart, and what it left was ended all the same.
func TestCounts(t *testing.T) {
	e := NewCounts()
	left := []proctree.Process{{PID: 1}}
	e.Add(ends.Exit{Reason: ends.ReasonCrash, Strays: left})
	e.Add(ends.Exit{Reason: ends.ReasonCrash, Strays: left, Successor: true})
	e.Add(ends.Exit{Reason: ends.ReasonConfig, Successor: true})
	var w api.Worker
	e.Tell(&w)
	for _, count := range w.Ends {
		want := 0
		if count.Reason == string(ends.ReasonCrash) {
			want = 1
		}
		if count.Count != want {
			t.Errorf("%s: %d, want %d", count.Reason, count.Count, want)
		}
	}
	if w.StraysEnded != 2 {
		t.Errorf("%d strays, want 2", w.StraysEnded)
	}
}
