package announce

import (
	"testing"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/status"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
	"openclaw-gateway/worker"
)

// TestVerdictFromOutside: who may not ask the launcher gets the verdict that the
// launcher would give, from what it has told systemd.
func TestVerdictFromOutside(t *testing.T) {
	ready := worker.Status{State: worker.Ready, Generation: 1, PID: 10}
	for name, test := range map[string]struct {
		states   []worker.Status
		rejected string
		want     api.Verdict
		problems int
	}{
		"waiting":     {[]worker.Status{{State: worker.Waiting}}, "", api.VerdictWaiting, 0},
		"first start": {[]worker.Status{{State: worker.Starting, Generation: 1, PID: 10}}, "", api.VerdictStarting, 0},
		"ready":       {[]worker.Status{ready}, "", api.VerdictOK, 0},
		"stopping":    {[]worker.Status{ready, {State: worker.Stopping, Generation: 1, PID: 10}}, "", api.VerdictStarting, 0},
		"next start":  {[]worker.Status{ready, {State: worker.Starting, Generation: 2, PID: 11}}, "", api.VerdictStarting, 0},
		"backoff":     {[]worker.Status{ready, {State: worker.BackingOff, Problem: "generation 1 is starting to fail"}}, "", api.VerdictDegraded, 1},
		"failed":      {[]worker.Status{ready, {State: worker.Failed, Problem: "it failed"}}, "", api.VerdictDegraded, 1},
		"rejected":    {[]worker.Status{ready}, "line 3 is wrong", api.VerdictDegraded, 1},
		"rejected while it restarts": {
			[]worker.Status{ready, {State: worker.Starting, Generation: 2, PID: 11}}, "line 3 is wrong", api.VerdictStarting, 1,
		},
		"rolled back": {
			[]worker.Status{{State: worker.Ready, Generation: 2, RolledBack: 2, RollbackReason: "did not serve"}}, "", api.VerdictDegraded, 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := &Announcer{rejected: test.rejected}
			for _, status := range test.states {
				a.Observe(status, nil)
			}
			at := client.Target{Scope: units.System, Unit: api.Unit{Name: instance.Default.Service(), ActiveState: a.ActiveState()}, Says: a.status}
			s := api.Status{Verdict: api.VerdictDegraded}
			status.VerdictFromOutside(at, &s)
			if s.Verdict != test.want || len(s.Problems) != test.problems {
				t.Errorf("%s while systemd shows %s, %q: %s %q, want %s", name, at.Unit.ActiveState, at.Says, s.Verdict, s.Problems, test.want)
			}
		})
	}
}
