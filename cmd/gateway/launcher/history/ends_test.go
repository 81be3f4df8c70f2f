package history

import (
	"slices"
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
	var reasons []string
	for _, count := range w.Ends {
		reasons = append(reasons, count.Reason)
		want := 0
		if count.Reason == string(ends.ReasonCrash) {
			want = 1
		}
		if count.Count != want {
			t.Errorf("%s: %d, want %d", count.Reason, count.Count, want)
		}
	}
	if !slices.Equal(reasons, api.Reasons) {
		t.Errorf("the reasons are %q, and those who ask know %q", reasons, api.Reasons)
	}
	if w.StraysEnded != 2 {
		t.Errorf("%d strays, want 2", w.StraysEnded)
	}
}
