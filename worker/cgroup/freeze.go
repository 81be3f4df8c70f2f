package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Freeze stops every process in the group and below it where it is, or lets them go on. It does not wait: one in an uninterruptible
// call stops when that has ended, and until then the group is not Frozen. SIGKILL ends a frozen process, and a signal besides waits.
func (g *Group) Freeze(frozen bool) error {
	state := "0"
	if frozen {
		state = "1"
	}
	if err := os.WriteFile(filepath.Join(g.path, "cgroup.freeze"), []byte(state), 0); err != nil && !vanished(err) {
		return fmt.Errorf("freeze a control group: %w", err)
	}
	return nil
}

// Frozen reports whether every process of the child group of that name is stopped.
func (g *Group) Frozen(child string) bool {
	content, err := os.ReadFile(filepath.Join(g.path, child, "cgroup.events"))
	return err == nil && strings.Contains(string(content), "frozen 1")
}
