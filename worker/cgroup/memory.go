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
	return number(filepath.Join(g.path, child), "memory.current")
}

// TakenBy is how many bytes of memory the child group of that name uses that the kernel cannot simply take back; 0 as in MemoryOf.
func (g *Group) TakenBy(child string) int64 { return taken(filepath.Join(g.path, child)) }

func taken(path string) int64 {
	bytes := number(path, "memory.current")
	content, err := os.ReadFile(filepath.Join(path, "memory.stat"))
	if err != nil {
		return bytes
	}
	for line := range strings.Lines(string(content)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if slices.Contains([]string{"active_file", "inactive_file", "slab_reclaimable"}, name) {
			reclaimable, _ := strconv.ParseInt(value, 10, 64)
			bytes -= reclaimable
		}
	}
	return max(0, bytes)
}

// Room is how many bytes of memory the limits of this group and of those above it (memory.max, as MemoryMax= sets it) leave, and which
// group's limit leaves the least; "": there is no limit that can be seen.
func (g *Group) Room() (bytes int64, limited string) {
	for path := g.path; path != filepath.Dir(path); path = filepath.Dir(path) {
		limit := number(path, "memory.max")
		if limit == 0 { // "max", or no such file
			continue
		}
		if left := max(0, limit-taken(path)); limited == "" || left < bytes {
			bytes, limited = left, path
		}
	}
	return bytes, limited
}

// number is what a file of a group holds; 0 where that is none.
func number(path, name string) int64 {
	content, err := os.ReadFile(filepath.Join(path, name))
	if err != nil {
		return 0
	}
	value, _ := strconv.ParseInt(strings.TrimSpace(string(content)), 10, 64)
	return value
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
