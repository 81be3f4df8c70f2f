// Package cgroups gives tests a control group to work in. It imports nothing of ours, so that every package can be tested
// with it.
package cgroups

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

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

// RefuseBirth has clone3(2), without which nothing is born in a control group, fail on this thread from now on, or with
// SECCOMP_FILTER_FLAG_TSYNC in this process: as systemd's RestrictNamespaces= has it, and filters of container engines.
func RefuseBirth(t testing.TB, refusal unix.Errno, flags uintptr) {
	t.Helper()
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the number of the system call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLONE3, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(refusal)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		t.Fatalf("seccomp: %v", errno)
	}
}

// AwaitFrozen waits until the kernel tells that all processes of a control group are frozen, or that not all are.
func AwaitFrozen(t testing.TB, bound time.Duration, path string, frozen bool) {
	t.Helper()
	want := "frozen 0"
	if frozen {
		want = "frozen 1"
	}
	events, err := os.Open(filepath.Join(path, "cgroup.events"))
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	content := make([]byte, 256)
	for deadline := time.Now().Add(bound); ; {
		n, err := unix.Pread(int(events.Fd()), content, 0)
		switch {
		case err != nil:
			t.Fatal(err)
		case strings.Contains(string(content[:n]), want):
			return
		case time.Now().After(deadline):
			t.Fatalf("%s is not %q within %s: %q", path, want, bound, content[:n])
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(events.Fd()), Events: unix.POLLPRI}}, int(time.Until(deadline).Milliseconds())+1)
	}
}
