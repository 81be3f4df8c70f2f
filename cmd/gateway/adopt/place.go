package adopt

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"openclaw-gateway/cmd/gateway/adopt/where"
	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/openclaw/dotenv"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
)

// name says what the instance is called: a profile's unit has its profile's name, every other becomes the default one.
func (d *derivation) name(all seen) func(context.Context) error {
	return func(context.Context) error {
		taken := func(name instance.Name) string {
			for _, other := range all.Found {
				if other.Manager == d.c.Manager && other.name() == name.Service() && other.name() != d.c.name() {
					return other.described()
				}
			}
			return ""
		}
		if d.o.Name != "" {
			name, err := instance.Parse(d.o.Name)
			if err != nil {
				return Usage(fmt.Sprintf("%v: %v", ErrUsage, err))
			}
			if other := taken(name); other != "" {
				return Usage(fmt.Sprintf("%v: the instance %s would have the name of %s: choose another one for --name", ErrUsage, name, other))
			}
			d.plan.Instance = name
			return nil
		}
		name, known := nameOf(d.c.name(), where.Profile(d.Said, d.env.all))
		if !known {
			return Usage(fmt.Sprintf("%v: %q is no name that an instance can have (%s): say --name", ErrUsage, name, instance.Rule))
		}
		if other := taken(name); other != "" {
			return Usage(fmt.Sprintf("%v: the instance %s would have the name of %s: say --name", ErrUsage, name, other))
		}
		d.plan.Instance = name
		return nil
	}
}

// nameOf is the name of the instance for a unit of OpenClaw's: that of its profile.
func nameOf(unit, profile string) (instance.Name, bool) {
	unit = strings.TrimSuffix(unit, ".service")
	for _, product := range openclaw.Names() {
		if name, ok := strings.CutPrefix(unit, product+"-gateway-"); ok {
			profile = cmp.Or(profile, name)
		}
	}
	if profile == "" {
		return instance.Default, true
	}
	name, ok := instance.OfDirectory(instance.Default.Directory() + "-" + strings.ReplaceAll(strings.ToLower(profile), "_", "-"))
	if !ok {
		return instance.Name(profile), false
	}
	return name, true
}

// old describes the unit as it is.
func (d *derivation) old(context.Context) error {
	d.plan.Old = d.unit(d.c)
	if err := d.unreachable(d.plan.Old); err != nil {
		return err
	}
	old := d.plan.Old
	d.plan.AtBoot = strings.HasPrefix(old.Enabled, "enabled") || slices.ContainsFunc(old.Aside, isLinkOfOthers)
	d.plan.Running = old.Active != "inactive" && (old.Active != "failed" || d.plan.AtBoot)
	if d.moved() {
		d.plan.Running = d.plan.Running || d.plan.AtBoot // it was stopped to copy its state
	}
	if d.c.scope() == units.User && d.plan.AtBoot && systemd.SessionsOnly(d.of.Name) {
		d.plan.Linger = d.of.Name
	}
	d.companions()
	return nil
}

// companions tells of the units that know the old one by its name.
func (d *derivation) companions() {
	same := d.c.name() == d.plan.Instance.Service()
	told := map[string]bool{}
	for _, kind := range []struct {
		property, what string
		stops          bool
	}{
		{"BoundBy", "stops with it (BindsTo=)", true},
		{"RequiredBy", "stops with it (Requires=)", true},
		{"RequisiteOf", "stops with it (Requisite=)", true},
		{"ConsistsOf", "stops with it (PartOf=)", true},
		{"TriggeredBy", "starts it", false},
		{"WantedBy", "wants it", false},
	} {
		for _, unit := range d.p.List(kind.property) {
			switch {
			case strings.HasSuffix(unit, ".target") || told[unit]:
			case same && kind.stops:
				d.note("%s %s, and is started again if it runs", say.Printable(unit), kind.what)
			case same && kind.property == "WantedBy": // it wants ours by that name
			default:
				why := "it does not know ours: name " + d.plan.Instance.Service() + " there instead, if it shall go on"
				d.plan.Lost = append(d.plan.Lost, Note{What: say.Printable(unit) + " " + kind.what, Why: why})
			}
			told[unit] = true
		}
	}
}

