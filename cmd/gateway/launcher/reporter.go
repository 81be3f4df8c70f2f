package launcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/launcher/alarm"
	"openclaw-gateway/cmd/gateway/launcher/announce"
	"openclaw-gateway/cmd/gateway/launcher/history"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/state"
	"openclaw-gateway/listener"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker"
	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/proctree"
	"openclaw-gateway/worker/tree"
)

// reporter says what the launcher does: to systemd, to whoever asks, and to those who watch.
type reporter struct {
	held  *heldSockets
	since time.Time
	// upgraded is when it became this program, in place of an earlier one; zero: this one is its first.
	upgraded time.Time
	systemd  announce.Announcer
	names    func() map[netaddr.Address]string // of the sockets, in the configuration
	notes    func() []string                   // about the configuration
	place    func() string                     // what is wrong with the control socket or its directory; ""

	// Of the worker and of the configuration, the last that was told.
	observed      atomic.Pointer[worker.Status]
	configuration atomic.Pointer[configReport]

	alarm   *alarm.Alarm
	history history.History
	kept    []*state.Keeper // what is for the next launcher: where it cannot be written, that is a problem
	ends    *history.Counts
	feed    feed
}

func newReporter(held *heldSockets) *reporter {
	r := &reporter{
		held: held, since: time.Now(), ends: history.NewCounts(),
		place: func() string { return "" }, names: func() map[netaddr.Address]string { return nil },
		notes: func() []string { return []string{} },
	}
	r.observed.Store(&worker.Status{})
	r.configuration.Store(&configReport{})
	return r
}

// observe takes note of another state of the worker, which has these addresses.
func (r *reporter) observe(status worker.Status, addresses []netaddr.Address) {
	r.observed.Store(&status)
	r.history.Observe(status)
	r.systemd.Observe(status, addresses)
	r.feed.tell(&r.observed)
}

// changed has whoever watches look again.
func (r *reporter) changed() { r.feed.tell(&r.observed) }

// ended takes note of the end of a generation.
func (r *reporter) ended(exit ends.Exit) {
	r.ends.Add(exit)
	r.history.Add(exit)
}

// configured takes note of what became of the configuration file.
func (r *reporter) configured(report configReport) {
	// Whoever reads it may be in another directory.
	if path, err := filepath.Abs(report.path); err == nil && report.path != "" {
		report.path = path
	}
	r.configuration.Store(&report)
	r.systemd.Reject(report.err)
	r.alarm.Look() // its settings may be others
	r.feed.tell(&r.observed)
}

// status describes the launcher from memory, without the holders and connections
// of its sockets: whoever asks sees as much of them. problems are those of the configuration that is in use.
func (r *reporter) status(observed *worker.Status, problems []string) api.Status {
	s := api.Status{
		Instance: string(r.held.of),
		Version:  api.ProgramVersion(),
		Problems: problems,
		Notes:    r.notes(),
		Unit:     api.Unit{Name: r.held.of.Service(), Scope: r.held.scopeName()},
		Launcher: api.Launcher{PID: os.Getpid(), Since: &r.since, Upgraded: api.Moment(r.upgraded), Holder: r.held.kind},
		Sockets:  []api.Socket{},
		Worker:   workerStatus(observed),
		Leaving:  []api.Leaving{},
	}
	r.addBeside(&s, observed)
	for _, refused := range r.held.refused {
		s.Problems = append(s.Problems, refused.Error())
	}
	if r.held.kind == api.FromSystemd {
		// It is the launcher that says what the manager shows.
		s.Unit.MainPID, s.Unit.ActiveState = os.Getpid(), r.systemd.ActiveState()
	}
	report := r.configuration.Load()
	s.Config = api.Config{Path: report.path, State: api.ConfigApplied}
	switch {
	case report.err != "":
		s.Config.State, s.Config.Error = api.ConfigRejected, report.err
		s.Problems = append(s.Problems, "the configuration was rejected: "+report.err)
	case observed.RolledBack != 0:
		s.Config.State, s.Config.Error = api.ConfigRejected, observed.RollbackReason
		back := "is in use again"
		if observed.State == worker.Stopping && observed.Ending == ends.ReasonUnready {
			back = "comes back" // when the worker of the new one has ended
		}
		s.Problems = append(s.Problems, "the last configuration that worked "+back+", because of the new one "+observed.RollbackReason)
	}
	if observed.Problem != "" {
		s.Problems = append(s.Problems, observed.Problem)
	}
	if observed.Said != "" {
		s.Notes = append(s.Notes, "not ready yet: "+observed.Said)
	}
	if observed.Uncached != "" {
		s.Notes = append(s.Notes, observed.Uncached)
	}
	if observed.Cold != "" {
		s.Notes = append(s.Notes, api.SaysCold+observed.Cold)
	}
	if observed.Deprived {
		s.Notes = append(s.Notes, api.SaysDeprived)
	}
	if observed.Warning != "" {
		s.Problems = append(s.Problems, observed.Warning)
	}
	if observed.Blind != "" {
		s.Problems = append(s.Problems, "alive.queue is in vain, a worker that hangs is not noticed: "+observed.Blind)
	}
	if observed.Mute != "" {
		s.Problems = append(s.Problems, "alive.path is in vain, no request is made: "+observed.Mute)
	}
	if hung := observed.Hung; hung != nil {
		s.Problems = append(s.Problems, api.SayHung(observed.Generation, observed.PID, hung.Detail))
	}
	if problem := r.place(); problem != "" {
		s.Problems = append(s.Problems, problem)
	}
	r.ends.Tell(&s.Worker)
	if observed.Says != "" {
		s.Notes = append(s.Notes, fmt.Sprintf("generation %d says: %s", observed.Generation, say.Cut(observed.Says, announce.LongestSaid)))
	}
	r.alarm.Tell(&s)
	for _, kept := range r.kept {
		kept.Tell(&s.Problems)
	}
	r.addSockets(&s, observed)
	if address := s.Overdue(); address != "" && (observed.State == worker.Stopping || observed.State == worker.BackingOff) {
		s.Problems = append(s.Problems, fmt.Sprintf("clients wait on %s for longer than alive.queue: generation %d is %s%s",
			address, observed.Generation, observed.State, say.Until(observed.Until)))
	}
	s.SetVerdict()
	return s
}

