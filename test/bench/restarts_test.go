package bench

import (
	"fmt"
	"testing"

	"openclaw-gateway/test/machine"
)

// restarts is the part of the report about restarts under load.
func restarts(b *testing.B, r *report) {
	m := boot(b, machine.Options{})
	systems := all(bootMS)
	t := trial{rounds: 3, times: 5}
	results, versions, broken := t.measure(b, m, systems)
	table := table{
		title: "Restarts under load",
		text: fmt.Sprintf("%d restarts in each of %d runs, in turns; the worker takes %d ms to boot, and answers what it has accepted before it ends. "+
			"Four clients at a time open a new connection for each request, and give up after 10 s. The longest wait is that of any client; the "+
			"longest silence is the time in which nobody was answered. Server::Starter and PM2 let two workers accept at once; with gateway one does.",
			t.times, t.rounds, bootMS),
		head: []string{"system", "longest wait against the socket unit's", "longest wait", "longest silence", "clients lost", "requests", "restarts"},
	}
	us, handover, socket, starter := results[ours(0).name], results[handing(0).name], results[plainSocket(0).name], results[serverStarter(0).name]
	for _, s := range systems {
		result := results[s.name]
		row := []string{s.label(versions), "–", "–", "–", "–", "–", "0"}
		if result.restarts > 0 {
			row = []string{
				s.label(versions), ratio(result.waits.median(), socket.waits.median()), result.waits.String(), result.silences.String(),
				losses(result.lost), fmt.Sprint(result.requests), fmt.Sprint(result.restarts),
			}
		}
		table.rows = append(table.rows, thenFailed(row, broken[s.name]))
		bar := bar{name: s.name, ours: s.status != nil, wait: result.waits.median(), worst: result.waits.worst(), lost: result.allLost()}
		if err := broken[s.name]; err != nil {
			bar.failed = reason(err)
		}
		r.bars = append(r.bars, bar)
	}
	r.tables = append(r.tables, table)
	r.aims = append(r.aims, aim{
		what: "longest wait in a restart under load", ratio: ratio(us.waits.median(), socket.waits.median()), want: "nobody lost",
		ours: us.waits.String() + "; lost: " + losses(us.lost), than: plainSocket(0).name + ": " + socket.waits.String(),
	}, aim{
		what: "the same with restart.mode: handover", ratio: ratio(handover.waits.median(), starter.waits.median()),
		want: "below 15 ms, ratio at most 1.30, nobody lost",
		ours: handover.waits.String() + "; lost: " + losses(handover.lost), than: serverStarter(0).name + ": " + starter.waits.String(),
	})
	mustHold(b, systems, broken)
}

// thenFailed adds to the last cell of a row why there are no more figures.
func thenFailed(row []string, err error) []string {
	if err != nil {
		row[len(row)-1] += "; then it failed: " + reason(err)
	}
	return row
}

// mustHold fails the benchmark where one of ours has failed: then nothing is written.
func mustHold(b testing.TB, systems []system, broken map[string]error) {
	b.Helper()
	for _, s := range systems {
		if err := broken[s.name]; err != nil && s.status != nil {
			b.Errorf("%s: %v", s.name, err)
		}
	}
}
