package holders

import (
	"slices"
	"strings"

	"github.com/prometheus/procfs"
)

// Cgroup returns the control group of a process, as systemd names it; "" when the process has gone.
func Cgroup(pid int) string {
	process, err := procfs.NewProc(pid)
	if err != nil {
		return ""
	}
	cgroups, err := process.Cgroups()
	if err != nil {
		return ""
	}
	return cgroupPath(cgroups)
}

// cgroupPath chooses the line of /proc/PID/cgroup that systemd goes by, cgroups(7). On a hybrid host the v1 line
// name=systemd stands beside "0::"; with v1 alone there is no "0::", or one that nobody uses, "0::/".
func cgroupPath(cgroups []procfs.Cgroup) string {
	found := ""
	for _, c := range cgroups {
		path := strings.TrimSuffix(c.Path, " (deleted)")
		switch {
		case c.HierarchyID == 0 && path != "/":
			return path
		case c.HierarchyID == 0 && found == "", slices.Contains(c.Controllers, "name=systemd"):
			found = path
		}
	}
	return found
}

// unitOf returns the innermost unit in a cgroup's path, and whether it belongs to the manager of a user, which itself is
// the system's unit user@UID.service. A delegated unit has cgroups of its own below it, which are no units.
func unitOf(path string) (unit string, user bool) {
	within := false
	for part := range strings.SplitSeq(path, "/") {
		if !strings.HasSuffix(part, ".service") && !strings.HasSuffix(part, ".scope") {
			continue
		}
		// systemd puts "_" before a name that the kernel would take for a file of its own (cg_escape).
		unit, user = strings.TrimPrefix(part, "_"), within
		within = within || strings.HasPrefix(part, "user@")
	}
	return unit, user
}
