package history

import (
	"slices"
	"sync"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/worker/ends"
)

// Counts counts how generations that had the sockets have ended since the launcher started, for those who compute rates: the history forgets.
type Counts struct {
	mu     sync.Mutex
	counts []api.Ends // of what has not happened too: a rate needs a beginning
	strays int
}

// NewCounts returns one that has counted nothing.
func NewCounts() *Counts {
	e := &Counts{}
	for _, reason := range ends.Reasons {
		e.counts = append(e.counts, api.Ends{Reason: string(reason)})
	}
	return e
}

// Add counts an end.
func (e *Counts) Add(exit ends.Exit) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.strays += len(exit.Strays)
	if exit.Successor { // whoever served went on
		return
	}
	i := slices.IndexFunc(e.counts, func(c api.Ends) bool { return c.Reason == string(exit.Reason) })
	if i < 0 {
		i, e.counts = len(e.counts), append(e.counts, api.Ends{Reason: string(exit.Reason)})
	}
	e.counts[i].Count++
}

// All is what has been counted, for the program that this process becomes, which takes it by Resume.
func (e *Counts) All() ([]api.Ends, int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.counts), e.strays
}

// Resume takes what an earlier program of this process has counted.
func (e *Counts) Resume(counts []api.Ends, strays int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.counts, e.strays = counts, strays
}

// Tell adds the counts to the status.
func (e *Counts) Tell(w *api.Worker) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w.Ends, w.StraysEnded = slices.Clone(e.counts), e.strays
}
