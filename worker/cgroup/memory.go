package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// CountMemory has the kernel count the memory of each child group, where it can count that of this one: the controller is
// handed on by hand (cgroup.subtree_control, Documentation/admin-guide/cgroup-v2.rst). No process may be in this group itself.
func (g *Group) CountMemory() error {
	content, err := os.ReadFile(filepath.Join(g.path, "cgroup.controllers"))
	if err != nil || !slices.Contains(strings.Fields(string(content)), "memory") {
		return err
	}
	return os.WriteFile(filepath.Join(g.path, "cgroup.subtree_control"), []byte("+memory"), 0)
}

// MemoryOf is how many bytes of memory the child group of that name uses, with its share of the page cache (memory.current);
// 0 where there is none, or where the kernel does not count it.
func (g *Group) MemoryOf(child string) int64 {
	content, err := os.ReadFile(filepath.Join(g.path, child, "memory.current"))
	if err != nil {
		return 0
	}
	bytes, _ := strconv.ParseInt(strings.TrimSpace(string(content)), 10, 64)
	return bytes
}

// OOMKills is how many processes of the group and of those below it the kernel has killed for want of memory, in the group or in the
// machine (oom_kill of memory.events); 0 where the kernel does not count it.
func (g *Group) OOMKills() int {
	content, err := os.ReadFile(filepath.Join(g.path, "memory.events"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(content)) {
		if count, found := strings.CutPrefix(line, "oom_kill "); found {
			kills, _ := strconv.Atoi(strings.TrimSpace(count))
			return kills
		}
	}
	return 0
}
