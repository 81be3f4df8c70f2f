package machine

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Scope is one service manager of a machine, the system's or a user's, and what one can ask of it. A test that must hold
// in both takes a *Scope.
type Scope struct {
	// User is the user's name, "" for the system's manager, whose commands run as root.
	User string
	// UID is the user's.
	UID int

	machine *Machine
}

// AddUser makes a user who lingers (loginctl(1)), and returns when their manager is up. It needs Options.Users.
func (m *Machine) AddUser(t testing.TB, name string) *Scope {
	t.Helper()
	m.Run(t, "useradd", "--create-home", "--shell", "/bin/sh", name)
	id := strings.TrimSpace(m.Run(t, "id", "-u", name))
	uid, err := strconv.Atoi(id)
	if err != nil {
		t.Fatalf("uid of %s: %v", name, err)
	}
	m.Run(t, "loginctl", "enable-linger", name)
	m.WaitUnit(t, fmt.Sprintf("user@%d.service", uid), bootBound, Active)
	return &Scope{User: name, UID: uid, machine: m}
}

// Home is the home directory of the scope's user.
func (s *Scope) Home() string {
	if s.User == "" {
		return "/root"
	}
	return "/home/" + s.User
}

// RuntimeDir is where the scope's units have their runtime directories.
func (s *Scope) RuntimeDir() string {
	if s.User == "" {
		return "/run"
	}
	return fmt.Sprintf("/run/user/%d", s.UID)
}

// Cgroup is where the scope's manager has the cgroup of a service, as /proc/PID/cgroup in the machine shows it.
func (s *Scope) Cgroup(service string) string {
	if s.User == "" {
		return "/system.slice/" + service
	}
	// systemd.special(7), app.slice.
	return fmt.Sprintf("/user.slice/user-%d.slice/user@%d.service/app.slice/%s", s.UID, s.UID, service)
}

// ManagerPID is the pid of the scope's manager, as the machine counts.
func (s *Scope) ManagerPID(t testing.TB) int {
	t.Helper()
	if s.User == "" {
		return 1
	}
	return s.machine.Unit(t, fmt.Sprintf("user@%d.service", s.UID)).MainPID
}

func (s *Scope) environment() []string {
	env := []string{"PATH=" + searchPath, "LANG=C.UTF-8", "TERM=dumb", "HOME=" + s.Home()}
	if s.User == "" {
		return append(env, "USER=root", "LOGNAME=root", "SHELL=/bin/sh")
	}
	return append(
		env, "USER="+s.User, "LOGNAME="+s.User, "SHELL=/bin/sh",
		"XDG_RUNTIME_DIR="+s.RuntimeDir(), "DBUS_SESSION_BUS_ADDRESS=unix:path="+s.RuntimeDir()+"/bus",
	)
}

// Systemctl runs systemctl on the scope's manager; it must succeed.
func (s *Scope) Systemctl(t testing.TB, args ...string) string {
	t.Helper()
	return s.Run(t, "systemctl", s.flags(args...)...)
}

// Property is one property of a unit as systemctl show prints it.
func (s *Scope) Property(t testing.TB, unit, name string) string {
	t.Helper()
	return strings.TrimSuffix(s.Systemctl(t, "show", "--property="+name, "--value", "--", unit), "\n")
}

// Journal is what a unit, and its manager about it, have logged until now.
func (s *Scope) Journal(t testing.TB, unit string) string {
	t.Helper()
	return s.journal(t, s.matches(unit)...)
}

// JournalAfter is Journal from where JournalCursor was called.
func (s *Scope) JournalAfter(t testing.TB, cursor, unit string) string {
	t.Helper()
	return s.journal(t, append([]string{"--after-cursor=" + cursor}, s.matches(unit)...)...)
}

// JournalCursor is the place that the journal of a unit has reached; it has to
// have said something. The entry at the place has to be the unit's: otherwise
// journalctl leaves out the first one after it (seen with 252).
func (s *Scope) JournalCursor(t testing.TB, unit string) string {
	t.Helper()
	_, cursor, found := strings.Cut(s.journal(t, append([]string{"--lines=1", "--show-cursor"}, s.matches(unit)...)...), "-- cursor: ")
	if !found {
		t.Fatalf("the journal of %s has no cursor", unit)
	}
	return strings.TrimSpace(cursor)
}

func (s *Scope) journal(t testing.TB, args ...string) string {
	t.Helper()
	// What has been written to a unit's standard output may still wait to be read by journald: journalctl(1), --sync.
	s.machine.Run(t, "journalctl", "--sync")
	return s.machine.Run(t, "journalctl", append([]string{"--no-pager", "--quiet", "--output=short-precise"}, args...)...)
}

// WaitJournal returns when a unit, or its manager about it, has logged a line that contains all of the words, in the past
// or until the bound.
func (s *Scope) WaitJournal(t testing.TB, unit string, bound time.Duration, words ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	follow := s.machine.Command(ctx, "journalctl", append([]string{"--follow", "--lines=all", "--quiet", "--output=short-precise"}, s.matches(unit)...)...)
	output, err := follow.StdoutPipe()
	if err == nil {
		err = follow.Start()
	}
	if err != nil {
		t.Fatalf("follow the journal: %v", err)
	}
	defer func() {
		cancel()
		_ = follow.Wait()
	}()
	for lines := bufio.NewScanner(output); lines.Scan(); {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(lines.Text(), word) }) {
			return
		}
	}
	t.Fatalf("no line with %q after %v in the journal of %s:\n%s", words, bound, unit, s.Journal(t, unit))
}

// matches selects a unit's entries: systemd.journal-fields(7). journalctl's own --user-unit would take the caller's uid.
func (s *Scope) matches(unit string) []string {
	if s.User == "" {
		return []string{"--unit=" + unit}
	}
	uid := fmt.Sprintf("_UID=%d", s.UID)
	return []string{"_SYSTEMD_USER_UNIT=" + unit, uid, "+", "USER_UNIT=" + unit, uid, "+", "OBJECT_SYSTEMD_USER_UNIT=" + unit, uid}
}

func (s *Scope) flags(args ...string) []string {
	if s.User == "" {
		return args
	}
	return append([]string{"--user"}, args...)
}
