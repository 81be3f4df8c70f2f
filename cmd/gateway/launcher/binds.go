package launcher

import (
	"encoding/json"
	"log/slog"
	"sync/atomic"

	"openclaw-gateway/cmd/gateway/state"
)

// binds is the command of which a generation has found out that it binds its address itself, in the state directory: so the next
// launcher need not start it in vain before it knows.
type binds struct {
	command atomic.Pointer[[]string]
	kept    state.Keeper
}

func newBinds(log *slog.Logger) *binds {
	b := new(binds)
	b.kept = state.Keeper{Log: log, What: "that the worker binds its address itself is", Write: b.write}
	return b
}

// load returns what was kept; nil where nothing was, or it is no list of words.
func (b *binds) load() (command []string) {
	if json.Unmarshal(state.Load(state.Binds), &command) != nil {
		return nil
	}
	return command
}

func (b *binds) keep(command []string) {
	b.command.Store(&command)
	b.kept.Keep()
}

func (b *binds) write() error {
	path, err := state.Path(state.Binds)
	if path == "" {
		return err
	}
	content, err := json.Marshal(*b.command.Load())
	if err != nil {
		return err
	}
	return state.Write(path, content)
}
