package worker

import "testing"

// TestTable holds the table complete: each event has a meaning in each state, or
// stands here with the reason why it has none.
func TestTable(t *testing.T) {
	const (
		noGeneration = "there is no generation that it could be of"
		notWaiting   = "the wait for a client ends with the state"
		before       = "it is heard only once the launcher ends"
		noTimer      = "the state has no timer"
		tooLate      = "the generation is on its way out"
		known        = "the generation serves already"
		notReady     = "it is awaited while the generation serves"
		over         = "the supervisor has ended"
	)
	meaningless := map[State]map[kind]string{
		Waiting: {
			hurryAsked: before, becameReady: noGeneration, idled: notReady, lost: noGeneration, reported: noGeneration,
			probed: noGeneration, ended: noGeneration, timeUp: noTimer,
		},
		Starting: {clientWaits: notWaiting, hurryAsked: before, idled: notReady},
		Ready:    {clientWaits: notWaiting, hurryAsked: before, becameReady: known, probed: known},
		Stopping: {clientWaits: notWaiting, becameReady: tooLate, idled: tooLate, lost: tooLate, reported: tooLate, probed: tooLate},
		BackingOff: {
			clientWaits: notWaiting, hurryAsked: before, becameReady: noGeneration, idled: notReady, lost: noGeneration,
			reported: noGeneration, probed: noGeneration, ended: noGeneration,
		},
		Failed: {
			clientWaits: notWaiting, hurryAsked: before, becameReady: noGeneration, idled: notReady, lost: noGeneration,
			reported: noGeneration, probed: noGeneration, ended: noGeneration, timeUp: noTimer,
		},
		Stopped: {
			clientWaits: over, restartAsked: over, stopAsked: over, hurryAsked: over, becameReady: over, idled: over, lost: over,
			reported: over, probed: over, ended: over, timeUp: over,
		},
	}
	for state := Waiting; state <= Stopped; state++ {
		for event := clientWaits; event <= timeUp; event++ {
			entry, reason := table[state][event] != nil, meaningless[state][event]
			switch {
			case entry && reason != "":
				t.Errorf("%s: event %d has an entry, although %s", state, event, reason)
			case !entry && reason == "":
				t.Errorf("%s: event %d has no entry", state, event)
			}
		}
	}
}
