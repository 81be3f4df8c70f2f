package config

import (
	"slices"
	"strings"

	"openclaw-gateway/lazy"
)

var namePattern = lazy.Regexp(`^[A-Za-z_][A-Za-z0-9_]*$`)

// validName says whether systemd takes it as the name of a variable, see systemd.exec(5), Environment=.
func validName(name string) bool {
	return namePattern().MatchString(name)
}

var reservedNames = []string{
	"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "NOTIFY_SOCKET", "GATEWAY_GENERATION",
}

// Reserved says whether a variable is the launcher's to set or to withhold: those of sd_listen_fds(3), sd_notify(3) and
// sd_watchdog_enabled(3), and GATEWAY_GENERATION.
func Reserved(name string) bool {
	return strings.HasPrefix(name, "WATCHDOG_") || slices.Contains(reservedNames, name)
}
