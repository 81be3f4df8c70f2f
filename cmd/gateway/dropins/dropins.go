// Package dropins knows what drop-ins make of our units: a unit is what its manager has merged, and not what "gateway install"
// has written. OpenClaw's own unit has our unit's name, so what somebody has once written for that holds for ours.
package dropins

import (
	"bytes"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/openclaw/commandline"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
)

// Override is a line of our units that drop-ins change (systemd.unit(5)), so that something is lost that the launcher needs.
type Override struct {
	Unit    string
	Setting string   // RestartSec
	Line    string   // as the last drop-in has it: RestartSec=60
	Does    string   // what comes of it, in words
	Files   []string // the drop-ins that have such a line
	Broken  bool     // no worker serves with it

	Folder  string   // where those drop-ins of the unit belong that its user writes
	Names   []string // how such lines begin, as regular expressions
	Wrapped bool     // one of them goes on in the next line of the file
	Restart bool     // it lasts until the unit is started again
}

// Properties are what [In] has to know of a unit.
var Properties = []string{
	"Id", "Description", "LoadState", "ActiveState", "FragmentPath", "DropInPaths", "Listen", "Accept", "Backlog", "BindIPv6Only", "ExecStart", "Type", "Restart", "RestartUSec",
	"StartLimitIntervalUSec", "StartLimitBurst", "KillMode", "TimeoutStartUSec", "TimeoutStopUSec", "User", "DynamicUser", "Delegate", "ProtectControlGroups",
	"RuntimeDirectory", "StateDirectory", "CacheDirectory", "RuntimeMaxUSec", "KillSignal", "FlushPending", "BindToDevice", "Triggers", "RestrictAddressFamilies", "PrivateNetwork",
	"TriggerLimitIntervalUSec", "TriggerLimitBurst", "Lacks",
	"SubState", "Result", "NRestarts", "ExecMainCode", "ExecMainStatus", "ConditionResult", "AssertResult", "ConditionTimestampMonotonic",
}

// The kinds of our units, as their names end.
const (
	service = ".service"
	socket  = ".socket"
)

// effect is what the value of a setting does, by what the unit itself has; "": no harm.
type effect func(now systemd.Properties, own map[string][]string) string

// change is a setting of a unit of ours.
type change struct {
	kind, setting string
	names         []string // of the lines that set it, besides
	does          effect
	broken        bool
	restart       bool
}

// startLimit is how long systemd has to let the start job of a launcher last, which ends it after 90 s itself.
const startLimit = 90 * time.Second

