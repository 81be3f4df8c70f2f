package adopt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"openclaw-gateway/cmd/gateway/asuser"
	"openclaw-gateway/cmd/gateway/dropins"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/openclaw/commandline"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/lazy"
	"openclaw-gateway/units"
	"openclaw-gateway/worker/proctree"
)

// Candidate is a unit that runs an OpenClaw gateway, going by what it executes.
type Candidate struct {
	Properties systemd.Properties
	Manager    systemd.Manager
	Exec       systemd.Exec // the command that starts it
	Before     []systemd.Exec
	After      []systemd.Exec
	Via        string   // what the command goes through: "" is Node.js or OpenClaw's own command, else a script, a shell, npx
	Script     string   // the path of a script that it goes through
	Running    []string // the argv of the gateway that it runs now; nil where there is none, or none can be seen
	PID        int      // of that one
	Another    Another  // by what it becomes another user than its unit says: then Running is that user's word
	Ours       bool     // it runs the launcher
}

func (c Candidate) name() string { return c.Properties["Id"] }

func (c Candidate) scope() units.Scope {
	if c.Manager.User {
		return units.User
	}
	return units.System
}

// wanted are the properties that are read of each unit.
var wanted = []string{
	"Id", "Names", "LoadState", "UnitFileState", "ActiveState", "SubState", "MainPID", "ControlGroup", "FragmentPath", "DropInPaths", "NeedDaemonReload",
	"ExecStart", "ExecStartEx", "Environment", "EnvironmentFiles", "UnsetEnvironment", "User", "Group", "DynamicUser", "WorkingDirectory", "RootDirectory", "RootImage", "Type",
	"ExecSearchPath", "TimeoutStopUSec", "KillSignal", "NetworkNamespacePath", "PrivateNetwork", "TriggeredBy", "WantedBy", "RequiredBy", "BoundBy", "RequisiteOf", "ConsistsOf", "Transient", "UMask",
	"StateDirectory", "RuntimeDirectory", "CacheDirectory",
}

// seen is what there is of a scope.
type seen struct {
	Found   []Candidate
	Masked  []Candidate // whatever they would run
	Missing []string    // what could not be looked at
}

type findQuestion struct {
	UID  int
	Home string
	Unit string
}

// asFinder is root's question about the units of another user, which that user's files and manager answer.
var asFinder = asuser.Question[findQuestion, seen]{Name: "adopt.find", Limit: 3 * time.Second, Memory: 48 << 20}

func init() {
	asFinder.Answer(func(ctx context.Context, q findQuestion) (seen, error) {
		if err := os.Setenv("HOME", q.Home); err != nil {
			return seen{}, err
		}
		return look(ctx, systemd.Manager{User: true, UID: q.UID}, q.Home, q.Unit), nil
	})
}

// find looks in the scopes that are asked for: the system's, the caller's own, and for root those of all users.
func find(ctx context.Context, o Options) (all seen) {
	own := os.Geteuid()
	if o.wants(units.System) {
		all = look(ctx, systemd.Manager{}, "", o.Unit)
	}
	if !o.wants(units.User) {
		return all
	}
	if hasManager(own) {
		mine := look(ctx, systemd.Manager{User: true, UID: own}, systemd.HomeOf(own), o.Unit)
		all.Found, all.Masked, all.Missing = append(all.Found, mine.Found...), append(all.Masked, mine.Masked...), append(all.Missing, mine.Missing...)
	}
	if own != 0 {
		return all
	}
	folders, _ := os.ReadDir("/run/user")
	for _, folder := range folders {
		uid, err := strconv.Atoi(folder.Name())
		if err != nil || uid == own || !hasManager(uid) {
			continue
		}
		credential, err := systemd.Credential(uid)
		var theirs seen
		if err == nil {
			theirs, err = asFinder.Ask(ctx, credential, findQuestion{uid, systemd.HomeOf(uid), o.Unit})
		}
		if err != nil {
			all.Missing = append(all.Missing, fmt.Sprintf("the services of user %s could not be looked at: %v", systemd.UserName(uid), err))
			continue
		}
		all.Found = append(all.Found, believed(theirs.Found, uid)...)
		all.Masked = append(all.Masked, believed(theirs.Masked, uid)...)
		for _, missing := range theirs.Missing {
			all.Missing = append(all.Missing, say.Line(missing))
		}
	}
	return all
}

// believed is what there is of the units that another user says that there are: they are that user's, have names as systemd's units
// have, and states in one line.
func believed(said []Candidate, uid int) []Candidate {
	for i := range said {
		said[i].Manager = systemd.Manager{User: true, UID: uid}
		for _, state := range []string{"UnitFileState", "ActiveState"} {
			if text, ok := said[i].Properties[state]; ok {
				said[i].Properties[state] = say.Line(text)
			}
		}
	}
	return slices.DeleteFunc(said, func(c Candidate) bool { return !unitName().MatchString(c.name()) })
}

