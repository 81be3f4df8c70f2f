package gather

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"openclaw-gateway/cmd/gateway/adopt/journal"
	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/dropins"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/openclaw/dotenv"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
)

// Facts is what was found out about the machine. Zero is unknown, and no check
// complains of it; what ought to be known and is not, is in Unknown.
type Facts struct {
	holders.Asker
	Executable string // the file of this program
	// Replaceable says who else than root can replace that file; nil: nobody.
	Replaceable *read.OthersError
	Version     string // of this program

	Halves  []Half // adoptions that were interrupted
	Scopes  []Scope
	Wanted  []netaddr.Address // what listen and the socket units name
	Sockets []holders.Socket  // what listens there, or on an address that conflicts
	Waiting []holders.Holder  // OpenClaw gateways beside ours that have no port, and are started again and again

	Systemd     int // version
	Somaxconn   int // net.core.somaxconn, the longest queue that the kernel allows
	Kernel      string
	NoIPv6      bool     // the kernel has no such sockets
	KernelLacks []string // what the launcher needs; with kernel.SeccompNotify only where a handoff wants it

	Unknown []Unknown
}

// Half is an adoption that was interrupted, of the scope of a manager.
type Half struct {
	journal.Half
	Scope   units.Scope
	Manager systemd.Manager
}

// Unknown is something that could not be looked at.
type Unknown struct {
	What string // a sentence
	// Essential says that without it nobody can tell whether all is well.
	Essential bool
}

// Scope is a service manager with what concerns an instance in it.
type Scope struct {
	Instance instance.Name
	Name     units.Scope
	Manager  systemd.Manager

	Socket, Service Unit
	// Before is what our service was installed with, where another is in its place or none: as far as that can be told.
	Before units.Choice
	// Overrides are what drop-ins change in these two.
	Overrides []dropins.Override
	// Replaceable says who else than root can replace the program that the system's service names; nil: nobody.
	Replaceable *read.OthersError
	// Misplaced says who else than root decides what lies at the paths of unix sockets that a manager of root's has, or is to have.
	Misplaced map[netaddr.Address]*read.OthersError
	OpenClaw  []Unit          // services that start OpenClaw without the launcher
	Named     []instance.Name // the other instances that the manager knows; of the default one's
	Sockets   []Unit          // all socket units, with their addresses

	Config   Config
	Listener Listener // who has the control socket; zero when Absent or refused
	Answer   Answer
	Launcher *api.Status // what it says of itself; nil unless Answered
	Worker   Worker
	User     string  // of a user's manager
	Reader   *Reader // whose launcher it is, where the look is taken as that user
	// SessionsOnly says that a user's manager ends with the last session.
	SessionsOnly bool
}

// Reader is the user that reads a scope's configuration.
type Reader struct {
	UID  int
	Home string
}

// Installed reports whether there are units of ours.
func (s *Scope) Installed() bool {
	return s.Socket.Exists() || s.Service.RunsLauncher()
}

// Replaced reports whether OpenClaw's own service has taken the place of ours: what opens the port would start it.
func (s *Scope) Replaced() bool {
	return s.Socket.Exists() && !s.Service.Ours && slices.ContainsFunc(s.OpenClaw, func(u Unit) bool { return u.Name == s.Instance.Service() })
}

// ServiceGone reports whether our socket has no service any more that it could start, or none that will be there after the next look of the
// manager's.
func (s *Scope) ServiceGone() bool {
	return s.Socket.LoadState == "loaded" && !s.Replaced() && (s.Service.Gone || s.Service.LoadState == "not-found")
}

func (s *Scope) Answers() bool    { return s.Launcher != nil }
func (s *Scope) HasFile() bool    { return s.Config.Path != "" }
func (s *Scope) Configured() bool { return s.Config.Loaded != nil }
func (s *Scope) Intercepts() bool {
	return s.Configured() && s.Config.Loaded.Worker.Handoff == config.HandoffIntercept
}

// Unit is what a manager says of a unit: org.freedesktop.systemd1(5).
type Unit struct {
	Name        string
	LoadState   string
	FileState   string // UnitFileState: enabled, disabled, masked, …
	ActiveState string
	SubState    string
	Result      string
	Path        string   // FragmentPath
	Gone        bool     // nothing lies there any more, and the manager goes on with what it has read
	Lacks       []string // the units without which the manager does not start it, each with its state
	Ours        bool     // of our own two: "gateway install" has written it
	Reload      bool     // NeedDaemonReload

	// Of a service.
	MainPID    int
	ExitStatus int // of the last main process
	Restarts   int
	Cgroup     string
	Delegate   bool
	User       string
	Argv       []string // the first ExecStart
	Marked     bool     // OPENCLAW_SERVICE_MARKER=openclaw
	Port       int      // on which it makes OpenClaw listen; 0 where it does not say

	// Of a socket.
	Listen []netaddr.Address
	// IPv6Only says that its IPv6 wildcard takes no IPv4 clients.
	IPv6Only bool
	Backlog  int
}

