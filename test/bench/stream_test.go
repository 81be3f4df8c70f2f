package bench

import (
	"fmt"
	"testing"

	"openclaw-gateway/test/machine"
)

// streams measures how long a new client waits in a restart while another one's answer, of 3 s, is under way.
func streams(b *testing.B, r *report) {
	m := boot(b, machine.Options{})
	systems := all(bootMS)
	t := trial{rounds: 3, times: 1, stream: true}
	results, versions, broken := t.measure(b, m, systems)
	table := table{
		title: "Beside a stream of 3 s",
		text: fmt.Sprintf("A restart in each of %d runs, as above; one more client has just begun to get an answer that takes 3 s, which a worker completes "+
			"before it ends, if it is given the time.", t.rounds),
		head: []string{"system", "longest wait against the socket unit's", "longest wait", "streams broken off", "clients lost", "restarts"},
	}
	us, handover, socket := results[ours(0).name], results[handing(0).name], results[plainSocket(0).name]
	for _, s := range systems {
		result := results[s.name]
		row := []string{s.label(versions), "–", "–", "–", "–", "0"}
		if result.restarts > 0 {
			row = []string{
				s.label(versions), ratio(result.waits.median(), socket.waits.median()), result.waits.String(), fmt.Sprint(result.streams),
				losses(result.lost), fmt.Sprint(result.restarts),
			}
		}
		table.rows = append(table.rows, thenFailed(row, broken[s.name]))
	}
	r.tables = append(r.tables, table)
	r.aims = append(r.aims, aim{
		what: "a client beside a stream of 3 s, with handover", ratio: ratio(handover.waits.median(), us.waits.median()), want: "below 200 ms, nobody lost",
		ours: handover.waits.String() + "; lost: " + losses(handover.lost), than: "gateway without it: " + us.waits.String(),
	})
	mustHold(b, systems, broken)
}
