package history

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"slices"
	"sync"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/state"
	"openclaw-gateway/worker"
	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/signs"
)

// Length is how many ended generations are remembered.
const Length = 100

// History remembers how the last generations ended, those of earlier launchers too; the journal has the rest.
type History struct {
	Kept    state.Keeper
	earlier []api.Life // of earlier launchers, the oldest first
	Newest  int        // the number of the last of these; 0: none is known
	Notes   []string   // what is not known of them

	mu      sync.Mutex
	present worker.Status
	exits   []ends.Exit // the oldest first
	hung    []hungTime  // the same
	before  api.Life    // what an earlier program of this process has known of the generation that lived then
}

// hungTime is a time in which a generation was ready and did not serve.
type hungTime struct {
	generation int
	signs.Hung
	until time.Time // zero while it lasts
}

// hungLength is how many such times of a generation are remembered.
const hungLength = 10

// Observe takes note of the present generation, and of one that hangs, or does no more.
func (h *History) Observe(status worker.Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.present
	h.present = status
	n := len(h.hung)
	lasts := n > 0 && h.hung[n-1].until.IsZero()
	switch {
	case lasts && (status.Hung == nil || status.Generation != h.hung[n-1].generation):
		h.hung[n-1].until = time.Now()
	case !lasts && status.Hung != nil:
		if n == Length*hungLength {
			h.hung = slices.Delete(h.hung, 0, 1)
		}
		h.hung = append(h.hung, hungTime{generation: status.Generation, Hung: *status.Hung})
	case status.PID == 0 || status.Generation == before.Generation && status.ReadyAfter == before.ReadyAfter && status.Successor.Generation == before.Successor.Generation:
		return // its end comes with Add
	}
	h.Kept.Keep()
}

// hungTimes are those of a generation, the last hungLength of them.
func (h *History) hungTimes(generation int) []api.HungTime {
	times := []api.HungTime{}
	if h.before.Generation == generation {
		times = append(times, h.before.Hung...)
	}
	for _, hung := range h.hung {
		if hung.generation == generation {
			times = append(times, api.HungTime{Hung: *Hung(&hung.Hung), Until: api.Moment(hung.until)})
		}
	}
	return times[max(0, len(times)-hungLength):]
}

func (h *History) Add(exit ends.Exit) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.exits) == Length {
		h.exits = slices.Delete(h.exits, 0, 1)
	}
	h.exits = append(h.exits, exit)
	h.Kept.Keep()
}

// Lives are the generations that have ended and, at the end, the one that lives, if there is one.
func (h *History) Lives() []api.Life {
	h.mu.Lock()
	defer h.mu.Unlock()
	lives := slices.Clone(h.earlier)
	for _, exit := range h.exits {
		lives = append(lives, api.Life{
			Generation: exit.Generation, State: "ended", PID: exit.PID, Started: exit.At.Add(-exit.Lived), Start: startOf(exit.Cached, exit.Prewarmed), ReadyAfterMS: milliseconds(exit.ReadyAfter),
			LivedMS: exit.Lived.Milliseconds(), Ended: api.Moment(exit.At), Code: exit.Code, Reason: string(exit.Reason),
			Detail: exit.Detail, Strays: len(exit.Strays), Signal: say.Signal(exit.Signal), Hung: h.hungTimes(exit.Generation),
			GateAfterMS: milliseconds(exit.GateAfter), ReleasedAfterMS: milliseconds(exit.ReleasedAfter), StallMS: milliseconds(exit.Stall),
		})
	}
	// With two at once they need not end in the order in which they started.
	slices.SortStableFunc(lives, func(a, b api.Life) int { return cmp.Compare(a.Generation, b.Generation) })
	lives = slices.Clone(lives[max(0, len(lives)-Length):]) // so that none is null in JSON
	p := h.present
	for _, g := range []worker.Beside{
		p.Leaving,
		{
			Generation: p.Generation, State: p.State.String(), PID: p.PID, Started: p.Started, ReadyAfter: p.ReadyAfter, GateAfter: p.GateAfter,
			Released: p.ReleasedAfter, Stall: p.Stall, Cached: p.Cached, Prewarmed: p.Prewarmed,
		},
		p.Successor,
	} {
		if g.PID == 0 || slices.ContainsFunc(h.exits, func(e ends.Exit) bool { return e.Generation == g.Generation }) {
			continue
		}
		lives = append(lives, api.Life{
			Generation: g.Generation, State: g.State, PID: g.PID, Started: g.Started, Start: startOf(g.Cached, g.Prewarmed), ReadyAfterMS: milliseconds(g.ReadyAfter),
			StallMS: milliseconds(g.Stall), GateAfterMS: milliseconds(g.GateAfter), ReleasedAfterMS: milliseconds(g.Released), LivedMS: time.Since(g.Started).Milliseconds(), Code: -1,
			Hung: h.hungTimes(g.Generation),
		})
	}
	return lives
}