func (u *Unit) Exists() bool  { return u.LoadState != "" && u.LoadState != "not-found" }
func (u *Unit) Active() bool  { return u.ActiveState == "active" }
func (u *Unit) Running() bool { return u.MainPID > 0 }

// Enabled reports whether the unit is started at boot or at a login.
func (u *Unit) Enabled() bool { return u.FileState == "enabled" || u.FileState == "enabled-runtime" }

// Wants reports whether a socket unit has its addresses, or will try to get them.
func (u *Unit) Wants() bool {
	return u.Exists() && (u.Enabled() || u.Active() || u.ActiveState == "failed")
}

// RunsLauncher reports whether a service runs "gateway run", in the way of our own
// unit or in that of OpenClaw's install --wrapper.
func (u *Unit) RunsLauncher() bool {
	return u.Exists() && dropins.RunsLauncher(u.Argv)
}

// Config is the configuration file of a scope.
type Config struct {
	Path string // "" where there is none
	// Draft is what is to be judged in its place; nil: what is in it.
	Draft []byte
	// Others says who else than root can change the system's, or put another file in its place; nil: nobody.
	Others   *read.OthersError
	Loaded   *config.Config // nil where it is wrong or could not be read
	Mistakes []string       // each with its line

	// Exposed are the files with secrets that users can read whom they do not concern.
	Exposed []Exposed
	Node    Node
	// Missing is why the worker cannot be started, and MissingAt the key that says so; NoAlarm is the same of alarm.command.
	Missing, MissingAt, NoAlarm string
	// Installed is the version of OpenClaw that lies where the one that runs was started from; "" where that is not known.
	Installed string
	Bun       string  // the program of worker.command where it is Bun
	StateDir  string  // of the OpenClaw that worker.command starts; "" where it starts none, or that is not known
	DotEnv    *DotEnv // of the OpenClaw that worker.command starts; nil where it starts none, or that is not known
	// Writable is a part of the compile cache that others than the service's user can write to; nil: there is none, or none is used.
	Writable *Writable
	// Environment is why worker.environment_file cannot be used, Oddities what is hardly meant in it.
	Environment string
	Oddities    []config.Oddity
}

// Exposed is a file with secrets that everybody can read.
type Exposed struct {
	Path  string
	Mode  fs.FileMode
	Names []string // of the secrets
	Owner int      // uid
	// Others says who else than root can change it, or put another file in its place; nil: nobody.
	Others *read.OthersError
}

// Writable is a directory that somebody else can write to, or whatever lies in its place.
type Writable struct {
	Path  string
	Mode  fs.FileMode
	Owner int  // uid
	Base  bool // it is the unit's own directory (CacheDirectory=)
}

// DotEnv is OpenClaw's own file of variables, and what it says of who runs its service.
type DotEnv struct {
	Path  string
	State dotenv.State
}

// Node is the Node.js that runs OpenClaw.
type Node struct {
	Program  string
	Version  string // 24.21.0; "" where what lies beside the program does not tell
	Range    string // what OpenClaw's package.json asks for: >=24.16.0 <25
	OpenClaw string // version
}

// Listener is the process that has made a control socket, as the kernel says it: what
// the one that answers there says of itself may be made up.
type Listener struct {
	PID, UID int
	Stopped  bool // by a signal, as with Ctrl-Z
}

// Answer is what comes of asking the launcher.
type Answer string

// The answers; zero: it was not asked, or could not be.
const (
	Answered Answer = "answered"
	Absent   Answer = "absent"  // nobody listens on the control socket
	Hung     Answer = "hung"    // no answer in time
	Foreign  Answer = "foreign" // another process than the launcher has put its own in the place of the control socket
)

// Worker is what the kernel says of the worker.
type Worker struct {
	Cgroup  string
	Stopped bool // by a signal, when it hangs
	// Elsewhere is where it listens besides the held addresses, as far as that can be
	// seen, when it takes long to start.
	Elsewhere []netaddr.Address
}

