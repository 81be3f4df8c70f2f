package adopt

import (
	"io/fs"
	"time"

	"openclaw-gateway/cmd/gateway/adopt/lines"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
)

// Plan is everything that is about to be done, and why: data alone. Whoever made it has changed nothing; whoever executes it
// decides nothing.
type Plan struct {
	Instance instance.Name
	Scope    units.Scope // of ours and of the old ones
	RunAs    string      // in system scope, the user that the launcher and its worker are; "" is root. "" in user scope
	UID, GID int         // of that user: whose the configuration and the environment file are; -1 of one who is made (Move.Create)

	Move *Move // nil where ours runs as the user of the old one, or that user has a state of its own

	Old    Unit   // what ours takes the place of
	Rivals []Unit // others of the same scope that would want the same port: they are stopped and set aside as well

	// Files are ours, in the order in which they are written, the units not among them. Their folders are made if they are not
	// there. None of them is there yet, or it has the content that it is to have: everything else is a refusal.
	Files         []File
	Configuration string // the path of that one of Files

	Listen      []netaddr.Address
	StopTimeout time.Duration // stop.timeout of the configuration
	AtBoot      bool          // the old one was enabled: the socket is enabled, and with at-once the service
	Running     bool          // the old one ran, or was to run: the socket is started, and the first answer is waited for
	Linger      string        // user scope: the user for whom lingering must be enabled; "" where it need not

	Ready string // the URL whose first answer is waited for, such as http://127.0.0.1:18789/startupz

	// OpenClaw's own file of variables in its state directory, in which OPENCLAW_SUPERVISOR_MODE=external has to stand, and the
	// user whose it is, by the uid; it need not be there.
	DotEnv    string
	DotEnvUID int
	OwnConfig string // OpenClaw's own configuration

	Settings []Setting // the lines of the configuration, for people
	Carried  []Note    // what goes on as it was
	Lost     []Note    // what does not, and why
	Notes    []string  // what else there is to know, a sentence each
}

// Unit is a unit of systemd as it is before anything is changed.
type Unit struct {
	Name  string
	Scope units.Scope
	UID   int // of the manager's user; 0 in system scope

	Fragment string   // the unit file (FragmentPath); "" where there is none
	DropIns  []string // those that systemd has merged into it (DropInPaths)

	// Aside are the paths that have to be out of the way, absolute, and in this order: the links that enable it, the unit file,
	// the folders of drop-ins. All of them lie in folders of the administrator, or of the user, that systemd reads. To put them
	// back as they were, with a daemon-reload, is to give back the unit, enabled as it was.
	Aside []string

	// Mask says that its file lies where packages have theirs, under another name than ours, and stays: it has to be masked
	// (systemctl mask --runtime does not last), or everybody can start it again.
	Mask bool

	Enabled   string // UnitFileState: enabled, disabled, static, linked, …
	Active    string // ActiveState: active, activating, failed, inactive, …
	SubState  string
	MainPID   int
	StopTime  time.Duration // TimeoutStopUSec: how long its stop may take; 0 for no end
	ExecStart []string      // the argv of its main process, as systemd has it
}

// Kind tells the files of a plan apart.
type Kind string

// The files of a plan.
const (
	ConfigurationFile Kind = "configuration"
	EnvironmentFile   Kind = "environment" // its values are secret: only Names may be shown
	DropInFile        Kind = "drop-in"     // 50-adopted.conf of our service
)

// File is one that is to be written. It is root's in system scope where UID is 0, and the user's own in user scope.
type File struct {
	Kind     Kind
	Path     string
	Content  []byte `json:"-"` // may hold secrets
	Mode     fs.FileMode
	UID, GID int
	Names    []string // of an environment file: the names of its variables, in its order
}

// Setting is one key of the configuration that is written.
type Setting struct {
	Key, Value string
	Why        string
}

// Note is something of the old unit, and what becomes of it.
type Note = lines.Note
