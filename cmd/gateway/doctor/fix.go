package doctor

import (
	"cmp"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/doctor/gather"
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
func (f *Facts) disable(s *gather.Scope) string {
	return f.systemctl(s.Manager, "disable", "--now", s.Instance.Socket(), s.Instance.Service())
}

// kill is a command that signals a launcher, as its user: by then its pid may be another's.
func (f *Facts) kill(l gather.Listener, options ...string) string {
	return systemd.As(f.UID, l.UID, slices.Concat([]string{"kill"}, options, []string{strconv.Itoa(l.PID)})...)
}

// gateway is a command of this program for an instance.
func (f *Facts) gateway(s *gather.Scope, arguments ...string) string {
	return s.Manager.As(f.UID, slices.Concat([]string{f.Program}, arguments, []string{"--" + string(s.Name)}, s.Instance.Flag())...)
}

// logs shows what the launcher of an instance and its worker have said.
func (f *Facts) logs(s *gather.Scope) string {
	return s.Manager.Logs(f.UID, s.Instance.Service(), slices.Concat([]string{f.Program, "logs", "--" + string(s.Name)}, s.Instance.Flag()))
}

// told shows what the launcher and its worker have said: a launcher that was started by hand, as in a container, has no journal.
func (f *Facts) told(s *gather.Scope) string {
	if !s.Installed() {
		return f.gateway(s, "status", "--full")
	}
	return f.logs(s)
}

// install writes the units of a scope with a program, as ours were installed before, and in system scope says who they run as where
// no unit of ours does.
func (f *Facts) install(s *gather.Scope, program string, options ...string) string {
	if s.Name == units.System && (s.Replaced() || s.Service.Gone || !s.Service.Exists() || s.Service.LoadState == "masked") {
		owner := 0
		if s.Config.Others != nil {
			owner = s.Config.Others.UID
		}
		options = append(options, "--run-as", cmp.Or(s.Before.RunAs, s.Service.User, systemd.UserName(owner)))
	}
	if path := s.Before.Config; path != "" && path != config.DefaultPath(s.Name == units.User, s.Instance) {
		options = append(options, "--config", path)
	}
	if s.Before.Hardened {
		options = append(options, "--hardened")
	}
	return s.Manager.As(f.UID, slices.Concat([]string{program, "install", "--" + string(s.Name)}, s.Instance.Flag(), options)...)
}

// comeBack has our service run again where OpenClaw's is in its place, or none: it takes the open sockets over, so that no client is
// refused, where they are open.
func (f *Facts) comeBack(s *gather.Scope) string {
	var steps []string
	options := []string{}
	if s.Replaced() {
		if s.Service.Enabled() {
			steps = append(steps, f.systemctl(s.Manager, "disable", s.Instance.Service()))
		}
		if !s.Socket.Active() {
			// Before its file goes: what does not run is not known without one, and cannot be stopped.
			steps = append(steps, f.systemctl(s.Manager, "stop", s.Instance.Socket(), s.Instance.Service()))
		}
		if !s.Service.Gone {
			// "gateway install" leaves alone what it has not written.
			steps = append(steps, s.Manager.As(f.UID, "mv", s.Service.Path, s.Service.Path+".bak"))
		}
		if len(s.Overrides) > 0 {
			steps = append(steps, f.mend(s, dropins.Lasting(s.Overrides)))
		}
	}
	if !s.Socket.Active() {
		options = append(options, "--now")
	}
	steps = append(steps, f.install(s, f.Program, options...))
	if s.Socket.Active() && s.Replaced() {
		steps = append(steps, f.systemctl(s.Manager, "restart", s.Instance.Service()))
	}
	return then(steps...)
}

// reinstall has the units of a scope run this program, or a copy of it where others can replace it or OpenClaw would kill it.
func (f *Facts) reinstall(s *gather.Scope) string {
	program, restart := f.Program, f.systemctl(s.Manager, "restart", s.Instance.Service())
	var steps []string
	switch {
	case s.Name == units.System && (f.Replaceable != nil || misnamed(f.Executable)), misnamed(f.Executable) && f.UID == 0:
		steps, program = systemd.Secure(f.UID, f.Executable, f.Replaceable)
	case misnamed(f.Executable):
		program = filepath.Join(filepath.Dir(f.Executable), "gateway")
		steps = append(steps, say.Shell("install", "-m", "755", f.Executable, program))
	}
	steps = append(steps, f.install(s, program))
	if over := s.Overridden("ExecStart"); len(over) > 0 {
		steps = append(steps, f.mend(s, dropins.Lasting(over)))
	}
	return then(append(steps, restart)...)
}

// edit opens the configuration, as the user whose it is; what has to be changed there stands in the sentence.
func (f *Facts) edit(s *gather.Scope) string { return f.editFile(s, s.Config.Path) }

// editFile is edit for a file that the configuration names.
func (f *Facts) editFile(s *gather.Scope, path string) string {
	editor := `"${EDITOR:-vi}" ` + say.Shell(path)
	switch author := s.Author(); {
	case author == f.UID:
		return editor
	case author > 0:
		return systemd.As(f.UID, author) + " " + editor
	case author == 0:
		return say.Shell("sudoedit", path)
	default:
		return f.systemctl(s.Manager, "cat", s.Instance.Service())
	}
}

// then joins commands, each of which needs the success of those before it.
func then(commands ...string) string { return strings.Join(commands, " && ") }

// inScope adds the instance and the scope to what is known of a finding.
func inScope(s *gather.Scope, with map[string]any) map[string]any {
	with["instance"], with["scope"] = string(s.Instance), string(s.Name)
	if s.User != "" {
		with["user"] = s.User
	}
	return with
}
