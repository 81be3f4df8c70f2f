package doctor

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"openclaw-gateway/cmd/gateway/dropins"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units"
)

// asRoot is a command that only root may run, for this caller.
func (f *Facts) asRoot(argv ...string) string {
	return systemd.As(f.UID, 0, argv...)
}

// systemctl is a command for a manager.
func (f *Facts) systemctl(m systemd.Manager, arguments ...string) string {
	return m.Command(f.UID, arguments...)
}

// disable is a command that takes our units of a scope out of use.
func (f *Facts) disable(s *Scope) string {
	return f.systemctl(s.Manager, "disable", "--now", units.Socket, units.Service)
}

// kill is a command that signals a launcher, as its user: by then its pid may be another's.
func (f *Facts) kill(l Listener, options ...string) string {
	return systemd.As(f.UID, l.UID, slices.Concat([]string{"kill"}, options, []string{strconv.Itoa(l.PID)})...)
}

// gateway is a command of this program for a scope.
func (f *Facts) gateway(s *Scope, arguments ...string) string {
	return s.Manager.As(f.UID, slices.Concat([]string{f.Program}, arguments, []string{"--" + string(s.Name)})...)
}

// install writes the units of a scope with a program, and in system scope says who they run as where no unit of ours does.
func (f *Facts) install(s *Scope, program string, options ...string) string {
	openclaws := slices.ContainsFunc(s.OpenClaw, func(u Unit) bool { return u.Name == units.Service })
	if s.Name == units.System && (openclaws || !s.Service.exists() || s.Service.LoadState == "masked") {
		owner := 0
		if s.Config.Others != nil {
			owner = s.Config.Others.UID
		}
		options = append(options, "--run-as", cmp.Or(s.Service.User, systemd.UserName(owner)))
	}
	return s.Manager.As(f.UID, slices.Concat([]string{program, "install", "--" + string(s.Name)}, options)...)
}

// reinstall has the units of a scope run this program, or a copy of it where others can replace it or OpenClaw would kill it.
func (f *Facts) reinstall(s *Scope) string {
	program, restart := f.Program, f.systemctl(s.Manager, "restart", units.Service)
	var steps []string
	switch {
	case s.Name == units.System && (f.Replaceable != nil || misnamed(f.Executable)), misnamed(f.Executable) && f.UID == 0:
		steps, program = systemd.Secure(f.UID, f.Executable, f.Replaceable)
	case misnamed(f.Executable):
		program = filepath.Join(filepath.Dir(f.Executable), "gateway")
		steps = append(steps, say.Shell("install", "-m", "755", f.Executable, program))
	}
	steps = append(steps, f.install(s, program))
	if over := s.overridden("ExecStart"); len(over) > 0 {
		steps = append(steps, f.mend(s, dropins.Lasting(over)))
	}
	return then(append(steps, restart)...)
}

// edit opens the configuration, as the user whose it is; what has to be changed there stands in the sentence.
func (f *Facts) edit(s *Scope) string {
	editor := `"${EDITOR:-vi}" ` + say.Shell(s.Config.Path)
	switch author := s.author(); {
	case author == f.UID:
		return editor
	case author > 0:
		return systemd.As(f.UID, author) + " " + editor
	case author == 0:
		return say.Shell("sudoedit", s.Config.Path)
	default:
		return f.systemctl(s.Manager, "cat", units.Service)
	}
}

// line says where in the configuration a key stands, for a person who edits it.
func (s *Scope) line(key string) string {
	if s.Config.Loaded != nil {
		if place := s.Config.Loaded.Source[key]; place != "" {
			return fmt.Sprintf("%s (%s)", key, filepath.Base(place))
		}
	}
	return key
}

// then joins commands, each of which needs the success of those before it.
func then(commands ...string) string { return strings.Join(commands, " && ") }

// ofScope names a unit for a person.
func (s *Scope) ofScope(unit string) string {
	if s.Name == units.User && s.User != "" {
		return fmt.Sprintf("%s of user %s", unit, s.User)
	}
	return fmt.Sprintf("%s of the %s scope", unit, s.Name)
}

// evidence adds the scope to what is known of a finding.
func (s *Scope) evidence(with map[string]any) map[string]any {
	with["scope"] = string(s.Name)
	if s.User != "" {
		with["user"] = s.User
	}
	return with
}
