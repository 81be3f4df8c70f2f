// Package systemd asks service managers, the system's and those of users, by
// systemctl: it finds the manager's own socket where there is no D-Bus.
package systemd

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"openclaw-gateway/cmd/gateway/peer"
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

// Properties is what systemctl show prints of a unit. A property that is there
// several times has a line for each.
type Properties map[string]string

// Show returns properties of units, in the order of the names; a pattern such as
// *.service stands for all loaded units that match. A unit that does not exist has
// LoadState not-found. A machine without systemd, a user without a manager, and a
// user's manager that the caller may not ask are errors.
func (m Manager) Show(ctx context.Context, names []string, properties ...string) ([]Properties, error) {
	arguments := slices.Concat([]string{"show", "--property=" + strings.Join(properties, ","), "--"}, names)
	if m.User {
		arguments = append([]string{"--user"}, arguments...)
	}
	cmd := exec.CommandContext(ctx, "systemctl", arguments...)
	if err := m.become(cmd); err != nil {
		return nil, err
	}
	var output, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("systemctl %s: %w: %s", strings.Join(arguments, " "), err, strings.TrimSpace(said.String()))
	}
	var all []Properties
	for block := range strings.SplitSeq(output.String(), "\n\n") {
		unit := Properties{}
		for line := range strings.Lines(block) {
			key, value, found := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			if !found {
				continue
			}
			if lines, several := unit[key]; several {
				value = lines + "\n" + value
			}
			unit[key] = value
		}
		if len(unit) > 0 {
			all = append(all, unit)
		}
	}
	return all, nil
}

// Unit returns properties of one unit; see Show.
func (m Manager) Unit(ctx context.Context, name string, properties ...string) (Properties, error) {
	all, err := m.Show(ctx, []string{name}, properties...)
	if err != nil {
		return nil, err
	}
	if len(all) != 1 {
		return nil, fmt.Errorf("systemctl show %s: %d answers", name, len(all))
	}
	return all[0], nil
}

// MainPIDs returns the main process of each service that has one, with its unit.
func (m Manager) MainPIDs(ctx context.Context) (map[int]string, error) {
	services, err := m.Show(ctx, []string{"*.service"}, "Id", "MainPID")
	if err != nil {
		return nil, err
	}
	unit := map[int]string{}
	for _, service := range services {
		if pid := service.Int("MainPID"); pid > 0 {
			unit[pid] = service["Id"]
		}
	}
	return unit, nil
}

// PID returns the process of the manager itself, also where its descriptors may not be looked into. A user's is told by
// its private socket: SO_PEERCRED names whoever listens there (unix(7)). The error says that no such manager runs.
func (m Manager) PID() (int, error) {
	if !m.User {
		return 1, nil
	}
	runtime := os.Getenv("XDG_RUNTIME_DIR")
	if runtime == "" || m.UID != os.Geteuid() {
		runtime = filepath.Join("/run/user", strconv.Itoa(m.UID))
	}
	conn, err := net.Dial("unix", filepath.Join(runtime, "systemd/private"))
	if err != nil {
		return 0, fmt.Errorf("look for the manager of uid %d: %w", m.UID, err)
	}
	defer conn.Close()
	credentials, err := peer.Of(conn)
	if err != nil {
		return 0, err
	}
	return int(credentials.Pid), nil
}

// Int is a property that is a number; 0 where it is not.
func (p Properties) Int(name string) int {
	n, _ := strconv.Atoi(p[name])
	return n
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

// become lets systemctl find the manager of a user, its own also where nobody has
// said where it is (su, cron). A user's manager hangs up on everybody else, on root
// too (EPERM, measured with 252), so root asks as that user, who then can read the
// environment that systemctl has: there must be nothing of root's in it.
func (m Manager) become(cmd *exec.Cmd) error {
	if !m.User {
		return nil
	}
	runtime := filepath.Join("/run/user", strconv.Itoa(m.UID))
	address := []string{"XDG_RUNTIME_DIR=" + runtime, "DBUS_SESSION_BUS_ADDRESS=unix:path=" + filepath.Join(runtime, "bus")}
	switch {
	case m.UID == os.Geteuid() && os.Getenv("XDG_RUNTIME_DIR") != "":
	case m.UID == os.Geteuid() || os.Geteuid() != 0:
		cmd.Env = append(os.Environ(), address...)
	default:
		credential, err := Credential(m.UID)
		if err != nil {
			return err
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
		cmd.Env, cmd.Dir = append([]string{"PATH=" + os.Getenv("PATH")}, address...), "/"
	}
	return nil
}

// Booted reports whether systemd runs this machine (sd_booted(3)).
func Booted() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}