// isLinkOfOthers tells the links that enable a unit.
func isLinkOfOthers(path string) bool {
	folder := filepath.Base(filepath.Dir(path))
	return strings.HasSuffix(folder, ".wants") || strings.HasSuffix(folder, ".requires") || strings.HasSuffix(folder, ".upholds")
}

// unit is how one is before anything is changed, and what of it has to be out of the way.
func (d *derivation) unit(c Candidate) Unit {
	p := c.Properties
	u := Unit{
		Name: c.name(), Scope: c.scope(), Fragment: p["FragmentPath"], DropIns: p.List("DropInPaths"), Enabled: p["UnitFileState"], Active: p["ActiveState"],
		SubState: p["SubState"], MainPID: p.Int("MainPID"), StopTime: microseconds(p["TimeoutStopUSec"]), ExecStart: c.Exec.Argv,
	}
	if c.Manager.User {
		u.UID = c.Manager.UID
	}
	var files, dropIns []string
	ours := d.plan.Instance.Service()
	for _, folder := range d.writable() {
		for _, name := range unique([]string{u.Name}, p.List("Names")) {
			for _, kind := range []string{"wants", "requires", "upholds"} {
				links, _ := read.Glob(folder + "/*." + kind + "/" + escapeGlob(name))
				u.Aside = append(u.Aside, links...)
			}
			if path := filepath.Join(folder, name); there(path) {
				files = append(files, path)
			}
		}
		if path := filepath.Join(folder, ours+".d"); u.Name == ours && there(path) {
			dropIns = append(dropIns, path)
		}
	}
	u.Aside = slices.Concat(u.Aside, files, dropIns)
	u.Mask = u.Name != ours && !slices.Contains(files, u.Fragment) && u.Fragment != "" && !slices.ContainsFunc(files, func(path string) bool {
		target, err := filepath.EvalSymlinks(path) // systemctl link
		return err == nil && target == u.Fragment
	})
	return u
}

// unreachable refuses a unit of which something lies where whoever asks cannot take it away.
func (d *derivation) unreachable(u Unit) error {
	for _, path := range u.DropIns {
		if d.stays(path) {
			continue
		}
		if filepath.Base(filepath.Dir(path)) == d.plan.Instance.Service()+".d" && !slices.Contains(u.Aside, filepath.Dir(path)) {
			return fmt.Errorf("%s holds for ours as well, and cannot be set aside from here: move its lines into %s/%s.d, and run this again", path, d.writable()[0], u.Name)
		}
	}
	return nil
}

// writable are the folders of units that whoever asks can write to.
func (d *derivation) writable() []string {
	all := folders(d.c.Manager, d.of.Home)
	if d.c.scope() == units.User {
		all = slices.DeleteFunc(unique(all), func(folder string) bool {
			return strings.HasPrefix(folder, "/etc/") || strings.HasPrefix(folder, "/usr/")
		})
	}
	return all
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// escapeGlob takes a name of a unit as it is: systemd-escape(1) makes backslashes.
func escapeGlob(name string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(name)
}

// rivals finds the services that want the same port. Those of the same manager have to go as well; of another manager's whoever
// asks is told.
func (d *derivation) rivals(all seen) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, other := range all.Found {
			if other.name() == d.c.name() && other.Manager == d.c.Manager {
				continue
			}
			if other.Ours {
				continue // clash looks at the sockets of ours
			}
			if d.portOf(other) != d.port {
				continue
			}
			wants := other.Properties["UnitFileState"] == "enabled" || other.Properties["ActiveState"] != "inactive"
			switch {
			case !wants:
			case other.Manager == d.c.Manager:
				d.plan.Rivals = append(d.plan.Rivals, d.unit(other))
			case other.Manager.User && other.Manager.UID != d.o.By.UID: // by that user's own word
				d.note("%s wants port %d as well, and will not get it: `%s` ends that", other.described(), d.port, other.Manager.Command(d.o.By.UID, "disable", "--now", other.name()))
			default:
				return fmt.Errorf("%s wants port %d as well, and one of the two has to go: run `%s`, and then this again, or adopt the other one",
					other.described(), d.port, other.Manager.Command(d.o.By.UID, "disable", "--now", other.name()))
			}
		}
		return nil
	}
}

