package api

import (
	"slices"
	"strings"
	"time"

	"openclaw-gateway/netaddr"
)

// Status is what GET /status on the control socket and "gateway status --json"
// answer. Its fields are an interface: others read them.
type Status struct {
	// Instance is its name; "" for the default one.
	Instance string   `json:"instance"`
	Version  string   `json:"version"`
	Verdict  Verdict  `json:"verdict"`
	Problems []string `json:"problems"`
	// Notes are worth knowing and no problems: what could not be seen, say.
	Notes []string `json:"notes"`
	// Unseen is how many processes could not be looked into; as long as it is not
	// 0 the sockets may have more holders.
	Unseen   int      `json:"unseen"`
	Unit     Unit     `json:"unit"`
	Launcher Launcher `json:"launcher"`
	Sockets  []Socket `json:"sockets"`
	Worker   Worker   `json:"worker"`
	// Successor is the generation that starts beside the worker, and does not have the sockets yet (restart.mode: handover, restart.prewarm); null
	// where there is none. Leaving are those that have let go of the sockets and finish what they have accepted: one at the most.
	Successor *Successor `json:"successor"`
	Leaving   []Leaving  `json:"leaving"`
	// HandoverObstacle is why a restart is exclusive although restart.mode is handover, and StandbyObstacle why there is no standby
	// although there is to be one (restart.standby); "" where nothing is in the way.
	HandoverObstacle string `json:"handover_obstacle"`
	StandbyObstacle  string `json:"standby_obstacle"`
	Config           Config `json:"config"`
	Alarm            Alarm  `json:"alarm"`
}

// Instance is one of those that "gateway status --json" lists where none is named.
type Instance struct {
	Instance  string   `json:"instance"` // its name; "" for the default one
	Scope     string   `json:"scope"`    // system or user
	User      string   `json:"user"`     // whose in a user's scope
	Verdict   Verdict  `json:"verdict"`
	Addresses []string `json:"addresses"` // as Socket has them
}

// Verdict is the status in a word.
type Verdict string

// The verdicts. Orphan, rival and foreign, each named as the role that it is for, come before all others.
const (
	VerdictOK       Verdict = "ok"       // the worker serves
	VerdictWaiting  Verdict = "waiting"  // the first client will start the worker
	VerdictStarting Verdict = "starting" // a worker is on its way
	VerdictHung     Verdict = "hung"     // the worker was ready, and does not serve
	VerdictDegraded Verdict = "degraded" // no worker serves, or something else is wrong
	VerdictOrphan   Verdict = "orphan"   // an OpenClaw gateway that nobody supervises holds an address
	VerdictRival    Verdict = "rival"    // an OpenClaw gateway of another unit holds an address
	VerdictForeign  Verdict = "foreign"  // another process holds an address
	VerdictDown     Verdict = "down"     // there is no launcher, and none will be started
)

// Verdicts are all of them.
var Verdicts = []Verdict{
	VerdictOK, VerdictWaiting, VerdictStarting, VerdictHung, VerdictDegraded, VerdictOrphan, VerdictRival, VerdictForeign, VerdictDown,
}

// Unit is the service as the manager sees it.
type Unit struct {
	Name        string `json:"name"`
	Scope       string `json:"scope"`          // system, user or ScopeNone
	User        string `json:"user,omitempty"` // whose it is in another user's scope, which root sees
	ActiveState string `json:"active_state"`
	MainPID     int    `json:"main_pid"`
}

// ScopeNone is the scope of a launcher that no manager has started.
const ScopeNone = "none"

// Launcher is the launcher's process.
type Launcher struct {
	PID   int        `json:"pid"`
	UID   int        `json:"-"` // whose process it is, as the kernel says to whoever has asked it
	Since *time.Time `json:"since"`
	// Upgraded is when it became the program that it is, by "gateway upgrade"; null: it has been started so.
	Upgraded *time.Time `json:"upgraded"`
	Holder   Source     `json:"holder"`
}

// Source is who keeps the listening sockets open while the launcher is away.
type Source string

const (
	FromSystemd Source = "systemd"
	FromItself  Source = "self"
)

// At is the address of a socket; that of "*:18789" is [::]:18789. It fails where that is none, which only another's answer has.
func (s Socket) At() (netaddr.Address, error) { return ParseAddress(s.Address) }

// ParseAddress reads an address as a Socket has it.
func ParseAddress(text string) (netaddr.Address, error) {
	if port, all := strings.CutPrefix(text, "*:"); all {
		text = "[::]:" + port
	}
	return netaddr.Parse(text)
}

