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

// TestRoom: the limits of a group and of all above it, without what the kernel can take back.
func TestRoom(t *testing.T) {
	t.Parallel()
	above := t.TempDir()
	group := &Group{path: filepath.Join(above, "service")}
	write := func(path, content string) {
		t.Helper()
		path = filepath.Join(above, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := func(bytes int64, limited string) {
		t.Helper()
		if got, by := group.Room(); got != bytes || by != limited {
			t.Errorf("%d by %q, want %d by %q", got, by, bytes, limited)
		}
	}
	want(0, "")
	write("memory.max", "max\n")
	write("service/memory.max", "max\n")
	want(0, "")
	write("service/memory.max", "1000\n")
	write("service/memory.current", "900\n")
	want(100, group.path)
	write("service/memory.stat", "anon 600\nfile 290\ninactive_file 150\nactive_file 100\nslab_reclaimable 50\nslab 60\n")
	want(400, group.path)
	write("memory.max", "3000\n")
	write("memory.current", "2700\n")
	want(300, above)
	write("memory.current", "3100\n")
	want(0, above)
	write("service/generation-1/memory.current", "700\n")
	if got := group.TakenBy("generation-1"); got != 700 {
		t.Errorf("the generation takes %d", got)
	}
	write("service/generation-1/memory.stat", "active_file 300\n")
	if got := group.TakenBy("generation-1"); got != 400 {
		t.Errorf("the generation takes %d", got)
	}
	if got := group.TakenBy("generation-2"); got != 0 {
		t.Errorf("none takes %d", got)
	}
}

// TestOOMKills: as Documentation/admin-guide/cgroup-v2.rst has it.
func TestOOMKills(t *testing.T) {
	t.Parallel()
	group := &Group{path: t.TempDir()}
	for content, want := range map[string]int{
		"low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 1\n": 2, "oom_kill 0\n": 0, "oom_kill x\n": 0, "": 0,
	} {
		if err := os.WriteFile(filepath.Join(group.path, "memory.events"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := group.OOMKills(); got != want {
			t.Errorf("%q: %d, want %d", content, got, want)
		}
	}
	if got := (&Group{path: "/nowhere"}).OOMKills(); got != 0 {
		t.Errorf("without a count: %d", got)
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