// Theirs reports whether a scope is another user's than the caller's: only root sees such.
func (f *Facts) Theirs(s *Scope) bool { return s.Name == units.User && s.Manager.UID != f.UID }

// Author is the user whose word the configuration of a scope is; -1 where that is not known.
func (s *Scope) Author() int {
	switch {
	case s.Name == units.User:
		return s.Manager.UID
	case s.Config.Others == nil:
		return 0
	default:
		return s.Config.Others.Author()
	}
}

// Which returns the scopes of which is is true.
func (f *Facts) Which(is func(*Scope) bool) []*Scope {
	var scopes []*Scope
	for i := range f.Scopes {
		if is(&f.Scopes[i]) {
			scopes = append(scopes, &f.Scopes[i])
		}
	}
	return scopes
}

// SocketUnit returns the socket unit that has an address open, ours or another.
func (f *Facts) SocketUnit(address netaddr.Address, of systemd.Manager) (unit *Unit, ours bool) {
	for i := range f.Scopes {
		s := &f.Scopes[i]
		if s.Manager != of {
			continue
		}
		if s.Socket.Active() && slices.Contains(s.Socket.Listen, address) {
			return &s.Socket, true
		}
		for j := range s.Sockets {
			if other := &s.Sockets[j]; other.Active() && slices.Contains(other.Listen, address) {
				return other, false
			}
		}
	}
	return nil, false
}

// Explained reports whether an active socket unit of ours has the address open, so
// that its manager holds it whether that can be seen or not.
func (f *Facts) Explained(address netaddr.Address) bool {
	return slices.ContainsFunc(f.Scopes, func(s Scope) bool {
		return s.Socket.Active() && slices.Contains(s.Socket.Listen, address)
	})
}

// Exactly returns the socket on the very address, nil where nobody listens there.
func (f *Facts) Exactly(address netaddr.Address) *holders.Socket {
	i := slices.IndexFunc(f.Sockets, func(s holders.Socket) bool { return s.Address == address })
	if i < 0 {
		return nil
	}
	return &f.Sockets[i]
}

// Line says where in the configuration a key stands, for a person who edits it.
func (s *Scope) Line(key string) string {
	if s.Config.Loaded != nil {
		if place := s.Config.Loaded.Source[key]; place != "" {
			return fmt.Sprintf("%s (%s)", key, filepath.Base(place))
		}
	}
	return key
}

// OfScope names a unit for a person.
func (s *Scope) OfScope(unit string) string {
	if s.Name == units.User && s.User != "" {
		return fmt.Sprintf("%s of user %s", unit, s.User)
	}
	return fmt.Sprintf("%s of the %s scope", unit, s.Name)
}

// Overridden returns what drop-ins change, of those settings alone where some are named.
func (s *Scope) Overridden(settings ...string) []dropins.Override {
	return slices.DeleteFunc(slices.Clone(s.Overrides), func(o dropins.Override) bool { return len(settings) > 0 && !slices.Contains(settings, o.Setting) })
}

// Unusable reports whether it follows from a drop-in alone that a unit has failed: no command does anything about it that leaves
// that as it is.
func (s *Scope) Unusable(unit string) bool {
	return slices.ContainsFunc(s.Overridden(), func(o dropins.Override) bool {
		return o.Broken || o.Unit == unit && slices.Contains([]string{"Type", "User"}, o.Setting)
	})
}

// Overlaps reports whether the unit's sockets cannot stand beside one on the address, which takes IPv4 clients too where it is
// the IPv6 wildcard and dual-stack.
func (u *Unit) Overlaps(address netaddr.Address, dualStack bool) bool {
	return slices.ContainsFunc(u.Listen, func(own netaddr.Address) bool {
		return netaddr.Overlap(own, !u.IPv6Only, address, dualStack)
	})
}

// Serves reports whether a launcher says that its worker serves.
func (s *Scope) Serves() bool { return s.Launcher != nil && s.Launcher.Worker.State == api.StateReady }

// UID is what the launcher of a scope has, -1 where it is not known.
func (s *Scope) UID() int {
	if s.Reader != nil {
		return s.Reader.UID
	}
	if s.Name == units.User {
		return s.Manager.UID
	}
	if s.Service.User == "" {
		return 0
	}
	return systemd.UserID(s.Service.User)
}

// owners are the uids, beside root, whose files count in the scope: root must not take another's for them. Everybody else
// reads no more than they may read.
func (s *Scope) owners() []int {
	if os.Geteuid() != 0 || s.UID() < 0 {
		return nil
	}
	return []int{s.UID()}
}
