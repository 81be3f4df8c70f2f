package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"openclaw-gateway/test/machine"
)

// binds measures what a bind(2) takes under intercept, and the same alone: one of the held address, which the launcher answers; one of
// another address, which it passes; and one that cannot be of IP, which it does not hear of.
func binds(b *testing.B, r *report) {
	const times = 300
	m := boot(b, machine.Options{})
	systems := []system{binding(times), bindingAlone(times)}
	_, broken := installAll(b, m, systems)
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	var took [2]map[string]samples
	for i, s := range systems {
		err := broken[s.name]
		if err == nil {
			_, err = s.start(ctx, m)
		}
		var answer string
		if err == nil {
			answer, err = get(ctx, m.HTTP(), "http://"+s.address+"/binds")
		}
		if err = errors.Join(err, json.Unmarshal([]byte(answer), &took[i])); err != nil {
			b.Fatalf("%s: %v", s.name, err)
		}
	}
	table := table{
		title: "A bind under intercept",
		text:  fmt.Sprintf("What bind(2) takes in a program in Python, %d each. A server makes one or a few when it starts.", times),
		head:  []string{"the address", "the worker alone", "by intercept"},
	}
	for _, row := range [][2]string{{"own", "a held one"}, {"other", "another one of IP"}, {"netlink", "one of netlink"}} {
		for i, s := range systems {
			if len(took[i][row[0]]) != times {
				b.Fatalf("%s: %d binds of %s, want %d", s.name, len(took[i][row[0]]), row[1], times)
			}
		}
		table.rows = append(table.rows, []string{row[1], took[1][row[0]].String(), took[0][row[0]].String()})
	}
	r.tables = append(r.tables, table)
}
