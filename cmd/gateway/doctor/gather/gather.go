package gather

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/procfs"

	"openclaw-gateway/cmd/gateway/adopt/journal"
	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/kernel"
	"openclaw-gateway/cmd/gateway/lastwords"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
	"openclaw-gateway/worker/proctree"
)

const (
	// answerLimit is how long the launcher may take for an answer: it needs milliseconds.
	answerLimit = 3 * time.Second
	// managerLimit is for a manager, on a machine that is busy.
	managerLimit = 20 * time.Second
)

// Options say where to look.
type Options struct {
	System, User bool // only there; neither: everywhere

	// control is where a launcher is asked; a test has another.
	control func(user bool, name instance.Name) string
}

// gatherer is one look at the machine.
type gatherer struct {
	Options
	facts *Facts
	mu    sync.Mutex
	tasks sync.WaitGroup

	loading sync.Mutex
}

// unknown takes note of something that ought to be known.
func (g *gatherer) unknown(format string, values ...any) { g.addUnknown(true, format, values...) }

// unknownOf is unknown of a scope. Of another user's it does not count: everybody could have root's doctor fail by it.
func (g *gatherer) unknownOf(s *Scope, format string, values ...any) {
	g.addUnknown(!g.facts.Theirs(s), format, values...)
}

func (g *gatherer) addUnknown(essential bool, format string, values ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	unknown := Unknown{What: fmt.Sprintf(format, values...), Essential: essential}
	if !slices.Contains(g.facts.Unknown, unknown) {
		g.facts.Unknown = append(g.facts.Unknown, unknown)
	}
}

// Look looks at the machine.
func Look(ctx context.Context, options Options) *Facts {
	options.control = api.Control
	g := &gatherer{Options: options, facts: &Facts{Asker: holders.Me(), Executable: holders.Executable(), Version: api.ProgramVersion()}}
	f := g.facts
	f.Replaceable = othersOf(f.Executable)
	f.Scopes = g.scopes()
	booted := systemd.Booted()
	switch {
	case booted:
		g.tasks.Go(func() { g.systemdVersion(ctx) })
	case options.System || options.User:
		g.unknown("this machine does not run systemd, so there are no units")
	default:
		g.addUnknown(false, "this machine does not run systemd, so no units were looked at")
	}
	g.tasks.Go(g.kernel)
	g.lookAt(ctx, f.Scopes, booted)
	g.tasks.Wait()
	// Each manager has told by now which others there are.
	named := g.named()
	g.lookAt(ctx, named, booted)
	g.tasks.Wait()
	g.merge(named)
	f.Halves = g.halves()

	g.keepRelevant()
	g.ports(ctx)
	if len(f.Which((*Scope).Intercepts)) > 0 && !kernel.HasSeccompNotify() {
		f.KernelLacks = append(f.KernelLacks, kernel.SeccompNotify)
	}
	slices.SortFunc(f.Unknown, func(a, b Unknown) int { return cmp.Compare(a.What, b.What) })
	return f
}

// lookAt looks at the scopes, all at the same time.
func (g *gatherer) lookAt(ctx context.Context, scopes []Scope, booted bool) {
	for i := range scopes {
		s := &scopes[i]
		g.tasks.Go(func() {
			g.look(ctx, s, booted)
			if s.Launcher != nil && s.Installed() && s.Launcher.Launcher.PID != s.Service.MainPID || s.Answer == Foreign {
				g.look(ctx, s, booted) // the service may have been restarted between the two questions
			}
			// Where units and launcher tell which one they use.
			g.as(ctx, s, configurationStep)
			s.misplaced()
		})
	}
}

// misplaced looks where unix sockets are that a manager of root's has, or is to have.
func (s *Scope) misplaced() {
	listen := slices.Clone(s.Socket.Listen)
	if s.Config.Loaded != nil {
		listen = append(listen, s.Config.Loaded.Listen...)
	}
	for _, address := range listen {
		if others := systemd.Misplaced(address); others != nil && s.Manager.UID == 0 {
			if s.Misplaced == nil {
				s.Misplaced = map[netaddr.Address]*read.OthersError{}
			}
			s.Misplaced[address] = others
		}
	}
}

