package launcher

import (
	"slices"
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
	hung  []hungTime    // the same
}

// hungTime is a time in which a generation was ready and did not serve.
type hungTime struct {
	generation int
	worker.Hung
	until time.Time // zero while it lasts
}

// hungLength is how many such times of a generation are remembered.
const hungLength = 10

// observe takes note of a worker that hangs, or does no more.
func (h *history) observe(status worker.Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.hung)
	lasts := n > 0 && h.hung[n-1].until.IsZero()
	switch {
	case lasts && (status.Hung == nil || status.Generation != h.hung[n-1].generation):
		h.hung[n-1].until = time.Now()
	case !lasts && status.Hung != nil:
		if n == historyLength*hungLength {
			h.hung = slices.Delete(h.hung, 0, 1)
		}
		h.hung = append(h.hung, hungTime{generation: status.Generation, Hung: *status.Hung})
	}
}

// hungTimes are those of a generation, the last hungLength of them.
func (h *history) hungTimes(generation int) []api.HungTime {
	times := []api.HungTime{}
	for _, hung := range h.hung {
		if hung.generation == generation {
			times = append(times, api.HungTime{Hung: *hungStatus(&hung.Hung), Until: api.Moment(hung.until)})
		}
	}
	return times[max(0, len(times)-hungLength):]
}

func (h *history) add(exit worker.Exit) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.exits) == historyLength {
		h.exits = slices.Delete(h.exits, 0, 1)
	}
	h.exits = append(h.exits, exit)
}

// lives are the generations that have ended and, at the end, the one that was observed, if it lives.
func (h *history) lives(observed *worker.Status) []api.Life {
	h.mu.Lock()
	defer h.mu.Unlock()
	lives := []api.Life{}
	for _, exit := range h.exits {
		lives = append(lives, api.Life{
			Generation: exit.Generation, State: "ended", Started: exit.At.Add(-exit.Lived), ReadyAfterMS: milliseconds(exit.ReadyAfter),
			LivedMS: exit.Lived.Milliseconds(), Ended: api.Moment(exit.At), Code: exit.Code, Reason: string(exit.Reason),
			Detail: exit.Detail, Strays: len(exit.Strays), Signal: say.Signal(exit.Signal), Hung: h.hungTimes(exit.Generation),
		})
	}
	n := len(h.exits)
	if observed.PID == 0 || n > 0 && h.exits[n-1].Generation >= observed.Generation {
		return lives
	}
	return append(lives, api.Life{
		Generation: observed.Generation, State: observed.State.String(), Started: observed.Started,
		ReadyAfterMS: milliseconds(observed.ReadyAfter), LivedMS: time.Since(observed.Started).Milliseconds(), Code: -1,
		Hung: h.hungTimes(observed.Generation),
	})
}

func milliseconds(d time.Duration) *int64 {
	if d == 0 {
		return nil
	}
	n := d.Milliseconds()
	return &n
}
