package worker

import (
	"openclaw-gateway/worker/generation"
)

// phase is where the supervisor stands.
type phase int

const (
	waiting    phase = iota // a client starts a generation
	running                 // there is a generation
	backingOff              // the next generation starts when the time has come
	failed                  // the next generation starts when somebody asks
	ending                  // the launcher ends, and there are generations still
	stopped                 // the supervisor has ended
)

// supervisorTable says what each event means in each phase. What is not in it means nothing there.
var supervisorTable map[phase]map[generation.Kind]func(*Supervisor, generation.Event)

func init() {
	// Not in the declaration: the actions refer to the table.
	supervisorTable = map[phase]map[generation.Kind]func(*Supervisor, generation.Event){
		waiting: {
			generation.ClientWaits:  (*Supervisor).start,
			generation.RestartAsked: (*Supervisor).start,
			generation.StopAsked:    (*Supervisor).stop,
			generation.HurryAsked:   (*Supervisor).hurry,
			generation.Ended:        (*Supervisor).afterEnd,
		},
		// With the first six a generation has told what has become of it.
		running: {
			generation.BecameReady:  (*Supervisor).promote,
			generation.CannotServe:  (*Supervisor).prepareFailure,
			generation.Ended:        (*Supervisor).afterEnd,
			generation.Arrived:      (*Supervisor).takeOver,
			generation.LetGo:        (*Supervisor).release,
			generation.Reported:     (*Supervisor).showProblem,
			generation.TimeUp:       (*Supervisor).settle,
			generation.RestartAsked: (*Supervisor).replace,
			generation.StopAsked:    (*Supervisor).stop,
			generation.HurryAsked:   (*Supervisor).hurry,
		},
		backingOff: {
			generation.TimeUp:       (*Supervisor).start,
			generation.RestartAsked: (*Supervisor).start,
			generation.StopAsked:    (*Supervisor).stop,
			generation.HurryAsked:   (*Supervisor).hurry,
			generation.Ended:        (*Supervisor).afterEnd,
		},
		failed: {
			generation.RestartAsked: (*Supervisor).start,
			generation.StopAsked:    (*Supervisor).stop,
			generation.HurryAsked:   (*Supervisor).hurry,
			generation.Ended:        (*Supervisor).afterEnd,
		},
		ending: {
			generation.HurryAsked: (*Supervisor).hurry,
			generation.Ended:      (*Supervisor).afterEnd,
		},
	}
}

func (s *Supervisor) handle(e generation.Event) {
	if act := supervisorTable[s.phase][e.Kind]; act != nil {
		act(s, e)
	}
}
