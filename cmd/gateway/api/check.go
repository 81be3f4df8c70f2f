package api

// CheckRequest is what POST /check is asked: a configuration that is not saved
// yet, perhaps. The content comes along because the launcher may be another user,
// who cannot read the file.
type CheckRequest struct {
	Path    string `json:"path"`
	Content []byte `json:"content"` // base64; null without a file
}

// CheckReply says what an edit would do.
type CheckReply struct {
	PID int `json:"pid"` // of the launcher
	// Mistakes are what is wrong with the file, a line each, and Rejected why the
	// launcher would not take a file without mistakes. Without either, the rest counts.
	Mistakes []string `json:"mistakes"`
	Rejected string   `json:"rejected"`
	InUse    string   `json:"in_use"` // the address that somebody else has, if that is why
	Changes  []Change `json:"changes"`
	Summary  string   `json:"outcome"`
}

// Change is what an edit does to one key.
type Change struct {
	Key    string `json:"key"`
	From   string `json:"from"`
	To     string `json:"to"`
	Effect Effect `json:"effect"`
}

// Effect is when a change takes effect.
type Effect string

const (
	EffectAtOnce         Effect = "at once"
	EffectNextGeneration Effect = "with the next generation, now"
	EffectNextFailure    Effect = "with the next failure"
	EffectNextLauncher   Effect = "with the next start of the launcher"
	// For what the unit has to be enabled for.
	EffectNextLauncherAndBoot Effect = "with the next start of the launcher, and at boot when \"gateway install\" has looked at it again"
	EffectWithUnits           Effect = "when \"gateway install\" has rendered the units again"
	EffectNowAndWithUnits     Effect = "with the next generation, now, and in full when \"gateway install\" has rendered the units again"
)

// Restarts reports whether the change asks for another worker.
func (c Change) Restarts() bool {
	return c.Effect == EffectNextGeneration || c.Effect == EffectNowAndWithUnits
}

// Reply is what /restart and /reload say.
type Reply struct {
	Error string `json:"error,omitempty"`
}
