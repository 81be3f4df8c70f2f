package worker

import (
	"testing"

	"openclaw-gateway/worker/generation"
)

// TestTable holds the table complete: each event has a meaning in each phase, or stands here with the reason why it has none. That
// of a generation is tested with it.
func TestTable(t *testing.T) {
	const (
		noGeneration = "there is no generation that it could be of"
		notWaiting   = "the wait for a client ends with the state"
		before       = "nothing is ending that could end sooner"
		launcherEnds = "the launcher ends"
		noTimer      = "the state has no timer"
		over         = "the supervisor has ended"
		itsOwn       = "it concerns the generation alone"
	)
	ofGenerations := []generation.Kind{generation.BecameReady, generation.CannotServe, generation.Idled, generation.Hangs, generation.Relieved, generation.Blinded, generation.Reported, generation.Probed, generation.Arrived, generation.LetIn, generation.LetGo, generation.Extended, generation.Stated, generation.Reloads, generation.Leaves, generation.Followed, generation.Beheaded, generation.Loaded, generation.Staled, generation.Compared, generation.Ended}
	withoutOne := func(reasons map[generation.Kind]string) map[generation.Kind]string {
		for _, event := range ofGenerations {
			if event != generation.Ended {
				reasons[event] = noGeneration
			}
		}
		return reasons
	}
	all := func(reason string) map[generation.Kind]string {
		reasons := map[generation.Kind]string{}
		for event := generation.ClientWaits; event <= generation.Ended; event++ {
			reasons[event] = reason
		}
		return reasons
	}
	without := func(reasons map[generation.Kind]string, events ...generation.Kind) map[generation.Kind]string {
		for _, event := range events {
			delete(reasons, event)
		}
		return reasons
	}
	supervisor := map[phase]map[generation.Kind]string{
		waiting: withoutOne(map[generation.Kind]string{generation.TimeUp: noTimer}),
		running: {
			generation.ClientWaits: notWaiting, generation.Idled: itsOwn, generation.Hangs: itsOwn, generation.Relieved: itsOwn, generation.Blinded: itsOwn, generation.Probed: itsOwn, generation.LetIn: itsOwn,
			generation.Extended: itsOwn, generation.Stated: itsOwn, generation.Reloads: itsOwn, generation.Leaves: itsOwn, generation.Followed: itsOwn, generation.Beheaded: itsOwn,
			generation.Loaded: itsOwn, generation.Staled: itsOwn, generation.Compared: itsOwn,
		},
		backingOff: withoutOne(map[generation.Kind]string{generation.ClientWaits: notWaiting}),
		failed:     withoutOne(map[generation.Kind]string{generation.ClientWaits: notWaiting, generation.TimeUp: noTimer}),
		ending:     without(all(launcherEnds), generation.HurryAsked, generation.Ended),
		stopped:    all(over),
	}
	for event := generation.ClientWaits; event <= generation.Ended; event++ {
		for state := waiting; state <= stopped; state++ {
			switch entry, reason := supervisorTable[state][event] != nil, supervisor[state][event]; {
			case entry && reason != "":
				t.Errorf("phase %d: event %d has an entry, although %s", state, event, reason)
			case !entry && reason == "":
				t.Errorf("phase %d: event %d has no entry", state, event)
			}
		}
	}
}