func changes() []change {
	return []change{
		{service, "ExecStart", nil, func(now systemd.Properties, own map[string][]string) string {
			argv := now.List("ExecStart")
			switch {
			case len(argv) == 0:
				return ""
			case !RunsLauncher(argv):
				return "it starts " + say.CommandLine(argv) + " without the launcher, and nobody serves the port"
			case strings.Join(argv, " ") == strings.ReplaceAll(last(own["ExecStart"]), `"`, ""):
				return ""
			default:
				return "it starts " + say.CommandLine(argv) + ", whatever \"gateway install\" writes"
			}
		}, false, true},
		{service, "Type", []string{"BusName"}, func(now systemd.Properties, _ map[string][]string) string {
			return differs(now["Type"], "notify", "systemd does not hear whether the worker serves, and \"active\" means nothing")
		}, false, true},
		{service, "Restart", nil, func(now systemd.Properties, _ map[string][]string) string {
			return differs(now["Restart"], "always", "a launcher that has ended does not come back by itself")
		}, false, false},
		{service, "RestartSec", nil, func(now systemd.Properties, _ map[string][]string) string {
			if pause := duration(now, "RestartUSec"); pause > 100*time.Millisecond {
				return fmt.Sprintf("when the launcher has ended, clients wait for %s", say.Duration(pause))
			}
			return ""
		}, false, false},
		{service, "StartLimitBurst", []string{"StartLimitIntervalSec", "StartLimitInterval"}, limited, false, false},
		{service, "KillMode", nil, func(now systemd.Properties, _ map[string][]string) string {
			switch now["KillMode"] {
			case "", "mixed":
				return ""
			case "control-group":
				return "a stop hits every process of the worker at once, and what is left keeps it waiting for the whole TimeoutStopSec"
			default:
				return "what the worker leaves lives on when the unit has stopped"
			}
		}, false, false},
		{service, "TimeoutStopSec", []string{"TimeoutSec"}, func(now systemd.Properties, own map[string][]string) string {
			needs, err := strconv.ParseFloat(last(own["TimeoutStopSec"]), 64)
			if limit := duration(now, "TimeoutStopUSec"); err == nil && limit > 0 && limit.Seconds() < needs {
				return fmt.Sprintf("a stop kills the worker after %s, before its stop.timeout is over", say.Duration(limit))
			}
			return ""
		}, false, false},
		{service, "TimeoutStartSec", []string{"TimeoutSec"}, func(now systemd.Properties, _ map[string][]string) string {
			if limit := duration(now, "TimeoutStartUSec"); limit > 0 && limit <= startLimit {
				return fmt.Sprintf("a worker that needs longer than %s to start is killed with its launcher", say.Duration(limit))
			}
			return ""
		}, false, false},
		{service, "RuntimeMaxSec", nil, func(now systemd.Properties, _ map[string][]string) string {
			if limit := duration(now, "RuntimeMaxUSec"); limit > 0 {
				return fmt.Sprintf("systemd ends launcher and worker after %s, whoever is connected", say.Duration(limit))
			}
			return ""
		}, false, true},
		{service, "KillSignal", nil, func(now systemd.Properties, _ map[string][]string) string {
			if signal := unix.Signal(now.Int("KillSignal")); signal != 0 && signal != unix.SIGTERM && signal != unix.SIGINT {
				return "a stop does not let the worker finish what it has begun: the launcher ends by SIGTERM or SIGINT"
			}
			return ""
		}, false, false},
		{service, "User", []string{"DynamicUser"}, func(now systemd.Properties, own map[string][]string) string {
			user := now["User"]
			if now["DynamicUser"] == "yes" {
				return "launcher and worker are a user that is made for each start"
			}
			if own == nil || user == last(own["User"]) {
				return ""
			}
			if user == "" {
				user = "root"
			}
			return fmt.Sprintf("launcher and worker are user %s, whatever \"gateway install --run-as\" says", user)
		}, false, true},
		{service, "Delegate", []string{"DelegateSubgroup"}, func(now systemd.Properties, _ map[string][]string) string {
			return differs(now["Delegate"], "yes", noGroups)
		}, false, true},
		{service, "ProtectControlGroups", []string{"ProtectControlGroupsEx"}, func(now systemd.Properties, _ map[string][]string) string {
			return differs(now["ProtectControlGroups"], "no", noGroups)
		}, false, true},
		{service, "RestrictAddressFamilies", nil, func(now systemd.Properties, _ map[string][]string) string {
			switch families := now["RestrictAddressFamilies"]; {
			case !allows(families, "AF_UNIX"):
				return "the launcher may not make its control socket (AF_UNIX): nobody can ask it"
			case !allows(families, "AF_NETLINK"):
				return "the launcher may not ask the kernel who waits and who is connected (AF_NETLINK): a worker that hangs is not noticed by its queue (alive.queue)"
			}
			return ""
		}, false, true},
		{service, "PrivateNetwork", nil, func(now systemd.Properties, _ map[string][]string) string {
			return differs(now["PrivateNetwork"], "no", "the launcher does not see who waits and who is connected, which is in another network: a worker that hangs is not noticed by its queue (alive.queue)")
		}, false, true},
		{service, "RuntimeDirectory", nil, elsewhere("RuntimeDirectory", "its control socket is where nobody asks for it, or where another instance has its own"), false, true},
		{service, "StateDirectory", nil, elsewhere("StateDirectory", "its history and its last good configuration are where another instance may have its own"), false, true},
		{service, "CacheDirectory", nil, elsewhere("CacheDirectory", "what stands in for its runtime directory is where another instance may have its own"), false, true},
		{socket, "ListenStream", []string{"ListenDatagram", "ListenSequentialPacket", "ListenFIFO", "ListenNetlink", "ListenSpecial", "ListenMessageQueue", "ListenUSBFunction"}, listens, false, true},
		{socket, "Accept", nil, func(now systemd.Properties, _ map[string][]string) string {
			return differs(now["Accept"], "no", "systemd would start a service for each client, from a template that there is not, and nobody is served")
		}, true, true},
		{socket, "Backlog", nil, func(now systemd.Properties, own map[string][]string) string {
			if queue, longer := now.Int("Backlog"), last(own["Backlog"]); longer != "" && strconv.Itoa(queue) != longer {
				if most, err := strconv.Atoi(longer); err == nil && queue < most {
					return fmt.Sprintf("no more than %s can wait while the worker restarts", say.Count(queue, "client"))
				}
			}
			return ""
		}, false, true},
		{socket, "BindIPv6Only", nil, func(now systemd.Properties, own map[string][]string) string {
			if last(own["BindIPv6Only"]) == "both" && now["BindIPv6Only"] == "ipv6-only" {
				return "IPv4 clients are refused"
			}
			return ""
		}, false, true},
		{socket, "FlushPending", nil, func(now systemd.Properties, _ map[string][]string) string {
			return differs(now["FlushPending"], "no", "who waits while the launcher restarts is dropped")
		}, false, true},
		{socket, "StartLimitBurst", []string{"StartLimitIntervalSec", "StartLimitInterval"}, limited, false, false},
		{socket, "TriggerLimitBurst", []string{"TriggerLimitIntervalSec"}, func(now systemd.Properties, _ map[string][]string) string {
			within, burst := duration(now, "TriggerLimitIntervalUSec"), now.Int("TriggerLimitBurst")
			if within <= 0 || burst == 0 || now["Result"] == triggerLimit {
				return ""
			}
			return fmt.Sprintf("when clients have started the launcher more than %s within %s, systemd closes the port", say.Count(burst, "time"), say.Duration(within))
		}, false, false},
	}
}