// lives is the history, and the generation that lives.
func (r *reporter) lives() api.History {
	return api.History{Instance: string(r.held.of), Scope: r.held.scopeName(), Generations: r.history.Lives(), Notes: r.history.Notes}
}

// watch sends a status now and at each change, until the context is done or one cannot be sent. problems is asked each time.
func (r *reporter) watch(ctx context.Context, problems func() []string, send func(api.Status) error) {
	changes, leave := r.feed.join()
	defer leave()
	for observed := r.observed.Load(); ; {
		if send(r.status(observed, problems())) != nil {
			return
		}
		select {
		case next := <-changes:
			observed = &next
		case <-ctx.Done():
			return
		}
	}
}

// addSockets adds the held sockets, and says where a network namespace stands
// between them and whoever counts or serves.
func (r *reporter) addSockets(s *api.Status, observed *worker.Status) {
	away := false
	var unserved []netaddr.Address
	if observed.Unserved != nil {
		unserved = *observed.Unserved
	}
	sockets, _ := r.held.current()
	names := r.names()
	for _, socket := range sockets {
		line := api.Socket{Address: socket.String(), Name: cmp.Or(names[socket.Address], socket.Name, handoff.DefaultName), Inode: socket.Inode, Holders: []api.Holder{}}
		var err error
		line.Queued, line.Backlog, err = socket.Queue()
		if errors.Is(err, os.ErrClosed) {
			continue // an edit has just removed it
		}
		if err != nil {
			s.Problems = append(s.Problems, err.Error())
		}
		if line.Queued > 0 {
			// Where the kernel does not tell, whoever asks may see it.
			if _, waits, err := (listener.Set{socket}).Oldest(); err == nil {
				line.WaitingS = waits.Seconds()
			}
		}
		if socket.Address.IsUnix() {
			if socket.Dead() {
				s.Problems = append(s.Problems, fmt.Sprintf("somebody has shut %s down, and the kernel refuses its clients from then on: %s",
					line.Address, r.held.openAnew()))
			}
			s.Sockets = append(s.Sockets, line)
			continue
		}
		elsewhere, err := socket.Elsewhere()
		if err != nil {
			s.Problems = append(s.Problems, err.Error())
		}
		away = away || elsewhere
		switch absent, served := sockets.Absent(socket.Address), !slices.Contains(unserved, socket.Address); {
		case absent && served:
			s.Notes = append(s.Notes, fmt.Sprintf("this machine does not have the address of %s now: nobody can connect to it", line.Address))
		case absent:
			s.Notes = append(s.Notes, fmt.Sprintf("this machine does not have the address of %s now, and the worker does not listen there: "+
				"when it has, `%s`", line.Address, gateway(r.held.of, "restart")))
		case socket.Address.Addr() == netip.IPv6Unspecified() && !socket.DualStack && !alsoIPv4(sockets, socket.Address.Port()):
			s.Notes = append(s.Notes, fmt.Sprintf("%s takes IPv6 clients alone: \"*:%d\" in listen takes IPv4 ones too", line.Address, socket.Address.Port()))
		case !served:
			s.Problems = append(s.Problems, fmt.Sprintf("the worker does not listen on %s, which this machine did not have when the worker started, "+
				"and has now: `%s`", line.Address, gateway(r.held.of, "restart")))
		}
		s.Sockets = append(s.Sockets, line)
	}
	if s.Worker.PID == 0 || away {
		return
	}
	if elsewhere, err := proctree.Elsewhere(s.Worker.PID, "net"); err == nil && elsewhere {
		s.Notes = append(s.Notes, fmt.Sprintf("the worker (pid %d) is in another network namespace than the sockets: "+
			"what else it listens on cannot be reached from here", s.Worker.PID))
	}
}