// hasManager reports whether a user has a service manager now, as far as the caller may know.
func hasManager(uid int) bool {
	_, err := os.Stat(filepath.Join("/run/user", strconv.Itoa(uid), "systemd"))
	return err == nil || errors.Is(err, os.ErrPermission)
}

// look asks a manager for all services that an administrator, or its user, has written, for those that run now, and for those
// of packages whose text says that they may be OpenClaw's. An instance of a template that does not run, and is not enabled, is
// looked at if it is the one that is asked for.
func look(ctx context.Context, m systemd.Manager, home, unit string) (s seen) {
	who := "the system's services"
	if m.User {
		who = fmt.Sprintf("the services of user %s", systemd.UserName(m.UID))
	}
	missing := func(err error) {
		if err != nil {
			s.Missing = append(s.Missing, fmt.Sprintf("%s could not all be looked at: %v", who, err))
		}
	}
	names, err := written(m, home)
	missing(err)
	packaged, err := openclaw.Units(vendorFolders(m), "")
	missing(err)
	if name := strings.TrimSuffix(unit, ".service") + ".service"; instanceOfTemplate().MatchString(name) {
		names = append(names, name)
	}
	ctx, cancel := context.WithTimeout(ctx, managerLimit)
	defer cancel()
	all, err := m.Show(ctx, append(unique(names, packaged), "*.service"), wanted...)
	if err != nil {
		missing(err)
		return s
	}
	known := map[string]bool{}
	for _, properties := range all {
		name := properties["Id"]
		if properties["LoadState"] == "masked" {
			s.Masked = append(s.Masked, Candidate{Properties: properties, Manager: m})
		}
		if known[name] || properties["LoadState"] != "loaded" {
			continue
		}
		known[name] = true
		if c, ok := candidate(properties, m); ok {
			s.Found = append(s.Found, c)
		}
	}
	s.Found = withAliases(s.Found)
	slices.SortFunc(s.Found, func(a, b Candidate) int { return strings.Compare(a.name(), b.name()) })
	return s
}

// withAliases has a second name be one of the unit whose it is: systemd 252 takes one that leads to a file elsewhere for a unit of
// its own, as long as neither runs.
func withAliases(found []Candidate) []Candidate {
	file := func(c Candidate) string {
		path, err := filepath.EvalSymlinks(c.Properties["FragmentPath"])
		if err != nil {
			return ""
		}
		return path
	}
	return slices.DeleteFunc(slices.Clone(found), func(alias Candidate) bool {
		if alias.Properties["UnitFileState"] != "alias" || alias.Properties["ActiveState"] != "inactive" || file(alias) == "" {
			return false
		}
		for _, c := range found {
			if c.Properties["UnitFileState"] != "alias" && c.Manager == alias.Manager && file(c) == file(alias) {
				c.Properties["Names"] += "\n" + alias.name()
				return true
			}
		}
		return false
	})
}

var unitName = lazy.Regexp(`^[A-Za-z0-9:_.\\@-]+$`)

var instanceOfTemplate = lazy.Regexp(`^[A-Za-z0-9:_.\\-]+@[A-Za-z0-9:_.\\@-]+\.service$`)

// managerLimit is for a manager on a machine that is busy.
const managerLimit = 20 * time.Second

// candidate reports whether a service runs an OpenClaw gateway.
func candidate(p systemd.Properties, m systemd.Manager) (Candidate, bool) {
	c := Candidate{Properties: p, Manager: m}
	commands := p.Commands("ExecStartEx")
	for i, command := range commands {
		if dropins.RunsLauncher(command.Argv) && (isOurs(p) || isLauncher(command.Path)) {
			c.Ours = true
			return c, true
		}
		argv := slices.Clone(command.Argv)
		if len(argv) > 0 {
			argv[0] = command.Path
		}
		way, ok := commandline.Through(argv, p.List("Environment"))
		if !ok {
			continue
		}
		c.Exec, c.Before, c.After, c.Via, c.Script = command, commands[:i], commands[i+1:], way.Via, way.Script
		c.seeWho(way.Words)
		return c, true
	}
	// By the mark that OpenClaw has put into it, or by what runs in it.
	if len(commands) == 0 || manages(p) {
		return c, false
	}
	last := commands[len(commands)-1]
	marked := openclaw.Marked(p.List("Environment"))
	if !marked && !becomes(last, p) {
		return c, false
	}
	c.Exec, c.Before, c.Via = last, commands[:len(commands)-1], filepath.Base(last.Path)
	c.seeWho(last.Argv)
	return c, marked || c.Running != nil
}

// seeWho looks at what runs, and as whom.
func (c *Candidate) seeWho(words []string) {
	if len(words) > 0 && commandline.InShell(words) != nil {
		words = commandline.InShell(words)
	}
	c.Another = anotherIn(words)
	uid := c.Manager.UID
	if !c.Manager.User {
		uid = systemd.UserID(cmp.Or(c.Properties["User"], "root"))
	}
	argv, pid, other := runningIn(c.Properties["ControlGroup"], uid)
	switch {
	case other < 0:
		c.Running, c.PID = argv, pid
	case throughContainer(words) == "": // in one others run anyway
		c.Running, c.PID = argv, pid
		c.Another.User = systemd.UserName(other)
	}
}