// triggerLimit is the result of a socket that has started its service too often (socket_result_table in systemd's src/core/socket.c).
const triggerLimit = "trigger-limit-hit"

// elsewhere says what comes of another first directory than the unit's own: the launcher uses that one.
func elsewhere(setting, does string) effect {
	return func(now systemd.Properties, own map[string][]string) string {
		wanted, directories := last(own[setting]), now.List(setting)
		if wanted == "" || instance.Directory(strings.Join(directories, ":")) == wanted { // one that is added does no harm
			return ""
		}
		return does
	}
}

// allows reports whether what systemd says of RestrictAddressFamilies= leaves a process that family.
func allows(families, family string) bool {
	but, forbids := strings.CutPrefix(families, "~")
	return families == "" || slices.Contains(strings.Fields(but), family) != forbids
}

const noGroups = "the launcher may not make control groups, and what the worker leaves behind is found only by which process started it"

func differs(now, wanted, does string) string {
	if now == "" || now == wanted { // a manager that does not know it says nothing
		return ""
	}
	return does
}

func limited(now systemd.Properties, _ map[string][]string) string {
	within, burst := duration(now, "StartLimitIntervalUSec"), now.Int("StartLimitBurst")
	if within <= 0 || burst == 0 {
		return ""
	}
	return fmt.Sprintf("after %s within %s systemd gives up: the port is dead until reset-failed", say.Count(burst, "start"), say.Duration(within))
}

