package units

import (
	"fmt"
	"os"
	"path/filepath"

	"openclaw-gateway/units/instance"
)

// SocketDescription is the Description= of an instance's socket, by which it is told from units that are called the same.
func SocketDescription(name instance.Name) string { return title(name) + ", listening sockets" }

func title(name instance.Name) string {
	if name == instance.Default {
		return "OpenClaw gateway"
	}
	return "OpenClaw gateway " + string(name)
}

// A Scope says which service manager runs the units.
type Scope string

// System is the manager that is PID 1, User the one of a single user (systemd --user).
const (
	System Scope = "system"
	User   Scope = "user"
)

// Dir returns the directory in which an administrator's units of the scope lie: /etc/systemd/system, or systemd/user
// below $XDG_CONFIG_HOME, which is ~/.config unless set (systemd.unit(5), "Unit File Load Path"). It fails when a user's
// directory cannot be told because neither variable is set, or because XDG_CONFIG_HOME is not absolute.
func Dir(scope Scope) (string, error) {
	switch scope {
	case System:
		return "/etc/systemd/system", nil
	case User:
		base, err := os.UserConfigDir()
		if err != nil {
			return "", fmt.Errorf("find the directory of the user's units: %w", err)
		}
		return filepath.Join(base, "systemd/user"), nil
	}
	return "", unknownScope(scope)
}

func unknownScope(scope Scope) error {
	return fmt.Errorf("unknown scope %q: use %q or %q", string(scope), System, User)
}
