package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestWeigh: a share is asked for where the kernel divides the processors' time; the kernel of the test may not.
func TestWeigh(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	group := &Group{path: filepath.Join(parent, "generation-1")}
	files := map[string]string{"cgroup.controllers": "memory pids\n", "cgroup.subtree_control": "", "generation-1/cpu.weight": "100"}
	if err := os.Mkdir(group.path, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(parent, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	wants := func(control, weight string) {
		t.Helper()
		asked, err := os.ReadFile(filepath.Join(parent, "cgroup.subtree_control"))
		got, weightErr := os.ReadFile(filepath.Join(group.path, "cpu.weight"))
		if err := errors.Join(err, weightErr); err != nil || string(asked) != control || string(got) != weight {
			t.Errorf("%q, %q, %v; want %q, %q", asked, got, err, control, weight)
		}
	}
	if err := group.Weigh(10); err != nil {
		t.Error(err)
	}
	wants("", "100")
	if err := os.WriteFile(filepath.Join(parent, "cgroup.controllers"), []byte("cpu memory pids\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := group.Weigh(10); err != nil {
		t.Error(err)
	}
	wants("+cpu", "10")
}
