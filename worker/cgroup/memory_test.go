package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMemory reads what a kernel with the memory controller shows: the one of the test may have none.
func TestMemory(t *testing.T) {
	t.Parallel()
	group := &Group{path: t.TempDir()}
	write := func(name, content string) {
		path := filepath.Join(group.path, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	enabled := func() string {
		content, err := os.ReadFile(filepath.Join(group.path, "cgroup.subtree_control"))
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	write("cgroup.subtree_control", "")
	write("cgroup.controllers", "cpu pids\n")
	if err := group.CountMemory(); err != nil || enabled() != "" {
		t.Errorf("without the controller: %v, %q", err, enabled())
	}
	write("cgroup.controllers", "cpu memory pids\n")
	if err := group.CountMemory(); err != nil || enabled() != "+memory" {
		t.Errorf("with the controller: %v, %q", err, enabled())
	}
	write("generation-2/memory.current", "88080384\n")
	write("generation-3/memory.current", "no number\n")
	for name, want := range map[string]int64{"generation-1": 0, "generation-2": 88080384, "generation-3": 0} {
		if got := group.MemoryOf(name); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
}

// TestMemoryHere asks the kernel of the test.
func TestMemoryHere(t *testing.T) {
	t.Parallel()
	group := scratch(t)
	if err := group.CountMemory(); err != nil {
		t.Fatal(err)
	}
	child := nested(t, group, "generation-1")
	stay(t, child)
	counts := false
	if content, err := os.ReadFile(filepath.Join(group.path, "cgroup.subtree_control")); err == nil {
		counts = strings.Contains(string(content), "memory")
	}
	if got := group.MemoryOf("generation-1"); counts != (got > 0) {
		t.Errorf("%d bytes, and that the kernel counts is %t", got, counts)
	}
}