// becomes reports whether a command may become a gateway that it does not name: a program of an administrator's own unit that has
// been replaced by it, or that waits for it and nothing else, or that runs packages. Others hold what somebody else has started: cron, sshd, PM2.
func becomes(command systemd.Exec, p systemd.Properties) bool {
	fragment := p["FragmentPath"]
	if !strings.HasPrefix(fragment, "/etc/") && !strings.HasPrefix(fragment, "/home/") && !strings.HasPrefix(fragment, "/root/") && !strings.Contains(fragment, "/.config/") {
		return false // a package's
	}
	main := p.Int("MainPID")
	if main > 1 && openclaw.IsGateway(main, proctree.Argv(main)) {
		return true
	}
	if slices.Contains(packageRunners, filepath.Base(command.Path)) {
		return true
	}
	if main <= 1 || slices.ContainsFunc(command.Argv, func(word string) bool { return slices.Contains(supervisors, filepath.Base(word)) }) {
		return false
	}
	_, pid, _ := runningIn(p["ControlGroup"], 0)
	return pid > 0 && holders.Alone(pid, main)
}

// manages reports whether a service holds what others start: a manager of its own, a session.
func manages(p systemd.Properties) bool {
	return strings.HasPrefix(p["Id"], "user@") || p["Id"] == "init.scope"
}

// runningIn is the argv and the pid of the gateway in a control group, of one that runs as another user than that of the uid before all;
// other is the uid of that one, else -1.
func runningIn(cgroup string, uid int) (found []string, of, other int) {
	for _, pid := range processes(cgroup) {
		argv := proctree.Argv(pid)
		if !openclaw.IsGateway(pid, argv) {
			continue
		}
		uids, err := proctree.UIDs(pid)
		if err != nil {
			continue // it has ended
		}
		for _, is := range uids {
			if int(is) != uid {
				return argv, pid, int(is)
			}
		}
		if found == nil {
			found, of = argv, pid
		}
	}
	return found, of, -1
}

// processes are those of a control group, and of those below it.
func processes(cgroup string) (pids []int) {
	if cgroup == "" || cgroup == "/" {
		return nil
	}
	left := mostGroups // whoever has them delegated can make many
	_ = filepath.WalkDir(filepath.Join("/sys/fs/cgroup", cgroup), func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			if left--; left < 0 {
				return filepath.SkipAll
			}
		}
		if err != nil || entry.Name() != "cgroup.procs" {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		for _, field := range strings.Fields(string(content)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids
}

const mostGroups = 200

// isOurs reports whether the unit file of a service was written by this program.
func isOurs(p systemd.Properties) bool {
	text, _, err := read.File(p["FragmentPath"], read.UnitLimit)
	return err == nil && units.Ours(text)
}

// isLauncher reports whether a program is this very one: OpenClaw's install --wrapper can name it.
func isLauncher(path string) bool {
	resolved, err := read.Resolve(path)
	return err == nil && resolved == holders.Executable()
}

// written are the services whose files lie where an administrator, or the user, writes them, and the instances of templates
// that are enabled.
func written(m systemd.Manager, home string) (names []string, err error) {
	for _, folder := range folders(m, home) {
		files, failed := read.Glob(folder + "/*.service")
		enabled, failedToo := read.Glob(folder + "/*.wants/*@*.service")
		err = errors.Join(err, failed, failedToo)
		for _, path := range append(files, enabled...) {
			if name := filepath.Base(path); !strings.HasSuffix(name, "@.service") && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	if len(names) > mostUnits {
		return names[:mostUnits], errors.Join(err, fmt.Errorf("there are more than %d", mostUnits))
	}
	return names, err
}

const mostUnits = 500

// folders are where people write units (systemd.unit(5), "Unit File Load Path").
func folders(m systemd.Manager, home string) []string {
	if !m.User {
		return []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system"}
	}
	all := []string{"/etc/systemd/user", fmt.Sprintf("/run/user/%d/systemd/user", m.UID), "/usr/local/lib/systemd/user"}
	if m.UID == os.Geteuid() {
		if own, err := units.Dir(units.User); err == nil {
			all = append([]string{own}, all...)
		}
	}
	if home != "" {
		all = append(all, filepath.Join(home, ".config/systemd/user"), filepath.Join(home, ".local/share/systemd/user"))
	}
	return all
}

func vendorFolders(m systemd.Manager) []string {
	if m.User {
		return []string{"/usr/lib/systemd/user"}
	}
	return []string{"/usr/lib/systemd/system", "/run/systemd/generator"}
}

func unique(lists ...[]string) (all []string) {
	for _, list := range lists {
		for _, name := range list {
			if !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	return all
}
