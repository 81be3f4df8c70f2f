package worker

// action is what an event leads to.
type action func(*Supervisor, event)

// table says what each event means in each state. What is not in it means
// nothing there: an answer of a worker that is being stopped, for one.
var table map[State]map[kind]action

func init() {
	// Not in the declaration: the actions refer to the table.
	table = map[State]map[kind]action{
		Waiting: {
			clientWaits:  (*Supervisor).start,
			restartAsked: (*Supervisor).start,
			stopAsked:    (*Supervisor).finish,
		},
		Starting: {
			becameReady:  (*Supervisor).serveClients,
			reported:     (*Supervisor).note,
			probed:       (*Supervisor).noteProbe,
			lost:         (*Supervisor).giveUp,
			timeUp:       (*Supervisor).tooLate,
			ended:        (*Supervisor).crashed,
			restartAsked: (*Supervisor).replace,
			stopAsked:    (*Supervisor).halt,
		},
		Ready: {
			reported:     (*Supervisor).note,
			lost:         (*Supervisor).giveUp,
			idled:        (*Supervisor).dismiss,
			timeUp:       (*Supervisor).proven,
			ended:        (*Supervisor).crashed,
			restartAsked: (*Supervisor).replace,
			stopAsked:    (*Supervisor).halt,
		},
		Stopping: {
			timeUp:       (*Supervisor).kill,
			hurryAsked:   (*Supervisor).kill,
			ended:        (*Supervisor).gone,
			restartAsked: (*Supervisor).startNext,
			stopAsked:    (*Supervisor).finishNext,
		},
		BackingOff: {
			timeUp:       (*Supervisor).start,
			restartAsked: (*Supervisor).start,
			stopAsked:    (*Supervisor).finish,
		},
		Failed: {
			restartAsked: (*Supervisor).start,
			stopAsked:    (*Supervisor).finish,
		},
	}
}

func (s *Supervisor) handle(e event) {
	if act := table[s.state][e.kind]; act != nil {
		act(s, e)
	}
}
