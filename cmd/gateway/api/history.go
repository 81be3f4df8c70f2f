package api

import "time"

// History is what GET /history on the control socket and "gateway status
// --history --json" answer.
type History struct {
	Instance    string `json:"instance"` // its name; "" for the default one
	Scope       string `json:"scope"`    // system, user or ScopeNone
	Generations []Life `json:"generations"`
	// Notes say what is not known of earlier generations, and why.
	Notes []string `json:"notes"`
}

// Life is one life of the worker.
type Life struct {
	Generation   int       `json:"generation"`
	State        string    `json:"state"` // of one that lives: of the worker, "booting", "parked" or "leaving"; else "ended"
	PID          int       `json:"pid"`   // of its main process; 0: it never ran
	Started      time.Time `json:"started"`
	Start        string    `json:"start"`          // StartCold, StartCached or StartPrewarmed
	ReadyAfterMS *int64    `json:"ready_after_ms"` // null: it was never ready
	// Of one that started beside another: from its start until it began to listen and was held, and until it got the sockets;
	// null: it did not.
	GateAfterMS     *int64 `json:"gate_after_ms"`
	ReleasedAfterMS *int64 `json:"released_after_ms"`
	// StallMS is for how long nobody served before it was ready: from when the one before was told to end, or had ended, or had let go of the
	// sockets for it; null: it was not ready, or the first, or nobody waited for it.
	StallMS *int64     `json:"stall_ms"`
	LivedMS int64      `json:"lived_ms"` // until now while it lives
	Ended   *time.Time `json:"ended"`    // null while it lives
	Code    int        `json:"code"`     // -1: ended by a signal, never ran, or lives; -2: nobody can tell
	Signal  string     `json:"signal"`
	Reason  string     `json:"reason"`
	Detail  string     `json:"detail"`
	Strays  int        `json:"strays"`
	// LastWords are the last lines of output of the last three that have failed, as far as they are known; else null.
	LastWords []string `json:"last_words"`
	// Hung is when it did not serve although it was ready, the last ten times.
	Hung []HungTime `json:"hung"`
}

// How a life starts: without what an earlier one has compiled, with that, or with its modules loaded beside the earlier one.
const (
	StartCold      = "cold"
	StartCached    = "cached"
	StartPrewarmed = "prewarmed"
)

// HungTime is a time in which a worker was ready and did not serve.
type HungTime struct {
	Hung
	Until *time.Time `json:"until"` // null while it lasts
}
