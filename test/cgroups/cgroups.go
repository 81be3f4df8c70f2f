// Package cgroups gives tests a control group to work in. It imports nothing of ours, so that every package can be tested
// with it.
package cgroups

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// Scratch makes a control group below that of the test, and removes it with what is below it when the test has ended the
// processes there.
func Scratch(t testing.TB) (path string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("the test makes control groups, which takes root")
	}
	mounts, err := procfs.GetMounts()
	if err != nil {
		t.Fatal(err)
	}
	self, err := procfs.Self()
	if err != nil {
		t.Fatal(err)
	}
	lines, err := self.Cgroups()
	if err != nil {
		t.Fatal(err)
	}
	mount := slices.IndexFunc(mounts, func(m *procfs.MountInfo) bool { return m.FSType == "cgroup2" })
	line := slices.IndexFunc(lines, func(line procfs.Cgroup) bool { return line.HierarchyID == 0 })
	if mount < 0 || line < 0 {
		t.Fatal("the test needs a mounted cgroup2 file system")
	}
	if path, err = os.MkdirTemp(filepath.Join(mounts[mount].MountPoint, lines[line].Path), "gateway-test-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		var groups []string
		err := filepath.WalkDir(path, func(path string, entry os.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				groups = append(groups, path)
			}
			return err
		})
		if errors.Is(err, fs.ErrNotExist) {
			return // the test has removed it
		}
		for _, group := range slices.Backward(groups) {
			err = errors.Join(err, unix.Rmdir(group))
		}
		if err != nil {
			t.Error(err)
		}
	})
	return path
}
