// Package systemd asks service managers, the system's and those of users, over D-Bus: over the manager's own socket, which
// is there without a bus, too. What root asks a user's manager, a child asks that is that user, see [asuser]; the journal and the
// names of users are asked of journalctl and getent.
package systemd

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/units"
)

// Manager is a service manager: the system's, which is the zero value, or a user's.
type Manager struct {
	User bool
	UID  int // of the user
}

// Of returns the manager of a scope, the user's own in user scope.
func Of(scope units.Scope) Manager {
	if scope == units.User {
		return Manager{User: true, UID: os.Geteuid()}
	}
	return Manager{}
}

// Unit returns properties of one unit; see Show.
func (m Manager) Unit(ctx context.Context, name string, properties ...string) (Properties, error) {
	all, err := m.Show(ctx, []string{name}, properties...)
	if err != nil {
		return nil, err
	}
	if len(all) != 1 {
		return nil, fmt.Errorf("ask for %s: %d answers", name, len(all))
	}
	return all[0], nil
}

// Service is what a manager says of one of its services (org.freedesktop.systemd1(5)).
type Service struct {
	Name   string
	Main   int    // MainPID; 0 for none
	Cgroup string // ControlGroup; "" for none
}

// Contains reports whether a control group is the service's, or is below it.
func (s Service) Contains(cgroup string) bool {
	return s.Cgroup != "" && (cgroup == s.Cgroup || strings.HasPrefix(cgroup, s.Cgroup+"/"))
}

// Services returns the services of those names; see Show.
func (m Manager) Services(ctx context.Context, names ...string) ([]Service, error) {
	said, err := m.Show(ctx, names, "Id", "MainPID", "ControlGroup")
	if err != nil {
		return nil, err
	}
	services := make([]Service, len(said))
	for i, properties := range said {
		services[i] = Service{Name: properties["Id"], Main: properties.Int("MainPID"), Cgroup: properties["ControlGroup"]}
	}
	return services, nil
}

// Command is a command line that asks this manager for something, for a person with
// that user id to type.
func (m Manager) Command(caller int, arguments ...string) string {
	argv := []string{"systemctl"}
	if m.User {
		argv = append(argv, "--user")
	}
	return m.As(caller, append(argv, arguments...)...)
}

// Own is Command for the manager's own user.
func (m Manager) Own(arguments ...string) string { return m.Command(m.UID, arguments...) }

// As is a command line that only the manager's own user may run, for the system's root, for a person with the user id
// of the caller.
func (m Manager) As(caller int, argv ...string) string {
	if !m.User {
		return As(caller, 0, argv...)
	}
	return As(caller, m.UID, argv...)
}

// As is a command line that runs as a user, for a person with the user id of the caller: it can do no more than that user
// can, whatever has become of the paths and the processes that it names. On a terminal of its own (--pty): what runs as that
// user could type into root's (TIOCSTI), and would go on reading it. Not systemctl --machine=NAME@.host, which needs a D-Bus
// of that user's: a small Debian 13 has none.
func As(caller, uid int, argv ...string) string {
	if uid != caller && uid != 0 {
		runtime := fmt.Sprintf("XDG_RUNTIME_DIR=/run/user/%d", uid)
		argv = slices.Concat([]string{"runuser", "--pty", "-u", UserName(uid), "--", "env", runtime}, argv)
	}
	if uid != caller && caller != 0 {
		argv = append([]string{"sudo"}, argv...)
	}
	return say.Shell(argv...)
}

// Booted reports whether systemd runs this machine (sd_booted(3)).
func Booted() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}
