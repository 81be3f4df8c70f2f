package status

import (
	"fmt"
	"io"
	"text/tabwriter"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/say"
)

// WriteCheck says what a file would change in a launcher.
func WriteCheck(out io.Writer, a api.CheckReply, t client.Target) error {
	fmt.Fprintf(out, "saved now, for the launcher of the %s scope (pid %d):\n", t.Scope, a.PID)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, c := range a.Changes {
		fmt.Fprintf(table, "  %s\tfrom %s\tto %s\t%s\n", say.Printable(c.Key), say.Printable(c.From), say.Printable(c.To), say.Printable(string(c.Effect)))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, a.Summary)
	return err
}