func alsoIPv4(sockets listener.Set, port uint16) bool {
	return slices.ContainsFunc(sockets, func(s *listener.Socket) bool { return s.Address.Addr().Is4() && s.Address.Port() == port })
}

// countLimit is for a worker with millions of descriptors.
const countLimit = time.Second

// addBeside adds the generations beside the worker.
func (r *reporter) addBeside(s *api.Status, observed *worker.Status) {
	if next := observed.Successor; next.Generation != 0 {
		s.Successor = &api.Successor{
			Generation: next.Generation, PID: next.PID, State: next.State, Since: next.Since, Purpose: api.ForRestart,
			MemoryBytes: tree.MemoryOf(next.Generation), Modules: next.Modules,
		}
		if next.Standby {
			s.Successor.Purpose, s.Successor.Frozen = api.ForStandby, tree.Frozen(next.Generation)
		}
	}
	if old := observed.Leaving; old.Generation != 0 {
		leaving := api.Leaving{Generation: old.Generation, PID: old.PID, Since: old.Since, Until: api.Moment(old.Until)}
		ctx, cancel := context.WithTimeout(context.Background(), countLimit)
		defer cancel()
		sockets, _ := r.held.current()
		if n, err := sockdiag.Accepted(ctx, sockets.Addresses(), proctree.Tree(old.PID)...); err == nil && ctx.Err() == nil {
			leaving.Connections = &n
		}
		s.Leaving = append(s.Leaving, leaving)
	}
	s.HandoverObstacle, s.StandbyObstacle = observed.Apart, observed.NoStandby
	if observed.NoStandby != "" {
		s.Notes = append(s.Notes, "there is no standby (restart.standby): "+observed.NoStandby)
	}
	if observed.Apart != "" {
		s.Notes = append(s.Notes, "restart.mode: handover is not what happens: "+observed.Apart+". A restart is exclusive")
	}
}

func workerStatus(observed *worker.Status) api.Worker {
	w := api.Worker{
		State: observed.State.String(), PID: observed.PID, Generation: observed.Generation, Since: api.Moment(observed.Since),
		ReadyAfterMS: observed.ReadyAfter.Milliseconds(), Handoff: string(observed.Handoff), NoNewPrivs: observed.Deprived, Restarts: observed.Restarts,
		NextStart: api.Moment(observed.NextStart), Hung: history.Hung(observed.Hung), WaitsUntil: api.Moment(observed.Until), QueueLimitS: observed.QueueLimit.Seconds(),
		FrontDesk: observed.FrontDesk,
	}
	if runs := observed.OpenClaw; runs.Release != "" {
		w.OpenClaw = &api.OpenClaw{Version: runs.Release, Entry: runs.Entry}
	}
	if w.PID != 0 {
		w.MemoryBytes = tree.MemoryOf(w.Generation)
	}
	if observed.State == worker.Stopped {
		// The launcher is about to go as well.
		w.State = worker.Stopping.String()
	}
	if exit := observed.LastExit; exit != nil {
		w.LastExit = &api.Exit{
			Generation: exit.Generation, PID: exit.PID, LivedMS: exit.Lived.Milliseconds(), Code: exit.Code, Signal: say.Signal(exit.Signal), Reason: string(exit.Reason), At: exit.At,
			Strays: len(exit.Strays), Detail: exit.Detail,
		}
	}
	return w
}