// portOf is the port of another service, as far as its unit says it.
func (d *derivation) portOf(other Candidate) int {
	environment := other.Properties.List("Environment")
	said := other.Exec.Argv
	if len(other.Running) > 0 && openclaw.Option(said, "--port") == "" {
		said = other.Running
	}
	profile := where.Profile(said, environment)
	port, _, _ := where.Port(said, environment, where.Settings{}, openclaw.Names()[0], profile)
	return port
}

// clash refuses where somebody else has the port, or another instance of ours is to have it.
func (d *derivation) clash(ctx context.Context) error {
	if err := d.otherInstances(ctx); err != nil {
		return err
	}
	sockets, _, err := holders.Known{}.Blocking(ctx, d.Listen...)
	if err != nil {
		return fmt.Errorf("who has port %d could not be looked at: %w", d.port, err)
	}
	var held []netaddr.Address // by the old one
	for _, h := range holders.Each(sockets) {
		if h.Forked {
			continue
		}
		if d.isOld(h) {
			held = append(held, h.Addresses...)
		}
		who := fmt.Sprintf("port %d is held by pid %d (%s)", d.port, h.PID, h.Command)
		switch {
		case d.isOld(h):
		case h.Role == api.RoleOrphan && (d.o.By.UID == 0 || int(h.UID) == d.o.By.UID):
			d.note("%s, an OpenClaw that has escaped from its service: it is ended when our socket is opened", who)
		case h.Role == holders.Unseen:
			return fmt.Errorf("port %d is held by somebody of user %s who cannot be seen from here: %s", d.port, systemd.UserName(int(h.UID)), h.Remedy(d.o.By))
		default:
			return fmt.Errorf("%s: %s. Before anything can be adopted, %s", who, h.Because(), h.Remedy(d.o.By))
		}
	}
	d.withoutIPv6(held)
	return nil
}

// withoutIPv6 leaves [::1] out where the one that runs does without it: OpenClaw takes it where there is one, and others never do.
func (d *derivation) withoutIPv6(held []netaddr.Address) {
	at := slices.IndexFunc(d.Listen, func(a netaddr.Address) bool { return a.Addr() == netip.IPv6Loopback() })
	if at < 0 || !slices.Contains(held, d.Listen[0]) || slices.Contains(held, d.Listen[at]) {
		return
	}
	d.Listen = slices.Delete(slices.Clone(d.Listen), at, at+1)
	d.Why += "; the one that runs has not taken [::1]"
	d.plan.Listen = d.Listen
}

// isOld reports whether a process is of the units that are replaced. A holder that cannot be seen has the pid 0, and so has a unit
// that does not run.
func (d *derivation) isOld(h holders.Holder) bool {
	for _, u := range append([]Unit{d.plan.Old}, d.plan.Rivals...) {
		if h.InUnit == u.Name && h.Manager == d.c.Manager || h.RunBy.Unit == u.Name && h.RunBy.Manager == d.c.Manager || h.PID != 0 && h.PID == u.MainPID {
			return true
		}
	}
	return false
}

