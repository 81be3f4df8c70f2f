package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

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
	perhaps, err := candidates(s)
	if err != nil {
		g.unknown("not all units of the %s scope were looked at: %v", s.Name, err)
	}
	names := append([]string{units.Socket, units.Service}, perhaps...)
	all, err := s.Manager.Show(ctx, append(names, "*.socket"),
		append([]string{
			"UnitFileState", "SubState", "Result", "NeedDaemonReload", "MainPID", "ExecMainStatus", "NRestarts", "ControlGroup", "Environment", "BindIPv6Only",
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
	port, _ := portOf(argv, environment)
	return Unit{
		Name: p["Id"], LoadState: p["LoadState"], FileState: p["UnitFileState"], ActiveState: p["ActiveState"], SubState: p["SubState"],
		Result: p["Result"], Path: p["FragmentPath"], Reload: p["NeedDaemonReload"] == "yes",
		MainPID: p.Int("MainPID"), ExitStatus: p.Int("ExecMainStatus"), Restarts: p.Int("NRestarts"),
		Cgroup: p["ControlGroup"], Delegate: p["Delegate"] == "yes", User: p["User"],
		Argv: argv, Marked: openclaw.Marked(environment), Port: port,
		Listen: p.Listen(), IPv6Only: p["BindIPv6Only"] == "ipv6-only", Backlog: p.Int("Backlog"),
	}
}

// perhapsOpenClaw says of a unit file that systemd should be asked about it.
func perhapsOpenClaw(text []byte) bool {
	return openclaw.Mentioned.Match(text) || startsGateway.Match(text)
}

var startsGateway = regexp.MustCompile(`(?m)^\s*Exec.*\sgateway(\s|$)`)

// candidates returns the services that may be OpenClaw's, going by the text of their
// files and drop-ins: an enabled unit need not be loaded, so the manager's own list
// is not enough. Packages do not bring any, so /usr/lib is left out. Beside an error there are those that were found.
func candidates(s *Scope) (names []string, err error) {
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
	instances := sync.OnceValue(func() (names []string) {
		for _, directory := range directories {
			paths, failed := read.Glob(directory + "/*.wants/*@*.service")
			err = errors.Join(err, failed)
			for _, path := range paths {
				names = append(names, filepath.Base(path))
			}
		}
		return names
	})
	left := unitBytesLimit
	for _, directory := range directories {
		files, failed := read.Glob(directory + "/*.service")
		dropIns, failedToo := read.Glob(directory + "/*.service.d/*.conf")
		err = errors.Join(err, failed, failedToo)
		for _, path := range append(files, dropIns...) {
			name := filepath.Base(path)
			if strings.HasSuffix(path, ".conf") {
				name = strings.TrimSuffix(filepath.Base(filepath.Dir(path)), ".d")
			}
			if slices.Contains(names, name) || name == units.Service {
				continue
			}
			content, _, refused := read.File(path, read.UnitLimit)
			if left -= len(content); left < 0 {
				return names, fmt.Errorf("the unit files are together bigger than %d MiB", unitBytesLimit>>20)
			}
			// Of a link that root does not follow the manager knows what it is; to nowhere or to /dev/null it is no unit.
			if !errors.Is(refused, read.ErrLink) && !perhapsOpenClaw(content) {
				continue
			}
			template, isTemplate := strings.CutSuffix(name, "@.service")
			if !isTemplate {
				names = append(names, name)
				continue
			}
			// Only an instance is a unit.
			for _, instance := range instances() {
				if strings.HasPrefix(instance, template+"@") {
					names = append(names, instance)
				}
			}
		}
	}
	return names, err
}

// unitBytesLimit is what the unit files of a scope may have together: a machine with hundreds has some 200 KiB.
const unitBytesLimit = 32 << 20

// home is where the launcher's user is at home; "" where that is not known.
func (s *Scope) home() string {
	if s.Reader != nil {
		return s.Reader.Home
	}
	return homeOf(s.reader())
}

func homeOf(uid int) string {
	account, err := systemd.Account(strconv.Itoa(uid))
	if err != nil {
		return ""
	}
	return account.HomeDir
}

// userID is the uid of the user that a unit's User= names, by name or number; -1
// where there is none.
func userID(name string) int {
	account, err := systemd.Account(name)
	if err != nil {
		return -1
	}
	uid, err := strconv.Atoi(account.Uid)
	if err != nil {
		return -1
	}
	return uid
}
