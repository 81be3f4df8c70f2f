package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"openclaw-gateway/cmd/gateway/dropins"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units"
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
	perhaps, err := openclaw.Units(s.unitFolders(), units.Service)
	if err != nil {
		g.unknown("not all units of the %s scope were looked at: %v", s.Name, err)
	}
	names := append([]string{units.Socket, units.Service}, perhaps...)
	all, err := s.Manager.Show(ctx, append(names, "*.socket"),
		append([]string{
			"UnitFileState", "SubState", "Result", "NeedDaemonReload", "MainPID", "ExecMainStatus", "NRestarts", "ControlGroup", "Environment",
		}, dropins.Properties...)...)
	if err != nil {
		g.unknown("the units of the %s scope were not looked at: %v", s.Name, err)
		return
	}
	s.Overrides = dropins.In(all[:2], s.owners()...)
	for _, properties := range all {
		unit := newUnit(properties)
		switch {
		case unit.Name == units.Socket:
			s.Socket = unit
		case strings.HasSuffix(unit.Name, ".socket"):
			s.Sockets = append(s.Sockets, unit)
		default:
			if unit.Name == units.Service {
				text, _, err := read.File(unit.Path, read.UnitLimit, s.owners()...)
				unit.Ours = err == nil && units.Ours(text)
				s.Service = unit
				if s.Name == units.System && unit.runsLauncher() {
					s.Replaceable = othersOf(unit.Argv[0])
				}
			}
			known := slices.ContainsFunc(s.OpenClaw, func(other Unit) bool { return other.Name == unit.Name })
			if startsOpenClaw(unit) && !known {
				s.OpenClaw = append(s.OpenClaw, unit)
			}
		}
	}
}

// startsOpenClaw reports whether a service starts OpenClaw without the launcher.
func startsOpenClaw(u Unit) bool {
	return u.exists() && u.LoadState != "masked" && (openclaw.Starts(u.Argv) || u.Marked && !u.runsLauncher())
}

func newUnit(p systemd.Properties) Unit {
	argv, environment := p.List("ExecStart"), p.List("Environment")
	port, _ := openclaw.PortOf(argv, environment)
	return Unit{
		Name: p["Id"], LoadState: p["LoadState"], FileState: p["UnitFileState"], ActiveState: p["ActiveState"], SubState: p["SubState"],
		Result: p["Result"], Path: p["FragmentPath"], Reload: p["NeedDaemonReload"] == "yes",
		MainPID: p.Int("MainPID"), ExitStatus: p.Int("ExecMainStatus"), Restarts: p.Int("NRestarts"),
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
	return systemd.HomeOf(s.reader())
}