func listens(now systemd.Properties, own map[string][]string) string {
	if own == nil {
		return ""
	}
	// Where it listens for all addresses, systemd says [::] (systemd.socket(5)).
	wanted := slices.Clone(own["ListenStream"])
	for i, address := range wanted {
		if _, err := strconv.Atoi(address); err == nil {
			wanted[i] = "[::]:" + address
		}
		wanted[i] = strings.ReplaceAll(wanted[i], "%%", "%") // of a path
	}
	var more []string
	for _, line := range now.List("Listen") {
		address := strings.TrimSuffix(line, " (Stream)")
		if at := slices.Index(wanted, address); at >= 0 {
			wanted = slices.Delete(wanted, at, at+1)
		} else if !strings.HasPrefix(address, "/") || address == line { // the launcher serves a unix socket that is opened too
			more = append(more, say.Printable(address))
		}
	}
	switch {
	case len(wanted) > 0:
		return fmt.Sprintf("%s %s not opened", say.List(wanted), say.Are(len(wanted)))
	case len(more) > 0:
		return fmt.Sprintf("%s %s opened too, which belongs into listen of the configuration: nobody serves it", say.List(more), say.Are(len(more)))
	default:
		return ""
	}
}

// RunsLauncher reports whether a service's command line is "gateway run", or that of OpenClaw's install --wrapper.
func RunsLauncher(argv []string) bool {
	return len(argv) > 1 && (argv[1] == "run" || argv[1] == "gateway") && !commandline.Starts(argv)
}

// In compares our units as a manager has merged them with what "gateway install" has written, and names what drop-ins change.
// Owners are whose files count besides root's where root looks at another user's units.
func In(all []systemd.Properties, owners ...int) []Override {
	var found []Override
	for _, now := range all {
		paths := now.List("DropInPaths")
		if _, named := instance.OfUnit(now["Id"]); len(paths) == 0 || !named {
			continue
		}
		var own map[string][]string // nil where the unit is not ours
		if text, _, err := read.File(now["FragmentPath"], read.UnitLimit, owners...); err == nil && units.Ours(text) {
			own = values(Assignments(text))
		}
		said := map[string][]Assignment{}
		var unread []string
		for _, path := range paths {
			text, _, err := read.File(path, read.UnitLimit, owners...)
			if err != nil {
				unread = append(unread, path)
			}
			said[path] = Assignments(text)
		}
		always := changes()
		for i, c := range slices.Concat(always, keeps()) {
			tried := i >= len(always)
			if c.kind != filepath.Ext(now["Id"]) {
				continue
			}
			o := c.in(now["Id"], paths, said)
			o.Folder = filepath.Join(filepath.Dir(now["FragmentPath"]), o.Unit+".d")
			o.Does = c.does(now, own)
			o.Restart = c.restart && (tried || now["ActiveState"] != "inactive")
			o.Broken = c.broken || c.setting == "ExecStart" && !RunsLauncher(now.List("ExecStart"))
			switch loaded := now["LoadState"]; {
			case len(o.Files) == 0 && own != nil:
				o.Line, o.Files = strings.TrimSuffix(c.setting, anyMore)+"=", unread // it has to be one of these
			case len(o.Files) > 0 && loaded != "loaded" && !tried:
				o.Does, o.Broken = fmt.Sprintf("systemd does not load %s with it (%s)", o.Unit, loaded), true
			}
			if o.Does != "" && len(o.Files) > 0 {
				found = append(found, o)
			}
		}
	}
	return found
}

// in finds the lines of a setting in the drop-ins of a unit.
func (c change) in(unit string, paths []string, said map[string][]Assignment) Override {
	o := Override{Unit: unit, Setting: c.setting, Names: append([]string{c.setting}, c.names...)}
	names := regexp.MustCompile("^(" + strings.Join(o.Names, "|") + ")$")
	for _, path := range paths {
		for _, a := range said[path] {
			if !names.MatchString(a.Name) {
				continue
			}
			if !slices.Contains(o.Files, path) {
				o.Files = append(o.Files, path)
			}
			o.Line, o.Wrapped = a.Name+"="+say.Printable(a.Value), o.Wrapped || a.Wrapped
		}
	}
	if strings.HasPrefix(o.Line, "Exec") {
		name, _, _ := strings.Cut(o.Line, "=")
		o.Line = name + "=" // it may have a secret in it
	}
	return o
}

