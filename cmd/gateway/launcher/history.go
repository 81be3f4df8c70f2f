package launcher

import (
	"sync"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/worker"
)

// historyLength is how many ended generations are remembered.
const historyLength = 100

// history remembers how the last generations ended, for as long as the launcher
// lives; the journal has the rest.
type history struct {
	mu    sync.Mutex
	exits []worker.Exit // the oldest first
}

func (h *history) add(exit worker.Exit) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.exits) == historyLength {
		h.exits = append(h.exits[:0], h.exits[1:]...)
	}
	h.exits = append(h.exits, exit)
}

// history is the generations that have ended and, at the end, the one that lives.
func (l *launcher) generations() api.History {
	// Before those that have ended: so one that ends meanwhile is not missing.
	observed := l.observed.Load()
	l.history.mu.Lock()
	exits := append([]worker.Exit{}, l.history.exits...)
	l.history.mu.Unlock()

	h := api.History{Scope: l.scopeName(), Generations: []api.Life{}}
	for _, exit := range exits {
		life := api.Life{
			Generation: exit.Generation, State: "ended", Started: exit.At.Add(-exit.Lived), ReadyAfterMS: milliseconds(exit.ReadyAfter),
			LivedMS: exit.Lived.Milliseconds(), Ended: api.Moment(exit.At), Code: exit.Code, Reason: string(exit.Reason),
			Detail: exit.Detail, Strays: len(exit.Strays),
		}
		if exit.Signal != 0 {
			life.Signal = say.Signal(exit.Signal)
		}
		h.Generations = append(h.Generations, life)
	}
	if observed == nil || observed.PID == 0 {
		return h
	}
	if n := len(exits); n > 0 && exits[n-1].Generation >= observed.Generation {
		return h
	}
	h.Generations = append(h.Generations, api.Life{
		Generation: observed.Generation, State: observed.State.String(), Started: observed.Started,
		ReadyAfterMS: milliseconds(observed.ReadyAfter), LivedMS: time.Since(observed.Started).Milliseconds(), Code: -1,
	})
	return h
}

func milliseconds(d time.Duration) *int64 {
	if d == 0 {
		return nil
	}
	n := d.Milliseconds()
	return &n
}
