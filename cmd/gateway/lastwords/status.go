package lastwords

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"openclaw-gateway/cmd/gateway/api"
)

// failures are the reasons for which a generation ends that was not to.
var failures = []string{"crash", "unready", "hung", "oom"}

// Failed reports whether that is the reason of a generation that was not to end.
func Failed(reason string) bool { return slices.Contains(failures, reason) }

// Complete adds to a status the last words of the generation that is in trouble: of the present one while it ends or hangs, else of
// the last one if it has failed, else of one that starts. Why they are not known is a note.
func (j Journal) Complete(ctx context.Context, s *api.Status) {
	if s.Launcher.Holder != api.FromSystemd {
		return // its worker writes to a terminal
	}
	life, ok := inTrouble(s)
	if !ok {
		return
	}
	words, err := j.Of(ctx, life)
	if err == nil {
		s.Worker.LastWords = words
	} else if s.Verdict != api.VerdictOK && s.Verdict != api.VerdictWaiting {
		s.Notes = append(s.Notes, fmt.Sprintf("what generation %d said last is not known: %v", life.Generation, err))
	}
}

// Await is Complete for somebody who asks right behind the end of a generation, of which journald may not have everything yet: it
// returns when nothing more comes, or after a second.
func (j Journal) Await(ctx context.Context, s *api.Status) {
	if os.Geteuid() == 0 {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		_ = journalctl(ctx, "--sync").Run() // where it cannot, what is there has to do
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for range 10 {
		before := s.Worker.LastWords
		j.Complete(ctx, s)
		if now := s.Worker.LastWords; now == nil || len(now) > 0 && slices.Equal(before, now) {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func inTrouble(s *api.Status) (Life, bool) {
	worker, exit := s.Worker, s.Worker.LastExit
	present := Life{Generation: worker.Generation, PID: worker.PID}
	if s.Launcher.Since != nil {
		present.From = *s.Launcher.Since
	}
	switch {
	case worker.PID != 0 && (worker.Hung != nil || worker.State == api.StateStopping):
		return present, true
	case exit != nil && Failed(exit.Reason):
		return Life{Generation: exit.Generation, PID: exit.PID, From: exit.At.Add(-time.Duration(exit.LivedMS) * time.Millisecond), Until: exit.At}, true
	case worker.PID != 0 && worker.State == api.StateStarting:
		return present, true
	default:
		return Life{}, false
	}
}

// lookedUp is how many generations of a history have their last words: each is a question to the journal.
const lookedUp = 3

// CompleteHistory adds the last words of the last generations that have failed.
func (j Journal) CompleteHistory(ctx context.Context, h *api.History) {
	left := lookedUp
	for i := len(h.Generations) - 1; i >= 0 && left > 0; i-- {
		life := &h.Generations[i]
		if life.Ended == nil || !Failed(life.Reason) {
			continue
		}
		left--
		words, err := j.Of(ctx, Life{Generation: life.Generation, PID: life.PID, From: life.Started, Until: *life.Ended})
		if err != nil {
			h.Notes = append(h.Notes, fmt.Sprintf("what generation %d said last is not known: %v", life.Generation, err))
			continue
		}
		life.LastWords = words
	}
}
