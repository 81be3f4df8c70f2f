package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Process is a process in a machine.
type Process struct {
	PID       int // as the machine counts, like MainPID
	ParentPID int // the same; 0 for PID 1 and for what a Command has started
	HostPID   int // as the host counts: to send signals to it, and for the host's /proc
	Args      []string
	Cgroup    string // as the machine sees it: /system.slice/NAME.service
}

// Processes lists what runs in the machine, whatever cgroup of it it is in. Zombies are not in it.
func (m *Machine) Processes(t testing.TB) []Process {
	t.Helper()
	var all []Process
	err := filepath.WalkDir(m.cgroup, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // a cgroup that has just ended
		case err != nil:
			return err
		case d.Name() != "cgroup.procs":
			return nil
		}
		found, err := m.inCgroup(path)
		all = append(all, found...)
		return err
	})
	if err != nil {
		t.Fatalf("list the machine's processes: %v", err)
	}
	return all
}

func (m *Machine) inCgroup(procs string) ([]Process, error) {
	content, err := os.ReadFile(procs)
	if gone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	cgroup := "/" + strings.TrimPrefix(strings.TrimPrefix(filepath.Dir(procs), m.cgroup), "/")
	var found []Process
	for _, field := range strings.Fields(string(content)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return nil, err
		}
		p, err := newProcess(pid, cgroup)
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, p)
	}
	return found, nil
}

func newProcess(hostPID int, cgroup string) (Process, error) {
	p := Process{HostPID: hostPID, Cgroup: cgroup}
	dir := fmt.Sprintf("/proc/%d/", hostPID)
	cmdline, err := os.ReadFile(dir + "cmdline")
	if err != nil {
		return p, err
	}
	p.Args = strings.Split(strings.TrimSuffix(string(cmdline), "\x00"), "\x00")
	var parent int
	if p.PID, parent, err = readStatus(dir + "status"); err != nil {
		return p, err
	}
	if p.PID < 2 {
		return p, nil
	}
	p.ParentPID, _, err = readStatus(fmt.Sprintf("/proc/%d/status", parent))
	if gone(err) {
		// The parent has just ended; the process, if it has not, has another.
		return newProcess(hostPID, cgroup)
	}
	return p, err
}

// readStatus returns a process's pid in the PID namespace below the host's, 0 when it is in none, and its parent's pid as
// the host counts.
func readStatus(path string) (inside, parent int, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 2 && fields[0] == "PPid:":
			parent, err = strconv.Atoi(fields[1])
		case len(fields) > 2 && fields[0] == "NSpid:":
			inside, err = strconv.Atoi(fields[2])
		}
		if err != nil {
			return 0, 0, fmt.Errorf("%s: %w", path, err)
		}
	}
	return inside, parent, nil
}

// gone says that a process or cgroup ended while it was read.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV)
}
