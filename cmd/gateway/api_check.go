package main

// checkQuestion is what POST /check is asked: a configuration that is not saved
// yet, perhaps. The content comes along because the launcher may be another user,
// who cannot read the file.
type checkQuestion struct {
	Path    string `json:"path"`
	Content []byte `json:"content"` // base64; null without a file
}

// checkAnswer says what an edit would do.
type checkAnswer struct {
	PID int `json:"pid"` // of the launcher
	// Mistakes are what is wrong with the file, a line each, and Rejected why the
	// launcher would not take a file without mistakes. Without either, the rest counts.
	Mistakes []string `json:"mistakes"`
	Rejected string   `json:"rejected"`
	Changes  []change `json:"changes"`
	Outcome  string   `json:"outcome"`
}

// change is what an edit does to one key.
type change struct {
	Key    string `json:"key"`
	From   string `json:"from"`
	To     string `json:"to"`
	Effect effect `json:"effect"`
}

// effect is when a change takes effect.
type effect string

const (
	atOnce          effect = "at once"
	nextGeneration  effect = "with the next generation, now"
	nextFailure     effect = "with the next failure"
	nextLauncher    effect = "with the next start of the launcher"
	withUnits       effect = "when \"gateway install\" has rendered the units again"
	nowAndWithUnits effect = "with the next generation, now, and in full when \"gateway install\" has rendered the units again"
)

// restarts reports whether the change asks for another worker.
func (c change) restarts() bool { return c.Effect == nextGeneration || c.Effect == nowAndWithUnits }

// answer is what /restart and /reload say.
type answer struct {
	Error string `json:"error,omitempty"`
}
