package launcher

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/listener/holders"
	"openclaw-gateway/units"
	"openclaw-gateway/worker"
)

// status describes the launcher from memory, without the holders and connections
// of its sockets: whoever asks sees as much of them.
func (l *launcher) status(observed *worker.Status) api.Status {
	if observed == nil {
		observed = &worker.Status{}
	}
	report := l.report.Load()
	since := l.since
	s := api.Status{
		Version:  api.ProgramVersion(),
		Problems: l.problems(),
		Notes:    []string{},
		Unit:     api.Unit{Name: units.Service, Scope: l.scopeName()},
		Launcher: api.Launcher{PID: os.Getpid(), Since: &since, Holder: l.held.kind},
		Sockets:  []api.Socket{},
		Worker:   workerStatus(observed),
		Config:   api.Config{Path: report.path, State: "applied"},
	}
	if l.held.kind == api.FromSystemd {
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
	s.Judge()
	return s
}

// addSockets adds the held sockets, and says where a network namespace stands
// between them and whoever counts or serves.
func (l *launcher) addSockets(s *api.Status) {
	away := false
	sockets, _ := l.held.now()
	for _, socket := range sockets {
		line := api.Socket{Address: socket.Address.String(), Inode: socket.Inode, Holders: []api.Holder{}}
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
	if l.held.kind != api.FromSystemd {
		return "none"
	}
	return string(l.scope())
}

func workerStatus(observed *worker.Status) api.Worker {
	w := api.Worker{
		State: observed.State.String(), PID: observed.PID, Generation: observed.Generation, Since: api.Moment(observed.Since),
		ReadyAfterMS: observed.ReadyAfter.Milliseconds(), Handoff: string(observed.Handoff), Restarts: observed.Restarts,
		NextStart: api.Moment(observed.NextStart),
	}
	if observed.State == worker.Stopped {
		// The launcher is about to go as well.
		w.State = worker.Stopping.String()
	}
	if exit := observed.LastExit; exit != nil {
		w.LastExit = &api.Exit{Generation: exit.Generation, Code: exit.Code, Reason: string(exit.Reason), At: exit.At, Strays: len(exit.Strays), Detail: exit.Detail}
		if exit.Signal != 0 {
			w.LastExit.Signal = say.Signal(exit.Signal)
		}
	}
	return w
}

// listensOn explains a worker that listens elsewhere; not knowing is no error.
func listensOn(pid int) []netip.AddrPort {
	addresses, err := holders.ListensOn(pid)
	if err != nil {
		return nil
	}
	return addresses
}