// Socket is one listening socket.
type Socket struct {
	Address string `json:"address"` // as listen has it: 127.0.0.1:18789, or *:18789 for IPv6 and IPv4
	Name    string `json:"name"`    // that the worker is told in LISTEN_FDNAMES
	Inode   uint64 `json:"inode"`
	Backlog int    `json:"backlog"`
	// Connections counts the established ones of the address, those in the queue
	// included; null where they cannot be counted. Sockets that share an address
	// (SO_REUSEPORT) share the count.
	Connections *int `json:"connections"`
	Queued      int  `json:"queued"`
	// WaitingS is for how many seconds the oldest client in the queue has waited to be accepted; 0 where none waits, or
	// where that cannot be seen.
	WaitingS float64  `json:"waiting_s"`
	Holders  []Holder `json:"holders"`
}

// Holder is a process that has a socket open.
type Holder struct {
	PID     int        `json:"pid"`
	Role    Role       `json:"role"`
	Command string     `json:"command"`
	UID     uint32     `json:"uid"`
	Cgroup  string     `json:"cgroup"`
	Since   *time.Time `json:"since"`
	Unit    string     `json:"unit"` // in whose cgroup it is
	Parent  int        `json:"parent"`
}

// The states of the worker.
const (
	StateWaiting    = "waiting"  // there is none, and the first client starts one
	StateStarting   = "starting" // it does not serve yet
	StateReady      = "ready"    // it serves
	StateStopping   = "stopping" // it was told to end
	StateBackingOff = "backoff"  // there is none, and the next one starts when the time has come
	StateFailed     = "failed"   // there is none, and the next one starts when somebody asks
)

// Worker is the worker, or the lack of one.
type Worker struct {
	State        string     `json:"state"`
	PID          int        `json:"pid"`
	Generation   int        `json:"generation"`
	Since        *time.Time `json:"since"`
	ReadyAfterMS int64      `json:"ready_after_ms"`
	Handoff      string     `json:"handoff"`
	Restarts     int        `json:"restarts"`
	LastExit     *Exit      `json:"last_exit"`
	// Ends counts the generations that have had the sockets and have ended since the launcher started, by each reason that there is;
	// StraysEnded is how many processes all that have ended had left, which were ended with them.
	Ends        []Ends `json:"ends"`
	StraysEnded int    `json:"strays_ended"`
	// LastWords are the last lines of output of the generation that is in trouble: of the present one while it hangs or ends,
	// else of the last one if it has failed, else of one that starts. Whoever asks looks for them; null where that is not known.
	LastWords []string   `json:"last_words"`
	NextStart *time.Time `json:"next_start"`
	// WaitsUntil is when the present state ends by itself at the latest; null where it need not.
	WaitsUntil *time.Time `json:"waits_until"`
	// QueueLimitS is for how many seconds a client may wait in a queue before something is wrong (alive.queue); 0: for ever.
	QueueLimitS float64 `json:"queue_limit_s"`
	// MemoryBytes is what its control group uses (memory.current); 0 where it has none, or the kernel does not count.
	MemoryBytes int64 `json:"memory_bytes"`
	// FrontDesk says that the launcher itself answers clients, with HTTP 503.
	FrontDesk bool `json:"front_desk"`
	// Hung is why it does not serve although it is ready; null when it does.
	Hung *Hung `json:"hung"`
	// OpenClaw is which one runs, in its own words; null where none does, or that is not known.
	OpenClaw *OpenClaw `json:"openclaw"`
	// NoNewPrivs says that it runs with no_new_privs for the sake of its handoff.
	NoNewPrivs bool `json:"no_new_privs"`
}

// SaysCold begins the note that says why the last restart was none with modules that were loaded ahead (restart.prewarm).
const SaysCold = "the last restart was not prewarmed: "

// SaysRefused begins the problem that says why no worker is started with any configuration.
const SaysRefused = "no worker can be started: "

// SaysDeprived says what a worker has paid for its handoff.
const SaysDeprived = "the worker runs with no_new_privs, so that it gets the sockets when it binds their addresses (intercept): sudo, su, ping and " +
	"rootless containers do not work in it"

// Successor is the generation that is to follow the worker.
type Successor struct {
	Generation int       `json:"generation"`
	PID        int       `json:"pid"`
	State      string    `json:"state"` // SuccessorBooting or SuccessorParked
	Since      time.Time `json:"since"`
	Purpose    string    `json:"purpose"` // ForRestart or ForStandby
	Frozen     bool      `json:"frozen"`  // none of its processes runs
	// MemoryBytes is as that of the worker.
	MemoryBytes int64 `json:"memory_bytes"`
	Modules     int   `json:"modules"` // that it has loaded ahead (restart.prewarm)
}

// The states of a successor, and what it is there for.
const (
	SuccessorBooting = "booting" // it has not begun to listen, or loads its modules
	SuccessorParked  = "parked"  // it waits where it begins to listen, until the worker has let go of the sockets; or before it begins, until that is gone
	ForRestart       = "restart"
	ForStandby       = "standby" // it is there in case that the worker fails
)

