package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/judge"
	"openclaw-gateway/listener/holders"
	"openclaw-gateway/units"
	"openclaw-gateway/worker"
)

// Status is what GET /status on the control socket and "gateway status --json"
// answer. Its fields are an interface: others read them.
type Status struct {
	Version  string         `json:"version"`
	Verdict  Verdict        `json:"verdict"`
	Problems []string       `json:"problems"`
	Unit     UnitStatus     `json:"unit"`
	Launcher LauncherStatus `json:"launcher"`
	Sockets  []SocketStatus `json:"sockets"`
	Worker   WorkerStatus   `json:"worker"`
	Config   ConfigStatus   `json:"config"`
}

// Verdict is the status in a word.
type Verdict string

// The verdicts that are given so far.
const (
	VerdictOK       Verdict = "ok"       // the worker serves
	VerdictWaiting  Verdict = "waiting"  // the first client will start the worker
	VerdictStarting Verdict = "starting" // a worker is on its way
	VerdictDegraded Verdict = "degraded" // no worker serves, or something else is wrong
	VerdictDown     Verdict = "down"     // there is no launcher
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
	Address     string         `json:"address"`
	Inode       uint64         `json:"inode"`
	Backlog     int            `json:"backlog"`
	Connections int            `json:"connections"` // established, those in the queue included
	Queued      int            `json:"queued"`
	Holders     []HolderStatus `json:"holders"`
}

// HolderStatus is a process that has a socket open.
type HolderStatus struct {
	PID     int        `json:"pid"`
	Role    judge.Role `json:"role"`
	Command string     `json:"command"`
	UID     uint32     `json:"uid"`
	Cgroup  string     `json:"cgroup"`
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
	State string `json:"state"` // applied or rejected
	Error string `json:"error"`
}

