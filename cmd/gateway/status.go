package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"openclaw-gateway/cmd/gateway/judge"
	"openclaw-gateway/listener/holders"
	"openclaw-gateway/units"
	"openclaw-gateway/worker"
)

// Status is what GET /status on the control socket and "gateway status --json"
// answer. Its fields are an interface: others read them.
type Status struct {
	Version  string   `json:"version"`
	Verdict  Verdict  `json:"verdict"`
	Problems []string `json:"problems"`
	// Notes are worth knowing and no problems: what could not be seen, say.
	Notes []string `json:"notes"`
	// Unseen is how many processes could not be looked into; as long as it is not
	// 0 the sockets may have more holders.
	Unseen   int            `json:"unseen"`
	Unit     UnitStatus     `json:"unit"`
	Launcher LauncherStatus `json:"launcher"`
	Sockets  []SocketStatus `json:"sockets"`
	Worker   WorkerStatus   `json:"worker"`
	Config   ConfigStatus   `json:"config"`

	worst judge.Role // of all holders, where it is one that should not be there
}

// Verdict is the status in a word.
type Verdict string

// The verdicts. Orphan, rival and foreign come before all others.
const (
	VerdictOK       Verdict = "ok"       // the worker serves
	VerdictWaiting  Verdict = "waiting"  // the first client will start the worker
	VerdictStarting Verdict = "starting" // a worker is on its way
	VerdictDegraded Verdict = "degraded" // no worker serves, or something else is wrong
	VerdictOrphan   Verdict = "orphan"   // an OpenClaw gateway that nobody supervises holds an address
	VerdictRival    Verdict = "rival"    // an OpenClaw gateway of another unit holds an address
	VerdictForeign  Verdict = "foreign"  // another process holds an address
	VerdictDown     Verdict = "down"     // there is no launcher, and none will be started
)

// UnitStatus is the service as the manager sees it.
type UnitStatus struct {
	Name        string `json:"name"`
	Scope       string `json:"scope"` // system, user or none
	ActiveState string `json:"active_state"`
	MainPID     int    `json:"main_pid"`
}

// LauncherStatus is the launcher's process.
type LauncherStatus struct {
	PID    int        `json:"pid"`
	Since  *time.Time `json:"since"`
	Holder holderKind `json:"holder"`
}

// SocketStatus is one listening socket.
type SocketStatus struct {
	Address string `json:"address"`
	Inode   uint64 `json:"inode"`
	Backlog int    `json:"backlog"`
	// Connections counts the established ones of the address, those in the queue
	// included; null where they cannot be counted. Sockets that share an address
	// (SO_REUSEPORT) share the count.
	Connections *int           `json:"connections"`
	Queued      int            `json:"queued"`
	Holders     []HolderStatus `json:"holders"`

	owner uint32 // who made it
}

// HolderStatus is a process that has a socket open.
type HolderStatus struct {
	PID     int        `json:"pid"`
	Role    judge.Role `json:"role"`
	Command string     `json:"command"`
	UID     uint32     `json:"uid"`
	Cgroup  string     `json:"cgroup"`
	Since   *time.Time `json:"since"`
	Unit    string     `json:"unit"` // in whose cgroup it is
	Parent  int        `json:"parent"`
}

// WorkerStatus is the worker, or the lack of one.
type WorkerStatus struct {
	State        string      `json:"state"`
	PID          int         `json:"pid"`
	Generation   int         `json:"generation"`
	Since        *time.Time  `json:"since"`
	ReadyAfterMS int64       `json:"ready_after_ms"`
	Handoff      string      `json:"handoff"`
	Restarts     int         `json:"restarts"`
	LastExit     *ExitStatus `json:"last_exit"`
	NextStart    *time.Time  `json:"next_start"`
}

// ExitStatus is the end of the last generation.
type ExitStatus struct {
	Generation int       `json:"generation"`
	Code       int       `json:"code"` // -1: ended by a signal, or never ran
	Signal     string    `json:"signal"`
	Reason     string    `json:"reason"`
	At         time.Time `json:"at"`
	Strays     int       `json:"strays"`
	Detail     string    `json:"detail"` // a sentence where more is known
}

// ConfigStatus is the configuration file.
type ConfigStatus struct {
	Path  string `json:"path"`
	State string `json:"state"` // applied or rejected; "" where no launcher answers
	Error string `json:"error"`
}

