package main

import (
	"fmt"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

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

// History is what GET /history on the control socket and "gateway status
// --history --json" answer.
type History struct {
	Scope       string           `json:"scope"` // system, user or none
	Generations []GenerationLife `json:"generations"`
}

// GenerationLife is one life of the worker.
type GenerationLife struct {
	Generation   int        `json:"generation"`
	State        string     `json:"state"` // of the last one while it lives; else "ended"
	Started      time.Time  `json:"started"`
	ReadyAfterMS *int64     `json:"ready_after_ms"` // null: it was never ready
	LivedMS      int64      `json:"lived_ms"`       // until now while it lives
	Ended        *time.Time `json:"ended"`          // null while it lives
	Code         int        `json:"code"`           // -1: ended by a signal, never ran, or lives
	Signal       string     `json:"signal"`
	Reason       string     `json:"reason"`
	Detail       string     `json:"detail"`
	Strays       int        `json:"strays"`
}

// history is the generations that have ended and, at the end, the one that lives.
func (l *launcher) generations() History {
	// Before those that have ended: so one that ends meanwhile is not missing.
	observed := l.observed.Load()
	l.history.mu.Lock()
	exits := append([]worker.Exit{}, l.history.exits...)
	l.history.mu.Unlock()

	h := History{Scope: l.scopeName(), Generations: []GenerationLife{}}
	for _, exit := range exits {
		life := GenerationLife{
			Generation: exit.Generation, State: "ended", Started: exit.At.Add(-exit.Lived), ReadyAfterMS: milliseconds(exit.ReadyAfter),
			LivedMS: exit.Lived.Milliseconds(), Ended: moment(exit.At), Code: exit.Code, Reason: string(exit.Reason),
			Detail: exit.Detail, Strays: len(exit.Strays),
		}
		if exit.Signal != 0 {
			life.Signal = signalText(exit.Signal)
		}
		h.Generations = append(h.Generations, life)
	}
	if observed == nil || observed.PID == 0 {
		return h
	}
	if n := len(exits); n > 0 && exits[n-1].Generation >= observed.Generation {
		return h
	}
	h.Generations = append(h.Generations, GenerationLife{
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

func signalText(signal unix.Signal) string {
	if name := unix.SignalName(signal); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(signal))
}

// text writes the history for a person.
func (h History) text() string {
	if len(h.Generations) == 0 {
		return "no generation yet: the first client starts one\n"
	}
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "GENERATION\tSTARTED\tREADY AFTER\tLIVED\tEND\tREASON\tSTRAYS")
	for _, g := range h.Generations {
		ready := "never"
		if g.ReadyAfterMS != nil {
			ready = roundDuration(time.Duration(*g.ReadyAfterMS) * time.Millisecond).String()
		}
		end, reason := howItEnded(g.Code, g.Signal), g.Reason
		if g.Detail != "" {
			reason += ": " + firstLine(g.Detail)
		}
		if g.Ended == nil {
			end, reason = g.State, ""
			if g.ReadyAfterMS == nil {
				ready = ""
			}
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%d\n", g.Generation, g.Started.Local().Format(time.DateTime), ready,
			roundDuration(time.Duration(g.LivedMS)*time.Millisecond), end, reason, g.Strays)
	}
	_ = table.Flush()
	return b.String()
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// howItEnded says it in words, without the reason.
func howItEnded(code int, signal string) string {
	switch {
	case signal != "":
		return "killed by " + signal
	case code >= 0:
		return fmt.Sprintf("exit code %d", code)
	default:
		return "never ran"
	}
}
