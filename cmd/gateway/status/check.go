package status

import (
	"io"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/say"
)

// WriteCheck says what a file would change in a launcher.
func WriteCheck(out io.Writer, a api.CheckReply, t client.Target) error {
	say.Tell(out, "saved now, for the launcher of the %s scope (pid %d):", t.Scope, a.PID)
	var rows [][]string
	for _, c := range a.Changes {
		rows = append(rows, []string{"  " + c.Key, "from " + c.From, "to " + c.To, string(c.Effect)})
	}
	if len(rows) > 0 {
		say.Table(out, rows)
	}
	return say.Tell(out, "%s", a.Summary)
}
