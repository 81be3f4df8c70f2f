package tree

import (
	"slices"
	"strings"
)

// Protocol lists what systemd tells the launcher and no worker may mistake for
// its own: the sockets and the notify socket (sd_listen_fds(3), sd_notify(3)),
// the watchdog (sd_watchdog_enabled(3)), the descriptor store, and the pid of
// the process that systemd executed (systemd.exec(5)). And that of a command, where another
// launcher has started this one.
var Protocol = []string{
	"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID",
	"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "FDSTORE", "MAINPID", "SYSTEMD_EXEC_PID", commands.key,
}

// Environment returns the given entries without systemd's protocol, with the
// launcher's own on top: the last of each key counts.
func Environment(given []string, own ...string) []string {
	var result []string
	place := map[string]int{}
	for i, entry := range slices.Concat(given, own) {
		key, _, _ := strings.Cut(entry, "=")
		at, known := place[key]
		switch {
		case i < len(given) && slices.Contains(Protocol, key):
		case known:
			result[at] = entry
		default:
			place[key] = len(result)
			result = append(result, entry)
		}
	}
	return result
}
