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
	exits := slices.Clone(h.exits)
	h.mu.Unlock()

	lives := []api.Life{}
	for _, exit := range exits {
		lives = append(lives, api.Life{
			Generation: exit.Generation, State: "ended", Started: exit.At.Add(-exit.Lived), ReadyAfterMS: milliseconds(exit.ReadyAfter),
			LivedMS: exit.Lived.Milliseconds(), Ended: api.Moment(exit.At), Code: exit.Code, Reason: string(exit.Reason),
			Detail: exit.Detail, Strays: len(exit.Strays), Signal: say.Signal(exit.Signal),
		})
	}
	n := len(exits)
	if observed.PID == 0 || n > 0 && exits[n-1].Generation >= observed.Generation {
		return lives
	}
	return append(lives, api.Life{
		Generation: observed.Generation, State: observed.State.String(), Started: observed.Started,
		ReadyAfterMS: milliseconds(observed.ReadyAfter), LivedMS: time.Since(observed.Started).Milliseconds(), Code: -1,
	})
}

func milliseconds(d time.Duration) *int64 {
	if d == 0 {
		return nil
	}
	n := d.Milliseconds()
	return &n
}