func (o Override) String() string {
	return fmt.Sprintf("%s in %s, a drop-in of %s: %s", o.Line, say.List(o.Files), o.Unit, o.Does)
}

// Lasting are the same without a restart: whoever asks does that.
func Lasting(all []Override) []Override {
	lasting := slices.Clone(all)
	for i := range lasting {
		lasting[i].Restart = false
	}
	return lasting
}

// Mend is a command that takes the lines out of the drop-ins, and leaves the rest of these as it is. A drop-in that is not the
// scope's own is overridden by a copy without them: one of the same name in the unit's own folder comes before it.
func Mend(m systemd.Manager, caller int, all []Override) string {
	var steps []string
	type file struct{ path, own string }
	names, wrapped := map[file][]string{}, map[file]bool{}
	var files []file
	var restart []string
	for _, o := range all {
		for _, path := range o.Files {
			f := file{path, filepath.Join(o.Folder, filepath.Base(path))}
			if names[f] == nil {
				files = append(files, f)
			}
			for _, name := range o.Names {
				if !slices.Contains(names[f], name) {
					names[f] = append(names[f], name)
				}
			}
			wrapped[f] = wrapped[f] || o.Wrapped
		}
		if o.Restart && !slices.Contains(restart, o.Unit) {
			restart = append(restart, o.Unit)
		}
	}
	for _, f := range files {
		edit := []string{"sed", "-i.bak", "-E"}
		if f.path != f.own {
			edit = []string{"sed", "-i", "-E"}
			steps = append(steps, m.As(caller, "mkdir", "-p", filepath.Dir(f.own)), m.As(caller, "cp", f.path, f.own))
		}
		line := "^[[:space:]]*(" + strings.Join(names[f], "|") + ")[[:space:]]*="
		script := "s/" + line + "/#&/"
		if wrapped[f] {
			script = "/" + line + `/{:a;/[\]$/{N;ba};s/^/#/mg}`
		}
		steps = append(steps, m.As(caller, append(edit, script, f.own)...))
	}
	steps = append(steps, m.Command(caller, "daemon-reload"))
	if len(restart) > 0 {
		steps = append(steps, m.Command(caller, append([]string{"restart"}, restart...)...))
	}
	return strings.Join(steps, " && ")
}

// Assignment is a line of a unit file.
type Assignment struct {
	Section     string // Service
	Name, Value string
	Wrapped     bool // over several lines
}

// Assignments reads a unit file as systemd does (systemd.syntax(7)).
func Assignments(text []byte) []Assignment {
	var all []Assignment
	section := ""
	lines := bytes.Split(text, []byte("\n"))
	for i := 0; i < len(lines); i++ {
		line, wrapped := strings.TrimSpace(string(lines[i])), false
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		for strings.HasSuffix(line, `\`) && i+1 < len(lines) {
			i++
			wrapped = true
			next := strings.TrimSpace(string(lines[i]))
			if next != "" && (next[0] == '#' || next[0] == ';') {
				continue
			}
			line = strings.TrimSuffix(line, `\`) + " " + next
		}
		if name, ok := strings.CutPrefix(line, "["); ok && strings.HasSuffix(name, "]") {
			section = strings.TrimSuffix(name, "]")
		} else if name, value, ok := strings.Cut(line, "="); ok {
			all = append(all, Assignment{section, strings.TrimSpace(name), strings.TrimSpace(value), wrapped})
		}
	}
	return all
}

// values are the assignments of each name, an empty one of which takes back those before it.
func values(all []Assignment) map[string][]string {
	of := map[string][]string{}
	for _, a := range all {
		if a.Value == "" {
			of[a.Name] = nil
		} else {
			of[a.Name] = append(of[a.Name], a.Value)
		}
	}
	return of
}

func last(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// duration is a property in microseconds; -1 for one without end, or that is not there.
func duration(p systemd.Properties, name string) time.Duration {
	n, err := strconv.ParseUint(p[name], 10, 64)
	if err != nil || n > math.MaxInt64/1000 {
		return -1
	}
	return time.Duration(n) * time.Microsecond
}
