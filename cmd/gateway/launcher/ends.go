package launcher

import (
	"slices"
	"sync"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/worker"
)

// ends counts how generations have ended since the launcher started, for those who compute rates: the history forgets.
type ends struct {
	mu     sync.Mutex
	counts []api.Ends // of what has not happened too: a rate needs a beginning
	strays int
}

func newEnds() *ends {
	e := &ends{}
	for _, reason := range worker.Reasons {
		e.counts = append(e.counts, api.Ends{Reason: string(reason)})
	}
	return e
}

func (e *ends) add(exit worker.Exit) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.strays += len(exit.Strays)
	i := slices.IndexFunc(e.counts, func(c api.Ends) bool { return c.Reason == string(exit.Reason) })
	if i < 0 {
		i, e.counts = len(e.counts), append(e.counts, api.Ends{Reason: string(exit.Reason)})
	}
	e.counts[i].Count++
}

func (e *ends) tell(w *api.Worker) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w.Ends, w.StraysEnded = slices.Clone(e.counts), e.strays
}
