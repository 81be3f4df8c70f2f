package proctree

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// MarkKey is the variable by which a launcher recognises what a predecessor that was killed has left, and everybody else
// whose worker a process is.
const MarkKey = "GATEWAY_LAUNCHER"

// Mark is the value of MarkKey in the environment of a worker: who has started it.
type Mark struct {
	Directory string  // the launcher's runtime directory
	Launcher  Process // its pid and start time
}

func (m Mark) String() string {
	return fmt.Sprintf("%s:%d:%d", m.Directory, m.Launcher.PID, m.Launcher.Start)
}

// ParseMark reads what String has written.
func ParseMark(value string) (m Mark, ok bool) {
	fields := strings.Split(value, ":")
	if len(fields) < 3 {
		return m, false
	}
	n := len(fields)
	pid, err := strconv.Atoi(fields[n-2])
	start, startErr := strconv.ParseUint(fields[n-1], 10, 64)
	if err != nil || startErr != nil {
		return m, false
	}
	return Mark{Directory: strings.Join(fields[:n-2], ":"), Launcher: Process{PID: pid, Start: start}}, true
}

// LauncherOf returns the launcher whose worker a process says it is, by the mark in its
// environment, if that one lives and is of the same user; ok is false where there is
// none, or where the process may not be looked into. Whether that one is a launcher is
// for the caller to prove: anybody can start a process with a mark. The mark of a
// process in another service than its launcher's has got there by accident, see
// tree.Sweep.
func LauncherOf(pid int) (launcher Process, ok bool) {
	value, _ := Variable(pid, MarkKey)
	mark, valid := ParseMark(value)
	if !valid || mark.Launcher.Gone() {
		return Process{}, false
	}
	uid, err := UID(pid)
	owner, ownerErr := UID(mark.Launcher.PID)
	if err != nil || ownerErr != nil || uid != owner {
		return Process{}, false
	}
	service := Service(pid)
	return mark.Launcher, service == "" || service == Service(mark.Launcher.PID)
}

// Gone reports whether a process has ended, as far as can be known.
func (p Process) Gone() bool {
	now, err := Find(p.PID)
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	return now.Start != p.Start || now.Zombie
}
