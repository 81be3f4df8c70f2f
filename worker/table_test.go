package worker

import (
	"log/slog"
	"testing"
	"time"

	"openclaw-gateway/worker/handoff"
)

// TestTable holds the tables complete: each event has a meaning in each state, or
// stands here with the reason why it has none.
func TestTable(t *testing.T) {
	const (
		noGeneration = "there is no generation that it could be of"
		notWaiting   = "the wait for a client ends with the state"
		before       = "nothing is ending that could end sooner"
		noTimer      = "the state has no timer"
		over         = "the supervisor has ended"
		itsOwn       = "it concerns the generation alone"

		supervisors = "it is the supervisor's"
		tooLate     = "the generation is on its way out"
		known       = "the generation serves already"
		notReady    = "it is awaited while the generation serves"
		noGate      = "the generation is not at a gate"
		past        = "the generation has passed the gate"
		atGate      = "nothing can be asked of a worker that has no sockets yet"
		nothing     = "nothing is left of the generation"
	)
	ofGenerations := []kind{becameReady, cannotServe, idled, hangs, relieved, reported, probed, arrived, letIn, extended, stated, reloads, leaves, followed, beheaded, ended}
	withoutOne := func(reasons map[kind]string) map[kind]string {
		for _, event := range ofGenerations {
			reasons[event] = noGeneration
		}
		return reasons
	}
	all := func(reason string) map[kind]string {
		reasons := map[kind]string{}
		for event := clientWaits; event <= ended; event++ {
			reasons[event] = reason
		}
		return reasons
	}
	check := func(machine string, state int, event kind, entry bool, reason string) {
		t.Helper()
		switch {
		case entry && reason != "":
			t.Errorf("%s %d: event %d has an entry, although %s", machine, state, event, reason)
		case !entry && reason == "":
			t.Errorf("%s %d: event %d has no entry", machine, state, event)
		}
	}

	supervisor := map[phase]map[kind]string{
		waiting: withoutOne(map[kind]string{hurryAsked: before, timeUp: noTimer}),
		running: {
			clientWaits: notWaiting, idled: itsOwn, hangs: itsOwn, relieved: itsOwn, probed: itsOwn, arrived: itsOwn, letIn: itsOwn,
			extended: itsOwn, stated: itsOwn, reloads: itsOwn, leaves: itsOwn, followed: itsOwn, beheaded: itsOwn,
		},
		backingOff: withoutOne(map[kind]string{clientWaits: notWaiting, hurryAsked: before}),
		failed:     withoutOne(map[kind]string{clientWaits: notWaiting, hurryAsked: before, timeUp: noTimer}),
		stopped:    all(over),
	}
	generation := map[stage]map[kind]string{
		starting: {
			clientWaits: supervisors, restartAsked: supervisors, hurryAsked: before, idled: notReady, hangs: notReady, relieved: notReady, letIn: noGate,
			reloads: notReady,
		},
		parked: {
			clientWaits: supervisors, restartAsked: supervisors, hurryAsked: before, timeUp: noTimer, idled: notReady, hangs: notReady, relieved: notReady,
			becameReady: atGate, probed: atGate, arrived: "it is there",
			extended: noTimer, stated: atGate, reloads: notReady,
		},
		ready: {
			clientWaits: supervisors, restartAsked: supervisors, hurryAsked: before, probed: known,
			arrived: past, letIn: past, extended: "no time is set for it", stated: "its state says it",
		},
		stopping: {
			clientWaits: supervisors, restartAsked: supervisors, becameReady: tooLate, cannotServe: tooLate, idled: tooLate, hangs: tooLate, relieved: tooLate,
			reported: tooLate, probed: tooLate, arrived: tooLate, letIn: tooLate,
			stated: tooLate, reloads: tooLate, leaves: tooLate,
		},
		gone: all(nothing),
	}
	for event := clientWaits; event <= ended; event++ {
		for state := waiting; state <= stopped; state++ {
			check("supervisor", int(state), event, supervisorTable[state][event] != nil, supervisor[state][event])
		}
		for state := starting; state <= gone; state++ {
			check("generation", int(state), event, generationTable[state][event] != nil, generation[state][event])
		}
	}
}

// gated is a handoff at whose gate a worker can wait.
type gated struct {
	handoff.Handoff
	released int
}

func (h *gated) Release() { h.released++ }

// TestParked: no handoff has a gate yet, so the events come from here. A worker that waits at one is not late, and has
// the whole of its time when it is let in.
func TestParked(t *testing.T) {
	t.Parallel()
	gate := new(gated)
	g := newGeneration(1, Spec{ReadyTimeout: time.Hour}, surroundings{options: Options{Log: slog.New(slog.DiscardHandler)}}, nil)
	g.handoff = gate
	g.handle(event{kind: letIn})
	g.handle(event{kind: arrived})
	if g.stage != parked || gate.released != 0 || g.timer.Stop() {
		t.Errorf("at the gate: stage %d, released %d times, or with a limit", g.stage, gate.released)
	}
	g.handle(event{kind: letIn})
	if g.stage != starting || gate.released != 1 || !g.timer.Stop() {
		t.Errorf("let in: stage %d, released %d times, or without a limit", g.stage, gate.released)
	}
}
