package launcher

import (
	"bytes"
	"log/slog"

	"openclaw-gateway/cmd/gateway/state"
	"openclaw-gateway/listener"
)

// keepCame keeps for the next launcher in which state the sockets came: this one may be killed. What an earlier one has kept
// of them counts.
func keepCame(sockets listener.Set, log *slog.Logger) *state.Keeper {
	before := state.Load(state.Came)
	text, err := sockets.Came(before)
	kept := &state.Keeper{Log: log, What: "in which state the sockets came is", Write: func() error {
		path, _ := state.Path(state.Came) // what is wrong with that is told of the other files
		if path == "" || err != nil {
			return err
		}
		return state.Write(path, text)
	}}
	if !bytes.Equal(text, before) {
		kept.Keep()
	}
	return kept
}