// named are the scopes again for each named instance: of those that their managers know, and, of root's and the caller's own,
// of those that were started by hand.
func (g *gatherer) named() []Scope {
	var named []Scope
	for i := range g.facts.Scopes {
		s := &g.facts.Scopes[i]
		names := slices.Clone(s.Named)
		if s.Name == units.System || s.Manager.UID == os.Geteuid() {
			for _, name := range api.Instances(s.Name == units.User) {
				if !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
		slices.Sort(names)
		for _, name := range names {
			named = append(named, Scope{Instance: name, Name: s.Name, Manager: s.Manager, User: s.User})
		}
	}
	return named
}

// merge adds the named ones, each behind the default one of its scope. What is theirs is nobody else's.
func (g *gatherer) merge(named []Scope) {
	var all []Scope
	for _, s := range g.facts.Scopes {
		all = append(all, s)
		own := &all[len(all)-1]
		for _, n := range named {
			if n.Manager != s.Manager || !n.Installed() && n.Answer != Answered && n.Answer != Hung {
				continue
			}
			own.Sockets = slices.DeleteFunc(own.Sockets, func(u Unit) bool { return u.Name == n.Socket.Name })
			own.OpenClaw = slices.DeleteFunc(own.OpenClaw, func(u Unit) bool { return u.Name == n.Service.Name })
			all = append(all, n)
			own = &all[slices.IndexFunc(all, func(a Scope) bool { return a.Manager == s.Manager && a.Instance == instance.Default })]
		}
	}
	g.facts.Scopes = all
}

// halves looks for adoptions that were interrupted, of the system and of the caller.
func (g *gatherer) halves() (all []Half) {
	for _, scope := range []units.Scope{units.System, units.User} {
		user := scope == units.User
		if user && g.System || !user && g.User {
			continue
		}
		base, err := journal.Base(user)
		if err != nil {
			continue // without a home there is none
		}
		var known []string
		for _, s := range g.facts.Scopes {
			if s.Name == scope && !g.facts.Theirs(&s) {
				known = append(known, s.Instance.Directory())
			}
		}
		for _, half := range journal.Pending(base, known...) {
			all = append(all, Half{half, scope, systemd.Of(scope)})
		}
	}
	return all
}

func (g *gatherer) kernel() {
	f := g.facts
	f.Kernel, f.KernelLacks = kernel.Release(), kernel.Lacks()
	_, lacking := systemd.Bindable([]netaddr.Address{netaddr.From(netip.IPv6Loopback(), 1)})
	f.NoIPv6 = len(lacking) > 0
	var err error
	if f.Somaxconn, err = kernel.Somaxconn(); err != nil {
		g.unknown("net.core.somaxconn is not known: %v", err)
	}
}

// othersOf says who else than root can replace a file; nil where that is nobody, or cannot be told.
func othersOf(path string) *read.OthersError {
	others, _ := errors.AsType[*read.OthersError](read.OnlyRoots(path))
	return others
}

// look asks the manager and the launcher of a scope, at the same time.
func (g *gatherer) look(ctx context.Context, s *Scope, booted bool) {
	*s = Scope{Instance: s.Instance, Name: s.Name, Manager: s.Manager, User: s.User}
	asked := *s // neither sees what the other has written by then
	var both sync.WaitGroup
	if booted {
		both.Go(func() { g.as(ctx, s, unitsStep) })
	}
	both.Go(func() { g.launcher(ctx, &asked) })
	both.Wait()
	s.Answer, s.Listener, s.Launcher, s.Worker = asked.Answer, asked.Listener, asked.Launcher, asked.Worker
	t := client.Target{Instance: s.Instance, Scope: s.Name, Installed: booted && s.Installed(), Runs: s.Service.Argv, Unit: api.Unit{MainPID: s.Service.MainPID}}
	if t.Replaced(ctx, s.Listener.PID, s.Listener.UID) != nil {
		s.Launcher, s.Worker, s.Answer = nil, Worker{}, Foreign
	}
	if s.Launcher != nil {
		t := client.Target{Instance: s.Instance, Scope: s.Name, UID: s.Listener.UID, Cgroup: s.Service.Cgroup}
		lastwords.Ask(t).Complete(ctx, s.Launcher)
	}
	if s.Answer == Hung && !s.Installed() {
		g.unknownOf(s, "a launcher that was started by hand in %s scope takes a question and gives no answer", s.Name)
	}
}

// scopes lists the managers to ask. Root can ask those of all users that have one.
func (g *gatherer) scopes() []Scope {
	own := os.Geteuid()
	_, missing := os.Stat("/run/user/0/systemd")
	var scopes []Scope
	if !g.User {
		scopes = append(scopes, Scope{Name: units.System})
	}
	if g.User || !g.System && (own != 0 || missing == nil) {
		scopes = append(scopes, userScope(own))
	}
	if own != 0 || g.User || g.System {
		return scopes
	}
	// Whether they have a manager is seen as that user: what is in these folders is that user's.
	others, _ := os.ReadDir("/run/user")
	for _, folder := range others {
		uid, err := strconv.Atoi(folder.Name())
		if err != nil || uid == own {
			continue
		}
		if _, err := systemd.Account(folder.Name()); err != nil {
			// What somebody has left who is nobody any more, as a rule.
			g.addUnknown(false, "the scope of uid %d was not looked at: %v", uid, err)
			continue
		}
		scopes = append(scopes, userScope(uid))
	}
	return scopes
}

func userScope(uid int) Scope {
	return Scope{Name: units.User, Manager: systemd.Manager{User: true, UID: uid}, User: systemd.UserName(uid)}
}

func (g *gatherer) systemdVersion(ctx context.Context) {
	output, err := exec.CommandContext(ctx, "systemctl", "--version").Output()
	// "systemd 252 (252.38-1~deb12u1)", "systemd 256~rc3 (…)"
	fields := strings.Fields(string(output))
	if err == nil && len(fields) > 1 {
		digits := strings.IndexFunc(fields[1]+" ", func(r rune) bool { return r < '0' || r > '9' })
		g.facts.Systemd, err = strconv.Atoi(fields[1][:digits])
	}
	if err != nil || len(fields) < 2 {
		g.unknown("the version of systemd is not known: systemctl --version: %v", err)
	}
}

// launcher asks the launcher of a scope.
func (g *gatherer) launcher(ctx context.Context, s *Scope) {
	path := api.ControlOf(s.Manager.UID, s.Instance)
	if s.Name == units.System || s.Manager.UID == os.Geteuid() {
		path = g.control(s.Name == units.User, s.Instance)
	}
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	at, err := client.Target{Instance: s.Instance, Scope: s.Name, Control: path, UID: s.Manager.UID}.Reach(ctx)
	switch {
	case errors.Is(err, client.ErrNotRunning):
		s.Answer = Absent
		return
	case errors.Is(err, client.ErrForbidden):
		g.unknownOf(s, "the launcher of the %s scope was not asked: its control socket is another user's: run this as that user or with sudo", s.Name)
		return
	case err != nil:
		g.unknownOf(s, "the launcher of the %s scope was not asked: %v", s.Name, err)
		return
	}
	defer at.Close()
	s.Listener, err = listenerOf(at)
	if err != nil {
		g.unknownOf(s, "the launcher of the %s scope was not asked: %s: %v", s.Name, path, err)
		return
	}
	launcher, err := at.Status(ctx)
	switch {
	case err == nil:
		s.Launcher, s.Answer = &launcher, Answered
	case errors.Is(err, client.ErrSilent):
		s.Answer = Hung
		// A stop signal takes effect when the process runs the next time, on a busy machine perhaps only now.
		s.Listener.Stopped = proctree.Stopped(s.Listener.PID)
	case errors.Is(err, client.ErrNotRunning): // it has just ended
		s.Listener, s.Answer = Listener{}, Absent
		return
	default:
		g.unknownOf(s, "the launcher of the %s scope gave no status: %v", s.Name, err)
		return
	}
	// It may name anybody.
	if !proctree.Descends(launcher.Worker.PID, s.Listener.PID) {
		launcher.Worker.PID = 0
	}
	if pid := launcher.Worker.PID; pid != 0 {
		s.Worker.Cgroup = proctree.Cgroup(pid)
		s.Worker.Elsewhere = elsewhere(ctx, &launcher)
		s.Worker.Stopped = launcher.Worker.Hung != nil && proctree.Stopped(pid)
	}
}

// listenerOf looks who has made a control socket.
func listenerOf(at *client.Launcher) (Listener, error) {
	l := Listener{PID: at.PID, UID: at.UID}
	if l.PID <= 0 {
		return Listener{}, errors.New("the process that listens there cannot be seen from here: it may be in another PID namespace")
	}
	// Whoever has inherited the socket can keep it when its maker has gone.
	process, err := procfs.NewProc(l.PID)
	if err != nil {
		return Listener{}, fmt.Errorf("the process that has made it, pid %d, has gone", l.PID)
	}
	status, err := process.NewStatus()
	if err != nil {
		return Listener{}, err
	}
	if owner := int(status.UIDs[1]); owner != l.UID {
		return Listener{}, fmt.Errorf("user %s has made it, and pid %d now is a process of user %s", systemd.UserName(l.UID), l.PID, systemd.UserName(owner))
	}
	return l, nil
}

// unhurried is how long a worker may start before it counts where it listens:
// some open other ports first.
const unhurried = 10 * time.Second

// elsewhere returns where a worker listens that takes long to start. Those that
// cannot be seen are not complained of.
func elsewhere(ctx context.Context, l *api.Status) []netaddr.Address {
	if l.Worker.State != api.StateStarting || l.Worker.Since == nil || time.Since(*l.Worker.Since) < unhurried {
		return nil
	}
	listens, _ := sockdiag.OpenBy(ctx, proctree.Tree(l.Worker.PID)...)
	return slices.DeleteFunc(listens, func(address netaddr.Address) bool {
		// Held ones it has from the launcher, used or not.
		held := slices.ContainsFunc(l.Sockets, func(s api.Socket) bool {
			at, err := s.At()
			return err == nil && at == address
		})
		return held || address.Port() >= sockdiag.Ephemeral
	})
}

// configuration reads the file of a scope, and looks at what it names.
func (g *gatherer) configuration(ctx context.Context, s *Scope) {
	c := &s.Config
	if s.Launcher != nil && s.Launcher.Worker.OpenClaw != nil {
		c.Installed = openclaw.Installed(s.Launcher.Worker.OpenClaw.Entry)
	}
	draft := c.Draft
	if c.Draft = nil; draft == nil {
		c.Path = configPath(s)
	}
	if c.Path == "" {
		return
	}
	if s.Name == units.System {
		c.Others = othersOf(c.Path)
	}
	// One after the other: a user can have one take 60 MiB.
	g.loading.Lock()
	var loaded *config.Config
	var err error
	if draft == nil {
		loaded, err = config.Load(c.Path, s.owners()...)
	} else {
		loaded, err = config.Parse(c.Path, draft)
	}
	if loaded != nil {
		loaded.Content = nil
	}
	g.loading.Unlock()
	var mistakes config.Errors
	switch {
	case err == nil:
		c.Loaded = loaded
	case errors.As(err, &mistakes):
		c.Mistakes = say.Texts(mistakes)
	case errors.Is(err, os.ErrNotExist) && !s.Installed():
		c.Path = "" // nothing is there, and nobody reads it
		return
	case errors.Is(err, os.ErrPermission):
		g.unknown("%s could not be read: run this as its user or with sudo", c.Path)
	case errors.Is(err, read.ErrLink), errors.Is(err, read.ErrOwner):
		g.unknown("%v: run this as the user whose it is", err)
	default:
		c.Mistakes = []string{err.Error()}
	}
	if c.Loaded == nil {
		return
	}
	g.exposed(s)
	g.program(s)
	g.dotEnv(ctx, s)
	g.cache(s)
}

func configPath(s *Scope) string {
	if s.Service.Path != "" {
		if text, _, err := read.File(s.Service.Path, read.UnitLimit, s.owners()...); err == nil {
			if path := units.ChosenIn(text).Config; path != "" {
				return path
			}
		}
	}
	// Of a launcher of another user's it is that user's word.
	if s.Launcher != nil && s.Launcher.Config.Path != "" && (s.Name == units.User || s.Listener.UID == 0 || s.Listener.UID == os.Geteuid()) {
		return s.Launcher.Config.Path
	}
	return config.DefaultPath(s.Name == units.User, s.Instance)
}

// keepRelevant forgets configurations that nobody reads: of scopes without units,
// where another scope has some.
func (g *gatherer) keepRelevant() {
	installed := len(g.facts.Which((*Scope).Installed)) > 0
	for i := range g.facts.Scopes {
		s := &g.facts.Scopes[i]
		if installed && !s.Installed() && s.Launcher == nil {
			s.Config = Config{}
		}
	}
}

// ports looks who has the addresses that listen and the socket units name.
func (g *gatherer) ports(ctx context.Context) {
	f := g.facts
	var known holders.Known
	for i := range f.Scopes {
		s := &f.Scopes[i]
		if g.otherNetwork(s) {
			continue
		}
		wanted := slices.Clone(s.Socket.Listen)
		if s.Config.Loaded != nil {
			wanted = append(wanted, s.Config.Loaded.Listen...)
		}
		if s.Launcher != nil {
			wanted = append(wanted, AddressesOf(s.Launcher)...)
		}
		for _, address := range wanted {
			if !slices.Contains(f.Wanted, address) {
				f.Wanted = append(f.Wanted, address)
			}
		}
		if s.Launcher != nil && s.Listener.UID == f.UID {
			known.Launcher = s.Listener.PID
		}
	}
	// Whatever others want, an installation would want these.
	if len(f.Granted()) == 0 {
		for _, address := range config.Default().Listen {
			if !slices.Contains(f.Wanted, address) {
				f.Wanted = append(f.Wanted, address)
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, managerLimit)
	defer cancel()
	sockets, unseen, err := known.Listening(ctx, f.Wanted...)
	if err != nil {
		g.unknown("who holds %s is not known: %v", say.Addresses(f.Wanted), err)
		return
	}
	f.Sockets = append([]holders.Socket{}, sockets...)
	if f.Waiting, err = known.Waiting(ctx); err != nil {
		g.unknown("whether another OpenClaw is started again and again is not known: %v", err)
	}
	if unseen > 0 && len(sockets) > 0 {
		g.addUnknown(false, "%s", holders.UnseenNote(unseen, f.Asker))
	}
}

// otherNetwork reports whether the launcher's sockets are in another network
// namespace than this process.
func (g *gatherer) otherNetwork(s *Scope) bool {
	pid := s.Service.MainPID
	if s.Launcher != nil {
		pid = s.Launcher.Launcher.PID
	}
	if pid == 0 {
		return false
	}
	// One that may not be asked counts as one that is not.
	if elsewhere, err := proctree.Elsewhere(pid, "net"); err != nil || !elsewhere {
		return false
	}
	hint := ""
	if !g.facts.Theirs(s) {
		hint = ": " + say.Shell("nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", pid), g.facts.Program, "doctor")
	}
	g.unknownOf(s, "the launcher of %s, pid %d, is in another network namespace, whose sockets are not seen from here%s",
		s.OfScope(s.Instance.Service()), pid, hint)
	return true
}
