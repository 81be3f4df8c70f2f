package generation

import (
	"os"
	"time"

	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/signs"
)

// Event is something that has happened. It is for the generation of that number, or
// for the supervisor if that is 0, and their tables say what it means.
type Event struct {
	Kind       Kind
	Generation int
	Report     handoff.Report
	Exit       ends.Exit
	Reason     ends.Reason // of StopAsked and RestartAsked
	Err        error
	Text       string
	hung       signs.Hung    // of Hangs and Relieved; of Blinded the sign
	process    *os.Process   // of Followed
	more       time.Duration // of Extended
	modules    int           // of Loaded
	adopted    bool          // BecameReady because it listens, not because it said so
	answered   bool          // BecameReady because it has taken a request from each queue
}

// Kind of an event.
type Kind int

// The events. The supervisor has some of its own among them: generation 0 is the supervisor.
const (
	ClientWaits  Kind = iota
	RestartAsked      // by somebody, or by a new spec
	StopAsked         // of the supervisor: the launcher ends; of a generation: it has to end
	HurryAsked        // somebody is tired of waiting for the end of the generation
	TimeUp            // the timer of the state
	BecameReady       // the generation serves
	CannotServe       // the generation must be replaced
	Idled             // no client has been connected for long enough
	Hangs             // the worker does not serve, as far as one of the signs of alive shows
	Relieved          // that sign has gone
	Blinded           // one of the signs cannot be seen, or can be again
	Reported          // the handoff tells what the worker listens on
	Probed            // a probe was answered with something else than ready
	Arrived           // the worker waits at the gate of its handoff
	LetIn             // it gets the sockets
	LetGo             // one that is being stopped has closed a listener
	Extended          // the worker asks for so much time from now on
	Stated            // it says what it does
	Reloads           // it reads its configuration anew, and serves
	Leaves            // it ends by itself
	Followed          // another process is its main process now
	Beheaded          // its main process has ended, and others live
	Loaded            // its modules are loaded ahead, and it waits
	Staled            // what it has loaded ahead is not what it would load now
	Compared          // it is, and stays so
	Ended             // the last process of the generation has gone
)

// Stage is where a generation stands.
type Stage int

// The stages.
const (
	Starting Stage = iota // it does not serve yet
	Parked                // at the gate of its handoff, until it gets the sockets
	Ready                 // it serves
	Stopping              // it has been told to end
	gone                  // nothing of it is left
)

// generationTable says what each event means in each stage. What is not in it means nothing there: an answer of a worker that
// is being stopped, for one.
var generationTable map[Stage]map[Kind]func(*Generation, Event)

func init() {
	// Not in the declaration: the actions refer to the table.
	generationTable = map[Stage]map[Kind]func(*Generation, Event){
		Starting: {
			BecameReady: (*Generation).becomeReady,
			Reported:    (*Generation).takeReport,
			Probed:      (*Generation).takeProbe,
			Arrived:     (*Generation).arrive,
			LetIn:       (*Generation).enterGate,
			Loaded:      (*Generation).park,
			Staled:      (*Generation).stale,
			Compared:    (*Generation).compare,
			Extended:    (*Generation).extend,
			Stated:      (*Generation).takeWords,
			Followed:    (*Generation).lead,
			CannotServe: (*Generation).stopUnready,
			TimeUp:      (*Generation).stopLate,
			StopAsked:   (*Generation).stopAsked,
			Leaves:      (*Generation).stopItself,
			Beheaded:    (*Generation).behead,
			Ended:       (*Generation).end,
		},
		Parked: {
			Reported:    (*Generation).takeReport,
			Arrived:     (*Generation).arrive,
			LetIn:       (*Generation).enterGate,
			Compared:    (*Generation).compare,
			BecameReady: (*Generation).becomeReady,
			Followed:    (*Generation).lead,
			CannotServe: (*Generation).stopUnready,
			StopAsked:   (*Generation).stopAsked,
			Leaves:      (*Generation).stopItself,
			Beheaded:    (*Generation).behead,
			Ended:       (*Generation).end,
		},
		Ready: {
			Reported:    (*Generation).takeReport,
			TimeUp:      (*Generation).pass,
			Idled:       (*Generation).stopIdle,
			Staled:      (*Generation).stale,
			Compared:    (*Generation).compare,
			Hangs:       (*Generation).takeHang,
			Relieved:    (*Generation).takeRelief,
			Blinded:     (*Generation).takeBlind,
			Arrived:     (*Generation).arrive,
			BecameReady: (*Generation).reloaded,
			Reloads:     (*Generation).reload,
			Followed:    (*Generation).lead,
			CannotServe: (*Generation).stopUnready,
			StopAsked:   (*Generation).stopAsked,
			Leaves:      (*Generation).stopItself,
			Beheaded:    (*Generation).behead,
			Ended:       (*Generation).end,
		},
		Stopping: {
			TimeUp:     (*Generation).kill,
			HurryAsked: (*Generation).kill,
			StopAsked:  (*Generation).stopForGood,
			Reported:   (*Generation).noteClosed,
			Extended:   (*Generation).extend,
			Followed:   (*Generation).lead,
			Beheaded:   (*Generation).behead,
			Ended:      (*Generation).end,
		},
	}
}

func (g *Generation) Handle(e Event) {
	if act := generationTable[g.Stage][e.Kind]; act != nil {
		act(g, e)
	}
}