// status describes the launcher from memory, without the holders and connections
// of its sockets: whoever asks sees as much of them.
func (l *launcher) status(observed *worker.Status) Status {
	if observed == nil {
		observed = &worker.Status{}
	}
	report := l.report.Load()
	since := l.since
	s := Status{
		Version:  programVersion(),
		Problems: l.problems(),
		Notes:    []string{},
		Unit:     UnitStatus{Name: units.Service, Scope: l.scopeName()},
		Launcher: LauncherStatus{PID: os.Getpid(), Since: &since, Holder: l.held.kind},
		Sockets:  []SocketStatus{},
		Worker:   workerStatus(observed),
		Config:   ConfigStatus{Path: report.path, State: "applied"},
	}
	if l.held.kind == bySystemd {
		// It is the launcher that says what the manager shows.
		s.Unit.MainPID, s.Unit.ActiveState = os.Getpid(), l.announce.activeState()
	}
	switch {
	case report.err != "":
		s.Config.State, s.Config.Error = "rejected", report.err
		s.Problems = append(s.Problems, "the configuration was rejected: "+report.err)
	case observed.RolledBack != 0:
		s.Config.State, s.Config.Error = "rejected", observed.RollbackReason
		s.Problems = append(s.Problems, "the last configuration that worked is in use again, because of the new one "+observed.RollbackReason)
	}
	if observed.Problem != "" {
		s.Problems = append(s.Problems, observed.Problem)
	}
	l.addSockets(&s)
	s.judge()
	return s
}

// addSockets adds the held sockets, and says where a network namespace stands
// between them and whoever counts or serves.
func (l *launcher) addSockets(s *Status) {
	away := false
	sockets, _ := l.held.now()
	for _, socket := range sockets {
		line := SocketStatus{Address: socket.Address.String(), Inode: socket.Inode, Holders: []HolderStatus{}}
		var err error
		line.Queued, line.Backlog, err = socket.Queue()
		if errors.Is(err, os.ErrClosed) {
			continue // an edit has just removed it
		}
		if err != nil {
			s.Problems = append(s.Problems, err.Error())
		}
		elsewhere, err := socket.Elsewhere()
		if err != nil {
			s.Problems = append(s.Problems, err.Error())
		}
		away = away || elsewhere
		s.Sockets = append(s.Sockets, line)
	}
	if s.Worker.PID == 0 || away {
		return
	}
	own, err := networkNamespace(os.Getpid())
	if err != nil {
		return
	}
	if theirs, err := networkNamespace(s.Worker.PID); err == nil && own != theirs {
		s.Notes = append(s.Notes, fmt.Sprintf("the worker (pid %d) is in another network namespace than the sockets: "+
			"what else it listens on cannot be reached from here", s.Worker.PID))
	}
}

func networkNamespace(pid int) (string, error) {
	return os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "ns/net"))
}

// scope is that of the manager that passed the sockets.
func (l *launcher) scope() units.Scope {
	if l.held.pid != 1 {
		return units.User
	}
	return units.System
}

// scopeName is where the launcher's unit is.
func (l *launcher) scopeName() string {
	if l.held.kind != bySystemd {
		return "none"
	}
	return string(l.scope())
}

func workerStatus(observed *worker.Status) WorkerStatus {
	w := WorkerStatus{
		State: observed.State.String(), PID: observed.PID, Generation: observed.Generation, Since: moment(observed.Since),
		ReadyAfterMS: observed.ReadyAfter.Milliseconds(), Handoff: string(observed.Handoff), Restarts: observed.Restarts,
		NextStart: moment(observed.NextStart),
	}
	if observed.State == worker.Stopped {
		// The launcher is about to go as well.
		w.State = worker.Stopping.String()
	}
	if exit := observed.LastExit; exit != nil {
		w.LastExit = &ExitStatus{Generation: exit.Generation, Code: exit.Code, Reason: string(exit.Reason), At: exit.At, Strays: len(exit.Strays), Detail: exit.Detail}
		if exit.Signal != 0 {
			w.LastExit.Signal = signalText(exit.Signal)
		}
	}
	return w
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// judge gives the verdict of a launcher that answers.
func (s *Status) judge() {
	switch s.Worker.State {
	case worker.Ready.String():
		s.Verdict = VerdictOK
	case worker.Waiting.String():
		s.Verdict = VerdictWaiting
	case worker.Starting.String(), worker.Stopping.String():
		s.Verdict = VerdictStarting
	default:
		s.Verdict = VerdictDegraded
	}
	if len(s.Problems) > 0 && s.Verdict != VerdictStarting {
		s.Verdict = VerdictDegraded
	}
	s.condemn()
}

// condemn puts the worst holder before everything else.
func (s *Status) condemn() {
	switch s.worst {
	case judge.Orphan:
		s.Verdict = VerdictOrphan
	case judge.Rival:
		s.Verdict = VerdictRival
	case judge.Foreign:
		s.Verdict = VerdictForeign
	}
}

// listensOn explains a worker that listens elsewhere; not knowing is no error.
func listensOn(pid int) []netip.AddrPort {
	addresses, err := holders.ListensOn(pid)
	if err != nil {
		return nil
	}
	return addresses
}

// exit returns the exit status of "gateway status".
func (s *Status) exit() int {
	switch s.Verdict {
	case VerdictOK, VerdictWaiting, VerdictStarting:
		return 0
	case VerdictDown:
		return 3
	default:
		return 1
	}
}

// calm is the status without what changes with each client.
func (s Status) calm() Status {
	s.Sockets = slices.Clone(s.Sockets)
	for i := range s.Sockets {
		s.Sockets[i].Connections, s.Sockets[i].Queued = nil, 0
	}
	return s
}
