package launcher

import (
	"bytes"
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
)

// historyLength is how many ended generations are remembered.
const historyLength = 100

// history remembers how the last generations ended, those of earlier launchers too; the journal has the rest.
type history struct {
	kept    state.Keeper
	earlier []api.Life // of earlier launchers, the oldest first
	newest  int        // the number of the last of these; 0: none is known
	notes   []string   // what is not known of them

	mu      sync.Mutex
	present worker.Status
	exits   []worker.Exit // the oldest first
	hung    []hungTime    // the same
}

// hungTime is a time in which a generation was ready and did not serve.
type hungTime struct {
	generation int
	worker.Hung
	until time.Time // zero while it lasts
}

// hungLength is how many such times of a generation are remembered.
const hungLength = 10

// observe takes note of the present generation, and of one that hangs, or does no more.
func (h *history) observe(status worker.Status) {
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
		if n == historyLength*hungLength {
			h.hung = slices.Delete(h.hung, 0, 1)
		}
		h.hung = append(h.hung, hungTime{generation: status.Generation, Hung: *status.Hung})
	case status.PID == 0 || status.Generation == before.Generation && status.ReadyAfter == before.ReadyAfter:
		return // its end comes with add
	}
	h.kept.Keep()
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
	h.kept.Keep()
}

// lives are the generations that have ended and, at the end, the one that lives, if there is one.
func (h *history) lives() []api.Life {
	h.mu.Lock()
	defer h.mu.Unlock()
	lives := slices.Clone(h.earlier)
	for _, exit := range h.exits {
		lives = append(lives, api.Life{
			Generation: exit.Generation, State: "ended", PID: exit.PID, Started: exit.At.Add(-exit.Lived), ReadyAfterMS: milliseconds(exit.ReadyAfter),
			LivedMS: exit.Lived.Milliseconds(), Ended: api.Moment(exit.At), Code: exit.Code, Reason: string(exit.Reason),
			Detail: exit.Detail, Strays: len(exit.Strays), Signal: say.Signal(exit.Signal), Hung: h.hungTimes(exit.Generation),
		})
	}
	lives = slices.Clone(lives[max(0, len(lives)-historyLength):]) // so that none is null in JSON
	n := len(h.exits)
	if h.present.PID == 0 || n > 0 && h.exits[n-1].Generation >= h.present.Generation {
		return lives
	}
	return append(lives, api.Life{
		Generation: h.present.Generation, State: h.present.State.String(), PID: h.present.PID, Started: h.present.Started,
		ReadyAfterMS: milliseconds(h.present.ReadyAfter), LivedMS: time.Since(h.present.Started).Milliseconds(), Code: -1,
		Hung: h.hungTimes(h.present.Generation),
	})
}

func milliseconds(d time.Duration) *int64 {
	if d == 0 {
		return nil
	}
	n := d.Milliseconds()
	return &n
}

// What is kept for the next launcher: a line of JSON for each generation.

const (
	historyFile = "history.jsonl"
	// historyVersion is that of its lines. A launcher leaves out those of a later one.
	historyVersion = 1
	// historyLimit is how many bytes are read: more than a hundred lines have, of which the longest word is longestKept.
	historyLimit = 1 << 20
	longestKept  = 1 << 10
)

// line is one of the file.
type line struct {
	Version int `json:"version"`
	api.Life
}

// begin takes over what earlier launchers have left, and has kept from then on what is new.
func (h *history) begin(log *slog.Logger, changed func()) {
	h.notes = []string{}
	h.kept = state.Keeper{Log: log, What: "the history of the generations is", Changed: changed, Write: h.save}
	path, err := state.Path(historyFile)
	if path == "" {
		h.kept.Fail(err)
		return
	}
	content, _, err := read.File(path, historyLimit, os.Geteuid())
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			h.notes = append(h.notes, fmt.Sprintf("the generations of earlier launchers are not known: %v", err))
		}
	} else {
		h.take(content, path)
	}
	for _, note := range h.notes {
		log.Warn(note)
	}
}

// take takes over the lines of a file.
func (h *history) take(content []byte, path string) {
	skipped, why := 0, ""
	skip := func(n int, reason string) {
		if skipped++; skipped == 1 {
			why = fmt.Sprintf("line %d %s", n, reason)
		}
	}
	n := 0
	for text := range bytes.Lines(content) {
		n++
		var l line
		err := json.Unmarshal(text, &l)
		if l.Generation > 0 && l.Generation < math.MaxInt32 {
			h.newest = max(h.newest, l.Generation) // of a later version too
		}
		switch {
		case l.Version > historyVersion:
			skip(n, fmt.Sprintf("is of a later version of this program (%d, this one knows %d)", l.Version, historyVersion))
		case err != nil || l.Version < 1 || l.Generation < 1 || l.Generation >= math.MaxInt32:
			skip(n, "is torn or no entry of a history")
		default:
			h.earlier = append(h.earlier, over(l.Life))
		}
	}
	h.earlier = h.earlier[max(0, len(h.earlier)-historyLength):]
	if skipped > 0 {
		h.notes = append(h.notes, fmt.Sprintf("%s of %s left out: %s", say.Count(skipped, "line"), path, why))
	}
}

// over is what became of a generation of an earlier launcher.
func over(life api.Life) api.Life {
	if life.Ended == nil {
		// The main process of a worker does not outlive its launcher.
		now := time.Now()
		life.State, life.Ended, life.LivedMS, life.Signal, life.Reason = "ended", &now, now.Sub(life.Started).Milliseconds(), "SIGKILL", string(worker.ReasonStop)
		life.Detail = "its launcher was killed, or the machine went down, at this time or before"
	}
	return life
}

// save writes the file anew.
func (h *history) save() error {
	path, err := state.Path(historyFile)
	if path == "" {
		return err
	}
	var content bytes.Buffer
	lines := json.NewEncoder(&content)
	lines.SetEscapeHTML(false)
	lives := h.lives()
	for _, life := range lives[max(0, len(lives)-historyLength):] {
		life.Detail = say.Cut(life.Detail, longestKept)
		if err := lines.Encode(line{historyVersion, life}); err != nil {
			return err
		}
	}
	return state.Write(path, content.Bytes())
}
