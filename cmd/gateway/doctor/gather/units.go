package gather

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/dropins"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/openclaw/commandline"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
)

// units asks a manager, once, for our units, for all that may be OpenClaw's own, and
// for all sockets.
func (g *gatherer) units(ctx context.Context, s *Scope) {
	if s.Name == units.User {
		private := filepath.Join("/run/user", strconv.Itoa(s.Manager.UID), "systemd/private")
		if _, err := os.Stat(private); errors.Is(err, fs.ErrNotExist) {
			g.addUnknown(g.User, "user %s has no service manager at the moment, so no user units were looked at", s.User)
			return
		}
		s.SessionsOnly = systemd.SessionsOnly(s.User)
	}
	ctx, cancel := context.WithTimeout(ctx, managerLimit)
	defer cancel()
	names := []string{s.Instance.Socket(), s.Instance.Service()}
	if s.Instance == instance.Default { // the others are looked for once
		perhaps, err := openclaw.Units(s.unitFolders(), s.Instance.Service())
		if err != nil {
			g.unknown("not all units of the %s scope were looked at: %v", s.Name, err)
		}
		names = append(append(names, perhaps...), "*.socket")
	}
	properties := append([]string{"UnitFileState", "NeedDaemonReload", "MainPID", "ControlGroup", "Environment"}, dropins.Properties...)
	all, err := s.Manager.Show(ctx, names, properties...)
	if err == nil && dropins.Undecided(all[1]) {
		settle(ctx, s.Manager, names[1], all[1])
	}
	if err != nil {
		g.unknown("the units of the %s scope were not looked at: %v", s.Name, err)
		return
	}
	if s.Instance == instance.Default {
		if s.Named, err = client.Named(ctx, s.Manager); err != nil {
			g.unknown("the named instances of the %s scope are not known: %v", s.Name, err)
		}
	}
	if !dropins.IsInstance(s.Instance, all[1], all[0]) {
		return // units of the same name
	}
	s.Overrides = dropins.In(all[:2], s.owners()...)
	for _, properties := range all {
		unit := newUnit(properties)
		switch {
		case unit.Name == s.Instance.Socket():
			s.Socket = unit
		case strings.HasSuffix(unit.Name, ".socket"):
			s.Sockets = append(s.Sockets, unit)
		default:
			if unit.Name == s.Instance.Service() {
				text, _, err := read.File(unit.Path, read.UnitLimit, s.owners()...)
				unit.Ours = err == nil && units.Ours(text)
				unit.Gone = unit.LoadState == "loaded" && unit.Path != "" && errors.Is(err, fs.ErrNotExist)
				s.Service = unit
				if s.Name == units.System && unit.RunsLauncher() {
					s.Replaceable = othersOf(unit.Argv[0])
				}
			}
			known := slices.ContainsFunc(s.OpenClaw, func(other Unit) bool { return other.Name == unit.Name })
			if startsOpenClaw(unit) && !known {
				s.OpenClaw = append(s.OpenClaw, unit)
			}
		}
	}
	s.Before = s.before()
}

// before tells what our service was installed with from what OpenClaw has left of it: a copy beside its own, or what the manager
// has read.
func (s *Scope) before() (chosen units.Choice) {
	if s.Service.Ours || s.Socket.Path == "" {
		return chosen
	}
	aside := filepath.Join(filepath.Dir(s.Socket.Path), s.Instance.Service()+".bak")
	if text, _, err := read.File(aside, read.UnitLimit, s.owners()...); err == nil && units.Ours(text) {
		return units.ChosenIn(text)
	}
	if s.Service.RunsLauncher() {
		chosen.Config, chosen.RunAs = openclaw.Option(s.Service.Argv, "--config"), s.Service.User
	}
	return chosen
}

// startsOpenClaw reports whether a service starts OpenClaw without the launcher.
func startsOpenClaw(u Unit) bool {
	return u.Exists() && u.LoadState != "masked" && (commandline.Starts(u.Argv) || u.Marked && !u.RunsLauncher())
}

func newUnit(p systemd.Properties) Unit {
	argv, environment := p.List("ExecStart"), p.List("Environment")
	port, _ := openclaw.PortOf(argv, environment)
	return Unit{
		Name: p["Id"], LoadState: p["LoadState"], FileState: p["UnitFileState"], ActiveState: p["ActiveState"], SubState: p["SubState"],
		Result: p["Result"], Path: p["FragmentPath"], Reload: p["NeedDaemonReload"] == "yes",
		Lacks: dropins.Lacking(p), MainPID: p.Int("MainPID"), ExitStatus: p.Int("ExecMainStatus"), Restarts: p.Int("NRestarts"),
		Cgroup: p["ControlGroup"], Delegate: p["Delegate"] == "yes", User: p["User"],
		Argv: argv, Marked: openclaw.Marked(environment), Port: port,
		Listen: p.Listen(), IPv6Only: p["BindIPv6Only"] == "ipv6-only", Backlog: p.Int("Backlog"),
	}
}

// unitFolders are where a scope's unit files and drop-ins are. Packages do not bring any of OpenClaw's, so /usr/lib is left out.
func (s *Scope) unitFolders() []string {
	directories := []string{"/etc/systemd/system", "/run/systemd/system", "/run/systemd/transient", "/usr/local/lib/systemd/system"}
	if s.Name == units.User {
		runtime := filepath.Join("/run/user", strconv.Itoa(s.Manager.UID), "systemd")
		directories = []string{"/etc/systemd/user", "/usr/local/lib/systemd/user", filepath.Join(runtime, "user"), filepath.Join(runtime, "transient")}
		if s.Manager.UID == os.Geteuid() {
			if own, err := units.Dir(units.User); err == nil {
				directories = append(directories, own)
			}
		}
		if home := s.home(); home != "" {
			directories = append(directories, filepath.Join(home, ".config/systemd/user"), filepath.Join(home, ".local/share/systemd/user"))
		}
	}
	return directories
}

// home is where the launcher's user is at home; "" where that is not known.
func (s *Scope) home() string {
	if s.Reader != nil {
		return s.Reader.Home
	}
	return systemd.HomeOf(s.UID())
}

// settle waits until systemd, which is at another try of a service, has told how one ended; a launcher that comes up is at it for
// longer.
func settle(ctx context.Context, m systemd.Manager, name string, service systemd.Properties) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	told, err := m.Told(ctx, name)
	var tick <-chan time.Time
	if err != nil { // another user's manager tells root nothing unasked
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		tick = ticker.C
	}
	for dropins.Undecided(service) {
		select {
		case said, more := <-told:
			if !more {
				return
			}
			if dropins.HasEnded(said) {
				dropins.Ended(service, said)
			}
		case <-tick:
			now, err := m.Show(ctx, []string{name}, slices.Collect(maps.Keys(service))...)
			if err != nil {
				return
			}
			maps.Copy(service, now[0])
		case <-ctx.Done():
			return
		}
	}
}