// status describes the launcher from within.
func (l *launcher) status(ctx context.Context) Status {
	observed := l.observed.Load()
	if observed == nil {
		observed = &worker.Status{}
	}
	report := l.report.Load()
	since := l.since
	s := Status{
		Version:  programVersion(),
		Problems: l.problems(),
		Unit:     UnitStatus{Name: units.Service, Scope: "none"},
		Launcher: LauncherStatus{PID: os.Getpid(), Since: &since, Holder: l.held.kind},
		Worker:   workerStatus(observed),
		Config:   ConfigStatus{Path: report.path, State: "applied"},
	}
	if l.held.kind == bySystemd {
		s.Unit = l.unit()
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
	sockets, _ := l.held.now()
	for _, socket := range sockets {
		line := SocketStatus{Address: socket.Address.String(), Inode: socket.Inode}
		var err error
		line.Queued, line.Backlog, err = socket.Queue()
		if errors.Is(err, os.ErrClosed) {
			continue // an edit has just removed it
		}
		if err != nil {
			s.Problems = append(s.Problems, err.Error())
		}
		if line.Connections, err = holders.Connections(socket.Address); err != nil {
			s.Problems = append(s.Problems, err.Error())
		}
		s.Sockets = append(s.Sockets, line)
	}
	if err := s.findHolders(ctx, l.held.pid); err != nil {
		s.Problems = append(s.Problems, err.Error())
	}
	s.judge()
	return s
}

// unit is what the launcher knows of its unit: it is the one that says what the
// manager shows.
func (l *launcher) unit() UnitStatus {
	return UnitStatus{Name: units.Service, Scope: string(l.scope()), MainPID: os.Getpid(), ActiveState: l.announce.activeState()}
}

// scope is that of the manager that passed the sockets.
func (l *launcher) scope() units.Scope {
	if l.held.pid != 1 {
		return units.User
	}
	return units.System
}

func workerStatus(observed *worker.Status) WorkerStatus {
	w := WorkerStatus{
		State: observed.State.String(), PID: observed.PID, Generation: observed.Generation, Since: moment(observed.Since),
		ReadyAfterMS: observed.ReadyAfter.Milliseconds(), Handoff: string(observed.Handoff), Restarts: observed.Restarts,
		NextStart: moment(observed.NextStart),
	}
	if exit := observed.LastExit; exit != nil {
		w.LastExit = &ExitStatus{Generation: exit.Generation, Code: exit.Code, Reason: string(exit.Reason), At: exit.At, Strays: len(exit.Strays), Detail: exit.Detail}
		if exit.Signal != 0 {
			w.LastExit.Signal = unix.SignalName(exit.Signal)
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

// findHolders lists who has the sockets open. manager is the pid of the systemd
// that passed them, which an ordinary user cannot look into; 0 without one.
func (s *Status) findHolders(ctx context.Context, manager int) error {
	var inodes []uint64
	for _, socket := range s.Sockets {
		inodes = append(inodes, socket.Inode)
	}
	known := judge.Known{Manager: manager, Launcher: s.Launcher.PID, Worker: s.Worker.PID}
	byInode, unseen, err := known.Holders(ctx, inodes...)
	if err != nil {
		return err
	}
	for i := range s.Sockets {
		socket := &s.Sockets[i]
		socket.Holders = []HolderStatus{}
		for _, holder := range byInode[socket.Inode] {
			socket.Holders = append(socket.Holders, holderStatus(holder))
		}
		seen := slices.ContainsFunc(socket.Holders, func(h HolderStatus) bool { return h.PID == manager })
		if manager != 0 && !seen && unseen > 0 {
			// It passed the socket and keeps it; only its descriptors are hidden.
			holder := HolderStatus{PID: manager, Role: judge.Systemd, Command: "systemd"}
			socket.Holders = slices.Insert(socket.Holders, 0, holder)
		}
	}
	return nil
}

func holderStatus(h judge.Holder) HolderStatus {
	return HolderStatus{PID: h.PID, Role: h.Role, Command: h.Command, UID: h.UID, Cgroup: h.Cgroup}
}

// judge gives the verdict.
func (s *Status) judge() {
	switch s.Worker.State {
	case worker.Ready.String():
		s.Verdict = VerdictOK
	case worker.Waiting.String():
		s.Verdict = VerdictWaiting
	case worker.Starting.String(), worker.Stopping.String():
		s.Verdict = VerdictStarting
		return
	default:
		s.Verdict = VerdictDegraded
		return
	}
	if len(s.Problems) > 0 {
		s.Verdict = VerdictDegraded
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

// print writes the status for a person.
func (s *Status) text() string {
	var b strings.Builder
	line := func(key, format string, values ...any) {
		fmt.Fprintf(&b, "%10s  %s\n", key, fmt.Sprintf(format, values...))
	}
	b.WriteString(s.headline() + "\n")
	for _, problem := range s.Problems {
		line("problem", "%s", problem)
	}
	for _, socket := range s.Sockets {
		line("socket", "%s, %d connections, %d of %d waiting, inode %d", socket.Address, socket.Connections, socket.Queued, socket.Backlog, socket.Inode)
		for _, holder := range socket.Holders {
			line("", "held by %s, pid %d, %s", holder.Role, holder.PID, holder.Command)
		}
	}
	if s.Unit.Scope != "none" {
		line("unit", "%s (%s scope), %s, main pid %d", s.Unit.Name, s.Unit.Scope, s.Unit.ActiveState, s.Unit.MainPID)
	}
	if s.Launcher.Since != nil {
		line("launcher", "pid %d, since %s, version %s", s.Launcher.PID, s.Launcher.Since.Format(time.DateTime), s.Version)
	}
	w := s.Worker
	if w.PID != 0 {
		line("worker", "generation %d, %s, pid %d, since %s, handoff %s", w.Generation, w.State, w.PID, w.Since.Format(time.DateTime), w.Handoff)
	}
	if w.NextStart != nil {
		line("", "next start at %s", w.NextStart.Format(time.DateTime))
	}
	if exit := w.LastExit; exit != nil {
		how := fmt.Sprintf("exit code %d", exit.Code)
		if exit.Signal != "" {
			how = "killed by " + exit.Signal
		}
		if exit.Detail != "" {
			how += ": " + exit.Detail
		}
		line("last exit", "generation %d at %s: %s (%s)", exit.Generation, exit.At.Format(time.DateTime), how, exit.Reason)
	}
	path := s.Config.Path
	if path == "" {
		path = "built-in defaults"
	}
	if s.Config.State != "" {
		line("config", "%s, %s", path, s.Config.State)
	}
	return b.String()
}

func (s *Status) headline() string {
	var addresses []string
	for _, socket := range s.Sockets {
		addresses = append(addresses, socket.Address)
	}
	where := strings.Join(addresses, " and ")
	switch s.Verdict {
	case VerdictOK:
		return fmt.Sprintf("ok: generation %d serves %s, ready after %s", s.Worker.Generation, where,
			roundDuration(time.Duration(s.Worker.ReadyAfterMS)*time.Millisecond))
	case VerdictWaiting:
		switch {
		case where == "":
			return "waiting: the next client starts the launcher and the worker"
		case s.Worker.LastExit != nil:
			return "waiting: the next client on " + where + " starts the worker"
		}
		return "waiting: the first client on " + where + " starts the worker"
	case VerdictStarting:
		return fmt.Sprintf("starting: generation %d is %s, clients of %s wait", s.Worker.Generation, s.Worker.State, where)
	case VerdictDown:
		return "down: the launcher is not running"
	default:
		return fmt.Sprintf("%s: the worker is in state %s", s.Verdict, s.Worker.State)
	}
}
