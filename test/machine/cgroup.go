package machine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// commandsCgroup holds what [Scope.Command] starts, beside systemd's own init.scope and slices.
const commandsCgroup = "commands"

// cgroup2Mount finds where the host has cgroup2: at /sys/fs/cgroup, or below it on a host that keeps controllers in v1.
func cgroup2Mount() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		// proc_pid_mountinfo(5): … root, mount point, options, tags - type …
		before, after, _ := strings.Cut(line, " - ")
		if fields := strings.Fields(before); strings.HasPrefix(after, "cgroup2 ") && len(fields) > 4 {
			return fields[4], nil
		}
	}
	return "", errors.New("cgroup2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup")
}

func isPopulated(events *os.File) (bool, error) {
	content, err := io.ReadAll(io.NewSectionReader(events, 0, 4096))
	if err != nil {
		return false, fmt.Errorf("read %s: %w", events.Name(), err)
	}
	return bytes.Contains(content, []byte("populated 1")), nil
}
