package systemd

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/units"
)

// Logs is the command with which the caller reads what a unit's service has logged: gateway is the one of this program. Where users may
// not read the journal, what a user's launcher says there only root can read.
func (m Manager) Logs(caller int, unit string, gateway []string, options ...string) string {
	if m.User && (m.UID != caller || caller != 0 && !journalReadable()) {
		gateway = []string{"journalctl", fmt.Sprintf("_UID=%d", m.UID), "_SYSTEMD_USER_UNIT=" + unit}
		m = Manager{}
	}
	return m.As(caller, slices.Concat(gateway, options)...)
}

// journalReadable reports whether this process may read some of the journal: all of it, as a member of systemd-journal, or a user's own
// part, which there is where it is kept on disk (SplitMode= in journald.conf(5)).
func journalReadable() bool {
	for _, folder := range []string{"/var/log/journal", "/run/log/journal"} {
		files, _ := filepath.Glob(folder + "/*/*.journal")
		if slices.ContainsFunc(files, func(path string) bool { return unix.Access(path, unix.R_OK) == nil }) {
			return true
		}
	}
	return false
}

// wordsLimit is how long a person waits for a completion.
const wordsLimit = 2 * time.Second

// logFields are those by which one looks for entries of the launcher's.
var logFields = []string{"GENERATION", "WORKER_PID", "REASON", "EXIT", "HANDOFF", "PRIORITY"}

// JournalWords returns what a word of a journalctl command line may become, behind these others: a unit, a field, the value of
// one that is in the journal, or an option. open says that it goes on behind the word.
func JournalWords(ctx context.Context, before []string, word string) (words []string, open bool) {
	ctx, cancel := context.WithTimeout(ctx, wordsLimit)
	defer cancel()
	last := ""
	if len(before) > 0 {
		last = before[len(before)-1]
	}
	name, _, isValue := strings.Cut(word, "=")
	switch {
	case last == "-u" || last == "--unit":
		words = unitsUp(ctx, before, "")
	case name == "--unit" && isValue:
		words = unitsUp(ctx, before, "--unit=")
	case strings.HasPrefix(word, "-"):
		words = []string{"--follow", "--system", "--user", "--help", "--unit=", "--since=", "--output=", "--lines="}
		open = true
	case isValue:
		output, _ := exec.CommandContext(ctx, "journalctl", "--quiet", "--field="+name).Output()
		for line := range strings.Lines(string(output)) {
			words = append(words, name+"="+strings.TrimSpace(line))
		}
	default:
		open = true
		for _, field := range logFields {
			words = append(words, field+"=")
		}
	}
	words = slices.DeleteFunc(words, func(w string) bool { return !strings.HasPrefix(w, word) })
	return words, open && len(words) == 1 && strings.HasSuffix(words[0], "=")
}

// unitsUp lists the services and sockets that are up in the scope that the command line names.
func unitsUp(ctx context.Context, before []string, prefix string) (names []string) {
	scope := units.System
	if slices.Contains(before, "--user") {
		scope = units.User
	}
	all, _ := Of(scope).Show(ctx, []string{"*.service", "*.socket"}, "Id")
	for _, unit := range all {
		names = append(names, prefix+unit["Id"])
	}
	return names
}