func startOf(cached, prewarmed bool) string {
	start := map[bool]string{false: api.StartCold, true: api.StartCached}[cached]
	if prewarmed {
		start = api.StartPrewarmed
	}
	return start
}

func milliseconds(d time.Duration) *int64 {
	if d == 0 {
		return nil
	}
	n := d.Milliseconds()
	return &n
}

// Hung says why a generation does not serve; nil: it does.
func Hung(hung *signs.Hung) *api.Hung {
	if hung == nil {
		return nil
	}
	h := api.Hung{Since: hung.Since, By: string(hung.By)}
	if hung.Address.IsValid() {
		h.Address = hung.Address.String()
	}
	return &h
}

// What is kept for the next launcher: a line of JSON for each generation. What a later version has kept is not read at all
// (package state).

const (
	File = state.History
	// Limit is how many bytes are read: more than a hundred lines have, of which the longest word is LongestKept.
	Limit       = 1 << 20
	LongestKept = 1 << 10
)

// Begin takes over what earlier launchers have left, and has kept from then on what is new.
func (h *History) Begin(log *slog.Logger, changed func()) {
	h.Notes = []string{}
	h.Kept = state.Keeper{Log: log, What: "the history of the generations is", Changed: changed, Write: h.save}
	path, err := state.Path(File)
	if path == "" {
		h.Kept.Fail(err)
		return
	}
	content, _, err := read.File(path, Limit, os.Geteuid())
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			h.Notes = append(h.Notes, fmt.Sprintf("the generations of earlier launchers are not known: %v", err))
		}
	} else {
		h.take(content, path)
	}
	for _, note := range h.Notes {
		log.Warn(note)
	}
}

// Resume takes what an earlier program of this process knew, in place of what is kept.
func (h *History) Resume(lives []api.Life) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, life := range lives {
		if life.Ended == nil {
			h.before = life
		}
	}
	h.earlier = slices.DeleteFunc(lives, func(life api.Life) bool { return life.Ended == nil })
}

// take takes over the lines of a file.
func (h *History) take(content []byte, path string) {
	n, skipped, first := 0, 0, 0
	for text := range bytes.Lines(content) {
		n++
		var life api.Life
		err := json.Unmarshal(text, &life)
		counts := life.Generation > 0 && life.Generation < math.MaxInt32
		if counts {
			h.Newest = max(h.Newest, life.Generation) // whatever else is wrong with it
		}
		if err == nil && counts {
			h.earlier = append(h.earlier, over(life))
		} else if skipped++; skipped == 1 {
			first = n
		}
	}
	h.earlier = h.earlier[max(0, len(h.earlier)-Length):]
	if skipped > 0 {
		h.Notes = append(h.Notes, fmt.Sprintf("%s of %s left out: line %d is torn or no entry of a history", say.Count(skipped, "line"), path, first))
	}
}

// over is what became of a generation of an earlier launcher.
func over(life api.Life) api.Life {
	if life.Ended == nil {
		// The main process of a worker does not outlive its launcher.
		now := time.Now()
		life.State, life.Ended, life.LivedMS, life.Signal, life.Reason = "ended", &now, now.Sub(life.Started).Milliseconds(), "SIGKILL", string(ends.ReasonStop)
		life.Detail = "its launcher was killed, or the machine went down, at this time or before"
	}
	return life
}

// save writes the file anew.
func (h *History) save() error {
	path, err := state.Path(File)
	if path == "" {
		return err
	}
	var content bytes.Buffer
	lines := json.NewEncoder(&content)
	lines.SetEscapeHTML(false)
	lives := h.Lives()
	for _, life := range lives[max(0, len(lives)-Length):] {
		life.Detail = say.Cut(life.Detail, LongestKept)
		if err := lines.Encode(life); err != nil {
			return err
		}
	}
	return state.Write(path, content.Bytes())
}
