package cgroup

import (
	"path/filepath"
	"testing"

	"openclaw-gateway/test/cgroups"
)

// TestFreeze: who is frozen goes on when it is let go on, and is killed without that.
func TestFreeze(t *testing.T) {
	t.Parallel()
	group := scratch(t)
	child := nested(t, group, "generation-1")
	await := func(frozen bool) {
		t.Helper()
		cgroups.AwaitFrozen(t, bound, child.path, frozen)
		if group.Frozen("generation-1") != frozen {
			t.Errorf("frozen: %t, want %t", !frozen, frozen)
		}
	}
	for range 2 {
		input, cmd := stay(t, child)
		if err := child.Freeze(true); err != nil {
			t.Fatal(err)
		}
		await(true)
		if err := child.Freeze(false); err != nil {
			t.Fatal(err)
		}
		await(false)
		if err := input.Close(); err != nil {
			t.Fatal(err)
		}
		within(t, "it ends", cmd.Wait)
	}
	_, cmd := stay(t, child)
	if err := child.Freeze(true); err != nil {
		t.Fatal(err)
	}
	await(true)
	if err := child.Kill(); err != nil {
		t.Fatal(err)
	}
	within(t, "it is killed", func() error {
		_ = cmd.Wait()
		return child.AwaitEmpty(bound)
	})
	if group.Frozen("generation-2") {
		t.Error("there is none that could be frozen")
	}
	if err := nested(t, group, "generation-3").Remove(); err != nil {
		t.Fatal(err)
	}
	if err := (&Group{path: filepath.Join(group.path, "generation-3")}).Freeze(true); err != nil {
		t.Errorf("of one that has vanished: %v", err)
	}
}
