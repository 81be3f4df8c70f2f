package doctor

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

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

// edit opens the configuration; what has to be changed there stands behind it.
func (f *Facts) edit(s *Scope, what string) string {
	command := `"${EDITOR:-vi}" ` + say.Shell(s.Config.Path)
	if f.UID != 0 && (s.Name == units.System || s.Manager.UID != f.UID) {
		command = say.Shell("sudoedit", s.Config.Path)
	}
	// In one line: what comes after it would be a command.
	return command + "  # " + strings.Join(strings.Fields(what), " ")
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
