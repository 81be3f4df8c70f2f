package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/test/machine"
)

// resetAfter is how long a worker has to be ready in the measurement of crashes until its failures are forgotten.
const resetAfter = time.Second

// crashing is the launcher with the pause before a start that systemd has, and standing is one that has a standby besides.
func crashing() system {
	return underLauncher("gateway", "", 18789, []string{nodePath, workerPath}, bootsIn(bootMS),
		fmt.Sprintf("restart: {backoff_min: 100ms, reset_after: %s}\n", resetAfter))
}

func standing() system {
	s := underLauncher("gateway, standby", "standby", 18833, []string{nodePath, workerPath}, bootsIn(bootMS),
		fmt.Sprintf("restart: {mode: handover, standby: true, backoff_min: 100ms, reset_after: %s}\n", resetAfter))
	s.standby = true
	return s
}

// crashes kills the worker under load.
func crashes(b *testing.B, r *report) {
	m := boot(b, machine.Options{})
	without, with := crashing(), standing()
	systems := append([]system{without, with}, others(bootMS)...)
	t := trial{rounds: 2, times: 5, crash: true}
	results, versions, broken := t.measure(b, m, systems)
	table := table{
		title: "Crashes under load",
		text: fmt.Sprintf("kill -9 of the worker, %d times in each of %d runs, in turns, under load as above, at least %s after it became ready. The launcher waits "+
			"100 ms before a start, as systemd does. Whoever was being answered by the worker is lost with any system.", t.times, t.rounds, short(crashRest)),
		head: []string{"system", "against the socket unit's", "from the kill to the next answer", "longest wait", "clients lost", "crashes"},
	}
	socket := results[plainSocket(0).name]
	for _, s := range systems {
		result := results[s.name]
		row := []string{s.label(versions), "–", "–", "–", "–", "0"}
		if result.restarts > 0 {
			row = []string{
				s.label(versions), ratio(result.answers.median(), socket.answers.median()), result.answers.String(), result.waits.String(),
				losses(result.lost), fmt.Sprint(result.restarts),
			}
		}
		table.rows = append(table.rows, thenFailed(row, broken[s.name]))
	}
	r.tables = append(r.tables, table)
	us, standby := results[without.name], results[with.name]
	r.aims = append(r.aims, aim{
		what: "kill -9 of the worker to the next answer", ratio: ratio(us.answers.median(), socket.answers.median()),
		ours: us.answers.String() + "; lost: " + losses(us.lost), than: plainSocket(0).name + ": " + socket.answers.String(),
	}, aim{
		what: "the same with restart.standby", ratio: ratio(standby.answers.median(), us.answers.median()), want: "below 20 ms",
		ours: standby.answers.String() + "; lost: " + losses(standby.lost), than: "gateway without it: " + us.answers.String(),
	})
	mustHold(b, systems, broken)
}

// crashRest is how long everybody has to be ready before a crash.
const crashRest = resetAfter + 500*time.Millisecond

// rest returns when a crash meets the system as it usually is: its failures are forgotten, and a standby is there and frozen.
func (s system) rest(ctx context.Context, m *machine.Machine) error {
	select {
	case <-time.After(crashRest):
	case <-ctx.Done():
		return ctx.Err()
	}
	if !s.standby {
		return nil
	}
	_, err := standsBy(ctx, m.Scope, s.status)
	return err
}

// standsBy returns the status of a launcher when it has a standby that is frozen.
func standsBy(ctx context.Context, s *machine.Scope, command []string) (status api.Status, err error) {
	for {
		status = api.Status{}
		output, err := s.Output(command[0], command[1:]...)
		if err = errors.Join(err, json.Unmarshal([]byte(output), &status)); err != nil {
			return status, err
		}
		if next := status.Successor; next != nil && next.Purpose == api.ForStandby && next.Frozen {
			return status, nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return status, fmt.Errorf("there is no standby: %w", ctx.Err())
		}
	}
}