// Leaving is a generation that has let go of the sockets.
type Leaving struct {
	Generation int       `json:"generation"`
	PID        int       `json:"pid"`
	Since      time.Time `json:"since"`
	// Until is when it is killed at the latest; null: not known.
	Until *time.Time `json:"until"`
	// Connections counts the accepted ones that it has still; null where they cannot be counted.
	Connections *int `json:"connections"`
}

// OpenClaw is what a worker has read of its package when it was started.
type OpenClaw struct {
	Version string `json:"version"`
	Entry   string `json:"entry"` // the file that was started
}

// Reasons are all for which a generation ends.
var Reasons = []string{"crash", "config", "restart", "unready", "idle", "hung", "oom", "stop"}

// Ends is how many generations have ended for a reason.
type Ends struct {
	Reason string `json:"reason"`
	Count  int    `json:"count"`
}

// Hung is a worker that is ready and does not serve.
type Hung struct {
	Since   time.Time `json:"since"`
	By      string    `json:"by"`      // how that is seen: queue, probe or watchdog
	Address string    `json:"address"` // where a client waits in the queue; "" where it is seen otherwise
}

// Exit is the end of the last generation.
type Exit struct {
	Generation int       `json:"generation"`
	PID        int       `json:"pid"` // of its main process; 0: it never ran
	LivedMS    int64     `json:"lived_ms"`
	Code       int       `json:"code"` // -1: ended by a signal, or never ran; -2: nobody can tell
	Signal     string    `json:"signal"`
	Reason     string    `json:"reason"`
	At         time.Time `json:"at"`
	Strays     int       `json:"strays"`
	Detail     string    `json:"detail"` // a sentence where more is known
}

// Config is the configuration file.
type Config struct {
	Path  string `json:"path"`
	State string `json:"state"` // ConfigApplied or ConfigRejected; "" where no launcher answers
	Error string `json:"error"`
}

// The states of the configuration.
const (
	ConfigApplied  = "applied"
	ConfigRejected = "rejected" // the one before it goes on
)

// Alarm is whether somebody is told of a worker that does not serve (alarm.command).
type Alarm struct {
	State string     `json:"state"` // AlarmOff, AlarmQuiet or AlarmRinging; "" where no launcher answers
	Since *time.Time `json:"since"` // it rings
}

// The states of an alarm.
const (
	AlarmOff     = "off"     // there is no command
	AlarmQuiet   = "quiet"   // clients are served, or will be soon
	AlarmRinging = "ringing" // the command was run, and will be once more when clients are served again
)

// SetVerdict gives the verdict of a launcher that answers.
func (s *Status) SetVerdict() {
	switch s.Worker.State {
	case StateReady:
		s.Verdict = VerdictOK
		if s.Worker.Hung != nil {
			s.Verdict = VerdictHung
		}
	case StateWaiting:
		s.Verdict = VerdictWaiting
	case StateStarting, StateStopping:
		s.Verdict = VerdictStarting
	default:
		s.Verdict = VerdictDegraded
	}
	if s.Worker.State == StateStopping && s.Overdue() != "" {
		s.Verdict = VerdictDegraded
	}
	if len(s.Problems) > 0 && s.Verdict != VerdictStarting && s.Verdict != VerdictHung {
		s.Verdict = VerdictDegraded
	}
	s.SetVerdictOfHolders()
}

// Overdue is the address on which a client waits for longer than it may; "" where none does.
func (s *Status) Overdue() string {
	for _, socket := range s.Sockets {
		if limit := s.Worker.QueueLimitS; limit > 0 && socket.WaitingS >= limit {
			return socket.Address
		}
	}
	return ""
}

// SetVerdictOfHolders puts the worst holder before everything else.
func (s *Status) SetVerdictOfHolders() {
	if worst := s.Worst(); worst != "" {
		s.Verdict = Verdict(worst)
	}
}

// Worst is the role of the worst of those who hold an address and should not; "" when nobody does.
func (s *Status) Worst() Role {
	for _, role := range Intruders {
		for _, socket := range s.Sockets {
			if slices.ContainsFunc(socket.Holders, func(h Holder) bool { return h.Role == role }) {
				return role
			}
		}
	}
	return ""
}

// ExitStatus returns the exit status of "gateway status".
func (s *Status) ExitStatus() int {
	switch s.Verdict {
	case VerdictOK, VerdictWaiting, VerdictStarting:
		return 0
	case VerdictDown:
		return 3
	default:
		return 1
	}
}

// WithoutCounts is the status without what changes with each client.
func (s Status) WithoutCounts() Status {
	s.Sockets = slices.Clone(s.Sockets)
	for i := range s.Sockets {
		s.Sockets[i].Connections, s.Sockets[i].Queued, s.Sockets[i].WaitingS = nil, 0, 0
	}
	return s
}

// Moment is a time for the wire, where zero is null.
func Moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
