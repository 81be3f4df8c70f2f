package status

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/lastwords"
	"openclaw-gateway/cmd/gateway/say"
)

// Histories asks each launcher for what it remembers. failed says which could not be asked, and exit is the exit status then.
func Histories(ctx context.Context, targets []client.Target) (all []api.History, exit int, failed error) {
	var failures []error
	exit = 3 // unless something else is wrong
	for _, t := range targets {
		var h api.History
		if err := t.Ask(ctx, api.HistoryPath, &h); err != nil {
			if !errors.Is(err, client.ErrNotRunning) {
				exit = 1
			}
			failures = append(failures, fmt.Errorf("the launcher of the %s scope remembers the generations, "+
				"`%s` shows what the journal has: %w", t.Scope, t.Logs(), err))
			continue
		}
		h.Instance = string(t.Instance) // whatever it is told
		if t.Unit.MainPID != 0 {
			lastwords.Ask(t).CompleteHistory(ctx, &h)
		}
		all = append(all, h)
	}
	return all, exit, errors.Join(failures...)
}

// HistoryText writes the history for a person.
func HistoryText(h api.History) string {
	if len(h.Generations) == 0 {
		return "no generation yet: the first client starts one\n"
	}
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "GENERATION\tSTARTED\tSTART\tREADY AFTER\tLIVED\tEND\tSTRAYS\tREASON")
	for _, g := range h.Generations {
		ready := "never"
		if g.ReadyAfterMS != nil {
			ready = say.Duration(time.Duration(*g.ReadyAfterMS) * time.Millisecond).String()
		}
		end, reason := say.End(g.Code, g.Signal), g.Reason
		if g.Detail != "" {
			first, _, _ := strings.Cut(g.Detail, "\n")
			reason += ": " + first
		}
		if g.Ended == nil {
			end, reason = g.State, ""
			if g.ReadyAfterMS == nil {
				ready = ""
			}
		}
		if hung := hungFor(g); hung > 0 {
			end += fmt.Sprintf(", hung for %s", say.Duration(hung))
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", g.Generation, g.Started.Local().Format(time.DateTime), g.Start, ready,
			say.Duration(time.Duration(g.LivedMS)*time.Millisecond), say.Printable(end), g.Strays, say.Printable(reason))
	}
	_ = table.Flush()
	for _, g := range h.Generations {
		if len(g.LastWords) > 0 {
			fmt.Fprintf(&b, "last words of generation %d\n", g.Generation)
		}
		for _, words := range g.LastWords {
			fmt.Fprintf(&b, "  %s\n", say.Printable(words))
		}
	}
	for _, note := range h.Notes {
		fmt.Fprintf(&b, "note: %s\n", say.Printable(note))
	}
	return b.String()
}

// hungFor is how long a generation was ready and did not serve, as far as it is remembered.
func hungFor(g api.Life) (total time.Duration) {
	for _, hung := range g.Hung {
		until := time.Now()
		if hung.Until != nil {
			until = *hung.Until
		}
		total += until.Sub(hung.Since)
	}
	return total
}
