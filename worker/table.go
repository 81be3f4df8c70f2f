package worker

import (
	"os"
	"time"

	"openclaw-gateway/worker/handoff"
)

// event is something that has happened. It is for the generation of that number, or
// for the supervisor if that is 0, and their tables say what it means.
type event struct {
	kind       kind
	generation int
	report     handoff.Report
	exit       Exit
	reason     Reason // of stopAsked and restartAsked
	err        error
	text       string
	hung       Hung          // of hangs and relieved
	process    *os.Process   // of followed
	more       time.Duration // of extended
	adopted    bool          // becameReady because it listens, not because it said so
}

// kind of an event.
type kind int

const (
	clientWaits  kind = iota
	restartAsked      // by somebody, or by a new spec
	stopAsked         // of the supervisor: the launcher ends; of a generation: it has to end
	hurryAsked        // somebody is tired of waiting for the end of the generation
	timeUp            // the timer of the state
	becameReady       // the generation serves
	cannotServe       // the generation must be replaced
	idled             // no client has been connected for long enough
	hangs             // the worker does not serve, as far as one of the signs of alive shows
	relieved          // that sign has gone
	reported          // the handoff tells what the worker listens on
	probed            // a probe was answered with something else than ready
	arrived           // the worker waits at the gate of its handoff
	letIn             // and may pass it
	extended          // the worker asks for so much time from now on
	stated            // it says what it does
	reloads           // it reads its configuration anew, and serves
	leaves            // it ends by itself
	followed          // another process is its main process now
	beheaded          // its main process has ended, and others live
	ended             // the last process of the generation has gone
)

// phase is where the supervisor stands.
type phase int

const (
	waiting    phase = iota // a client starts a generation
	running                 // there is a generation
	backingOff              // the next generation starts when the time has come
	failed                  // the next generation starts when somebody asks
	stopped                 // the supervisor has ended
)

// stage is where a generation stands.
type stage int

const (
	starting stage = iota // it does not serve yet
	parked                // at the gate of its handoff, until it gets the sockets
	ready                 // it serves
	stopping              // it has been told to end
	gone                  // nothing of it is left
)

// The tables say what each event means in each state. What is not in them means
// nothing there: an answer of a worker that is being stopped, for one.
var (
	supervisorTable map[phase]map[kind]func(*Supervisor, event)
	generationTable map[stage]map[kind]func(*generation, event)
)

func init() {
	// Not in the declaration: the actions refer to the tables.
	supervisorTable = map[phase]map[kind]func(*Supervisor, event){
		waiting: {
			clientWaits:  (*Supervisor).start,
			restartAsked: (*Supervisor).start,
			stopAsked:    (*Supervisor).finish,
		},
		// With these three the generation has told what has become of it: becameReady, cannotServe, ended.
		running: {
			becameReady:  (*Supervisor).promote,
			cannotServe:  (*Supervisor).prepareFailure,
			ended:        (*Supervisor).afterEnd,
			reported:     (*Supervisor).showProblem,
			timeUp:       (*Supervisor).resetFailures,
			restartAsked: (*Supervisor).replace,
			stopAsked:    (*Supervisor).stop,
			hurryAsked:   (*Supervisor).hurry,
		},
		backingOff: {
			timeUp:       (*Supervisor).start,
			restartAsked: (*Supervisor).start,
			stopAsked:    (*Supervisor).finish,
		},
		failed: {
			restartAsked: (*Supervisor).start,
			stopAsked:    (*Supervisor).finish,
		},
	}
	generationTable = map[stage]map[kind]func(*generation, event){
		starting: {
			becameReady: (*generation).becomeReady,
			reported:    (*generation).takeReport,
			probed:      (*generation).takeProbe,
			arrived:     (*generation).park,
			extended:    (*generation).extend,
			stated:      (*generation).takeWords,
			followed:    (*generation).lead,
			cannotServe: (*generation).stopUnready,
			timeUp:      (*generation).stopLate,
			stopAsked:   (*generation).stopAsked,
			leaves:      (*generation).stopItself,
			beheaded:    (*generation).behead,
			ended:       (*generation).end,
		},
		parked: {
			reported:    (*generation).takeReport,
			letIn:       (*generation).unpark,
			followed:    (*generation).lead,
			cannotServe: (*generation).stopUnready,
			stopAsked:   (*generation).stopAsked,
			leaves:      (*generation).stopItself,
			beheaded:    (*generation).behead,
			ended:       (*generation).end,
		},
		ready: {
			reported:    (*generation).takeReport,
			timeUp:      (*generation).pass,
			idled:       (*generation).stopIdle,
			hangs:       (*generation).takeHang,
			relieved:    (*generation).takeRelief,
			becameReady: (*generation).reloaded,
			reloads:     (*generation).reload,
			followed:    (*generation).lead,
			cannotServe: (*generation).stopUnready,
			stopAsked:   (*generation).stopAsked,
			leaves:      (*generation).stopItself,
			beheaded:    (*generation).behead,
			ended:       (*generation).end,
		},
		stopping: {
			timeUp:     (*generation).kill,
			hurryAsked: (*generation).kill,
			stopAsked:  (*generation).stopForGood,
			extended:   (*generation).extend,
			followed:   (*generation).lead,
			beheaded:   (*generation).behead,
			ended:      (*generation).end,
		},
	}
}

func (s *Supervisor) handle(e event) {
	if act := supervisorTable[s.phase][e.kind]; act != nil {
		act(s, e)
	}
}

func (g *generation) handle(e event) {
	if act := generationTable[g.stage][e.kind]; act != nil {
		act(g, e)
	}
}
