package proctree

import (
	"errors"
	"io"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/procfs"
)

func TestCgroupPath(t *testing.T) {
	memory := procfs.Cgroup{HierarchyID: 4, Controllers: []string{"memory"}, Path: "/elsewhere"}
	named := procfs.Cgroup{HierarchyID: 9, Controllers: []string{"name=systemd"}, Path: "/legacy"}
	for _, tc := range []struct {
		name string
		in   []procfs.Cgroup
		want string
	}{
		{"unified", []procfs.Cgroup{{Path: "/system.slice/a.service"}}, "/system.slice/a.service"},
		{"hybrid", []procfs.Cgroup{named, memory, {Path: "/unified"}}, "/unified"},
		{"legacy", []procfs.Cgroup{named, memory}, "/legacy"},
		{"legacy, with a v2 that nobody uses", []procfs.Cgroup{named, memory, {Path: "/"}}, "/legacy"},
		{"the same the other way round", []procfs.Cgroup{{Path: "/"}, named}, "/legacy"},
		{"root", []procfs.Cgroup{{Path: "/"}}, "/"},
		{"deleted", []procfs.Cgroup{{Path: "/a.service/generation-1 (deleted)"}}, "/a.service/generation-1"},
		{"none", nil, ""},
	} {
		if got := cgroupPath(tc.in); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestUnitOf(t *testing.T) {
	for _, tc := range []struct {
		path, unit string
		user       bool
	}{
		{"/", "", false},
		{"/init.scope", "init.scope", false},
		{"/system.slice/openclaw-gateway.service/generation-3", "openclaw-gateway.service", false},
		{"/user.slice/user-1000.slice/session-3.scope", "session-3.scope", false},
		{"/user.slice/user-1000.slice/user@1000.service/init.scope", "init.scope", true},
		{"/user.slice/user-1000.slice/user@1000.service/app.slice/openclaw-gateway.service", "openclaw-gateway.service", true},
		{"/user.slice/user-1000.slice/user@1000.service", "user@1000.service", false},
		{"/system.slice/_cpu.service", "cpu.service", false},
		{"/user.slice/user-1000.slice/user@1000.service/app.slice/openclaw-gateway.socket", "openclaw-gateway.socket", true},
		{"/docker/0123456789ab", "", false},
	} {
		if unit, user := UnitOf(tc.path); unit != tc.unit || user != tc.user {
			t.Errorf("%s: got %q, %t, want %q, %t", tc.path, unit, user, tc.unit, tc.user)
		}
	}
}

// TestNoEndOfArguments: however much a process says it was started with, it takes no more than a bound to read it.
func TestNoEndOfArguments(t *testing.T) {
	t.Parallel()
	const size = 256 << 20
	pid := run(t, start("huge", strconv.Itoa(size)), 1)
	shown, err := os.Open(file(pid, "cmdline"))
	if err != nil {
		t.Fatal(err)
	}
	defer shown.Close()
	if n, err := io.CopyN(io.Discard, shown, 4<<20); n != 4<<20 {
		t.Fatalf("the kernel shows %d bytes, %v: the test has lost its subject", n, err)
	}
	if argv := Argv(pid); len(argv) > argvLimit {
		t.Errorf("%d arguments", len(argv))
	}
	environ, err := Environ(pid)
	// On a busy machine so much may take longer than anybody waits for.
	for end := time.Now().Add(bound); errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(end); {
		environ, err = Environ(pid)
	}
	if err != nil || len(environ) != 2<<20 {
		t.Errorf("an environment of %d bytes, %v", len(environ), err)
	}
	if value, found := Variable(pid, "KEY"); found {
		t.Errorf("a variable that is not there: %q", value)
	}
}