// otherInstances refuses a port that another instance of ours has, whether or not it is open.
func (d *derivation) otherInstances(ctx context.Context) error {
	type scope struct {
		manager systemd.Manager
		home    string
	}
	scopes := []scope{{}}
	if hasManager(d.o.By.UID) {
		scopes = append(scopes, scope{systemd.Manager{User: true, UID: d.o.By.UID}, systemd.HomeOf(d.o.By.UID)})
	}
	for _, s := range scopes {
		names := []string{d.plan.Instance.Socket()} // wherever it lies
		for _, folder := range folders(s.manager, s.home) {
			paths, _ := read.Glob(folder + "/" + instance.Default.Directory() + "*.socket")
			for _, path := range paths {
				if _, ours := instance.OfUnit(filepath.Base(path)); ours && !slices.Contains(names, filepath.Base(path)) {
					names = append(names, filepath.Base(path))
				}
			}
		}
		all, err := s.manager.Show(ctx, names, "Id", "LoadState", "ActiveState", "Listen", "FragmentPath")
		if err != nil {
			return fmt.Errorf("whether another instance has port %d could not be looked at: %w", d.port, err)
		}
		var others []string
		for _, p := range all {
			name, _ := instance.OfUnit(p["Id"])
			if isOurs(p) && p["ActiveState"] != "inactive" {
				others = append(others, name.Service())
			}
			same := s.manager == d.c.Manager && name == d.plan.Instance
			if same && p["LoadState"] == "loaded" && isOurs(p) {
				return Usage(fmt.Sprintf("%v: there is an instance %s already (%s): say --name for another one", ErrUsage, name, p["FragmentPath"]))
			}
			if same && p["LoadState"] == "loaded" {
				return fmt.Errorf("%s is there already and was not written by this program, and has the name of our socket: take it away (`%s`, and move %s elsewhere) or say --name, and run this again",
					p["Id"], s.manager.Command(d.o.By.UID, "disable", "--now", p["Id"]), p["FragmentPath"])
			}
			if isOurs(p) && slices.ContainsFunc(p.Listen(), func(a netaddr.Address) bool { return int(a.Port()) == d.port }) {
				return fmt.Errorf("port %d is that of the instance %s (%s): `%s` removes that one, or give this OpenClaw another port", d.port, name, p["FragmentPath"],
					s.manager.As(d.o.By.UID, append([]string{d.o.By.Program, "uninstall", "--" + map[bool]string{true: "user", false: "system"}[s.manager.User]}, name.Flag()...)...))
			}
		}
		if err := d.sharesState(ctx, s.manager, others); err != nil {
			return err
		}
	}
	return nil
}

// sharesState refuses an OpenClaw on the state directory of one that an instance of ours runs.
func (d *derivation) sharesState(ctx context.Context, manager systemd.Manager, others []string) error {
	if len(others) == 0 {
		return nil
	}
	found, err := manager.Show(ctx, others, "Id", "ExecStart", "User")
	if err != nil {
		return fmt.Errorf("whether another instance has the state directory %s could not be looked at: %w", d.Own.StateDir, err)
	}
	for _, p := range found {
		uid := manager.UID
		if name := p["User"]; name != "" && !manager.User {
			uid = systemd.UserID(name)
		}
		other, err := dotenv.Configured(ctx, openclaw.Option(p.List("ExecStart"), "--config"), uid)
		if err == nil && other.Path == filepath.Join(d.Own.StateDir, ".env") {
			name, _ := instance.OfUnit(p["Id"])
			return fmt.Errorf("%s is the state directory of the instance %s (%s) as well, and only one OpenClaw can run on it: give this one another (OPENCLAW_STATE_DIR, or a profile), see that it starts, and run this again",
				d.Own.StateDir, name, p["Id"])
		}
	}
	return nil
}

// leftovers refuses where another file lies at the place of one of ours.
func (d *derivation) leftovers(context.Context) error {
	for _, file := range d.plan.Files {
		if slices.ContainsFunc(slices.Concat(d.plan.Old.Aside), func(path string) bool { return strings.HasPrefix(file.Path, path+"/") }) {
			continue
		}
		content, _, err := read.File(file.Path, read.ConfigLimit)
		switch {
		case errors.Is(err, fs.ErrNotExist), err == nil && bytes.Equal(content, file.Content):
		case err != nil:
			return fmt.Errorf("a file would be written at %s, where something else is: %w", file.Path, err)
		default:
			return fmt.Errorf("%s is there already, of an earlier installation perhaps: `%s` keeps it, and then run this again", file.Path,
				systemd.As(d.o.By.UID, map[bool]int{true: 0, false: d.o.By.UID}[d.c.scope() == units.System], "mv", file.Path, file.Path+".old"))
		}
	}
	return nil
}

// configPath is where the configuration of the instance lies.
func (d *derivation) configPath() string {
	return config.DefaultPath(d.c.scope() == units.User, d.plan.Instance)
}
