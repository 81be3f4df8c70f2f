package doctor

import (
	"io/fs"
	"net/netip"
	"slices"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/dropins"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units"
)

// Facts is what was found out about the machine. Zero is unknown, and no check
// complains of it; what ought to be known and is not, is in Unknown.
type Facts struct {
	holders.Asker
	Executable string // the file of this program
	// Replaceable says who else than root can replace that file; nil: nobody.
	Replaceable *read.OthersError
	Version     string // of this program

	Scopes  []Scope
	Wanted  []netip.AddrPort // what listen and the socket units name
	Sockets []holders.Socket // what listens there, or on an address that conflicts
	Waiting []holders.Holder // OpenClaw gateways beside ours that have no port, and are started again and again

	Systemd     int // version
	Somaxconn   int // net.core.somaxconn, the longest queue that the kernel allows
	Kernel      string
	NoIPv6      bool     // the kernel has no such sockets
	KernelLacks []string // what the launcher needs; with seccompNotify only where a handoff wants it

	Unknown []Unknown
}

// Unknown is something that could not be looked at.
type Unknown struct {
	What string // a sentence
	// Essential says that without it nobody can tell whether all is well.
	Essential bool
}

// Scope is a service manager with what concerns us in it.
type Scope struct {
	Name    units.Scope
	Manager systemd.Manager

	Socket, Service Unit
	// Overrides are what drop-ins change in these two.
	Overrides []dropins.Override
	// Replaceable says who else than root can replace the program that the system's service names; nil: nobody.
	Replaceable *read.OthersError
	OpenClaw    []Unit // services that start OpenClaw without the launcher
	Sockets     []Unit // all socket units, with their addresses

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
	return s.Socket.exists() || s.Service.runsLauncher()
}

func (s *Scope) answers() bool    { return s.Launcher != nil }
func (s *Scope) hasFile() bool    { return s.Config.Path != "" }
func (s *Scope) configured() bool { return s.Config.Loaded != nil }
func (s *Scope) intercepts() bool {
	return s.configured() && s.Config.Loaded.Worker.Handoff == config.HandoffIntercept
}

// Unit is what a manager says of a unit: org.freedesktop.systemd1(5).
type Unit struct {
	Name        string
	LoadState   string
	FileState   string // UnitFileState: enabled, disabled, masked, …
	ActiveState string
	SubState    string
	Result      string
	Path        string // FragmentPath
	Ours        bool   // of our own two: "gateway install" has written it
	Reload      bool   // NeedDaemonReload

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
	Listen []netip.AddrPort
	// IPv6Only says that its IPv6 wildcard takes no IPv4 clients.
	IPv6Only bool
	Backlog  int
}

func (u *Unit) exists() bool  { return u.LoadState != "" && u.LoadState != "not-found" }
func (u *Unit) active() bool  { return u.ActiveState == "active" }
func (u *Unit) running() bool { return u.MainPID > 0 }

// enabled reports whether the unit is started at boot or at a login.
func (u *Unit) enabled() bool { return u.FileState == "enabled" || u.FileState == "enabled-runtime" }

// wants reports whether a socket unit has its addresses, or will try to get them.
func (u *Unit) wants() bool {
	return u.exists() && (u.enabled() || u.active() || u.ActiveState == "failed")
}

// runsLauncher reports whether a service runs "gateway run", in the way of our own
// unit or in that of OpenClaw's install --wrapper.
func (u *Unit) runsLauncher() bool {
	return u.exists() && dropins.RunsLauncher(u.Argv)
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
	Bun       string // the program of worker.command where it is Bun
	// Environment is why worker.environment_file cannot be used.
	Environment string
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
	Absent   Answer = "absent" // nobody listens on the control socket
	Hung     Answer = "hung"   // no answer in time
)

// Worker is what the kernel says of the worker.
type Worker struct {
	Cgroup  string
	Stopped bool // by a signal, when it hangs
	// Elsewhere is where it listens besides the held addresses, as far as that can be
	// seen, when it takes long to start.
	Elsewhere []netip.AddrPort
}

// theirs reports whether a scope is another user's than the caller's: only root sees such.
func (f *Facts) theirs(s *Scope) bool { return s.Name == units.User && s.Manager.UID != f.UID }

// author is the user whose word the configuration of a scope is; -1 where that is not known.
func (s *Scope) author() int {
	switch {
	case s.Name == units.User:
		return s.Manager.UID
	case s.Config.Others == nil:
		return 0
	case s.Config.Others.UID > 0:
		return s.Config.Others.UID
	default: // root's file, and others can put another one there
		return -1
	}
}

// which returns the scopes of which is is true.
func (f *Facts) which(is func(*Scope) bool) []*Scope {
	var scopes []*Scope
	for i := range f.Scopes {
		if is(&f.Scopes[i]) {
			scopes = append(scopes, &f.Scopes[i])
		}
	}
	return scopes
}

// socketUnit returns the socket unit that has an address open, ours or another.
func (f *Facts) socketUnit(address netip.AddrPort, of systemd.Manager) (unit *Unit, ours bool) {
	for i := range f.Scopes {
		s := &f.Scopes[i]
		if s.Manager != of {
			continue
		}
		if s.Socket.active() && slices.Contains(s.Socket.Listen, address) {
			return &s.Socket, true
		}
		for j := range s.Sockets {
			if other := &s.Sockets[j]; other.active() && slices.Contains(other.Listen, address) {
				return other, false
			}
		}
	}
	return nil, false
}

// explained reports whether an active socket unit of ours has the address open, so
// that its manager holds it whether that can be seen or not.
func (f *Facts) explained(address netip.AddrPort) bool {
	return slices.ContainsFunc(f.Scopes, func(s Scope) bool {
		return s.Socket.active() && slices.Contains(s.Socket.Listen, address)
	})
}

// exactly returns the socket on the very address, nil where nobody listens there.
func (f *Facts) exactly(address netip.AddrPort) *holders.Socket {
	i := slices.IndexFunc(f.Sockets, func(s holders.Socket) bool { return s.Address == address })
	if i < 0 {
		return nil
	}
	return &f.Sockets[i]
}
