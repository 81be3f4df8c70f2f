package holders

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/test/sockets"
	"openclaw-gateway/worker/proctree"
)

// TestEnding: a process that has ended, and holds its files for a moment still, is told from one that runs.
func TestEnding(t *testing.T) {
	t.Parallel()
	ended := exec.Command("/bin/false")
	if err := ended.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ended.Wait() }()
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, ended.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if isEnding(os.Getpid()) {
		t.Error("this process is ending")
	}
	if !isEnding(ended.Process.Pid) {
		t.Errorf("process %d is not ending", ended.Process.Pid)
	}
}

// TestIsIn: a user can make a control group that has a unit's name, and not where root has that unit's.
func TestIsIn(t *testing.T) {
	t.Parallel()
	const unit = "openclaw-gateway.service"
	theirs := systemd.Manager{User: true, UID: 1000}
	for _, test := range []struct {
		cgroup      string
		of, manager systemd.Manager
		want        bool
	}{
		{"/system.slice/" + unit, systemd.Manager{}, systemd.Manager{}, true},
		{"/system.slice/other.service", systemd.Manager{}, systemd.Manager{}, false},
		{"/user.slice/user-1000.slice/user@1000.service/app.slice/" + unit, theirs, theirs, true},
		{"/user.slice/user-1000.slice/user@1000.service/app.slice/" + unit, theirs, systemd.Manager{}, false},
		{"/user.slice/user-1000.slice/user@1000.service/app.slice/" + unit, systemd.Manager{}, systemd.Manager{}, false},
	} {
		h := Holder{Cgroup: test.cgroup, Manager: test.of}
		h.InUnit, _ = proctree.UnitOf(test.cgroup)
		if got := h.isIn(test.manager, unit); got != test.want {
			t.Errorf("%s of %+v in that of %+v: %t, want %t", test.cgroup, test.of, test.manager, got, test.want)
		}
	}
}

// TestListening: each process that holds the address has the role that its
// command line and its descent prove.
func TestListening(t *testing.T) {
	t.Parallel()
	listener, address := sockets.Server(t, "tcp4", "127.0.0.1:0")
	program, mark := "/proc/self/exe", ""
	start := func(argv ...string) int {
		t.Helper()
		cmd := child(hold, argv...)
		cmd.Path, cmd.Env = program, append(cmd.Env, mark)
		startHolderAs(t, listener, cmd)
		return cmd.Process.Pid
	}
	const entry = "/nowhere/node_modules/openclaw/dist/index.js"
	want := map[int]api.Role{
		os.Getpid(): api.RoleForeign, // also where a process has its mark
		start("node", entry, "gateway", "--port", "18789"): api.RoleOrphan,
		start("openclaw-gateway", "", ""):                  api.RoleForeign,
		start("/opt/openclaw-gateway", "--port", "18789"):  api.RoleForeign,
		start("python3", "/srv/openclaw.py", "gateway"):    api.RoleForeign,
		start("node", entry, "gateway", "status"):          api.RoleForeign,
		start("systemd", "--user"):                         api.RoleForeign,
	}
	own := start("/usr/local/bin/gateway", "run") // the same program as this one
	want[own] = api.RoleLauncher
	program = copied(t, "node")
	want[start("openclaw-gateway", "", "")] = api.RoleOrphan
	// A launcher of another version, with its worker.
	older := child(launch, "/usr/local/bin/gateway", "run", entry)
	older.Path = program
	startHolderAs(t, listener, older)
	children, err := proctree.Descendants(older.Process.Pid)
	if err != nil || len(children) != 1 {
		t.Fatalf("the launcher has the children %v, %v", children, err)
	}
	want[older.Process.Pid], want[children[0].PID] = api.RoleLauncher, api.RoleWorker
	// The worker of a launcher that lives, whatever program that is; not of one that has ended, nor of who is none.
	for _, test := range []struct {
		pid  int
		late uint64
		role api.Role
	}{{own, 0, api.RoleWorker}, {own, 1, api.RoleOrphan}, {os.Getpid(), 0, api.RoleOrphan}, {1, 0, api.RoleOrphan}} {
		launcher, err := proctree.Find(test.pid)
		if err != nil {
			t.Fatal(err)
		}
		mark = fmt.Sprintf("GATEWAY_LAUNCHER=/run/some:where:%d:%d", launcher.PID, launcher.Start+test.late)
		want[start("node", entry, "gateway", "run")] = test.role
	}

	sockets, _, err := Known{}.Listening(t.Context(), address)
	if err != nil || len(sockets) != 1 || !sockets[0].Exact {
		t.Fatalf("%+v, %v", sockets, err)
	}
	for _, holder := range sockets[0].Holders {
		if holder.Role != want[holder.PID] {
			t.Errorf("%s is %s (%s), want %s", holder.Command, holder.Role, holder.Why, want[holder.PID])
		}
		reasoned := slices.Contains([]api.Role{api.RoleOrphan, api.RoleRival, api.RoleForeign}, holder.Role)
		if reasoned == (holder.Why == "") {
			t.Errorf("%s is %s because of %q", holder.Command, holder.Role, holder.Why)
		}
		delete(want, holder.PID)
	}
	if len(want) > 0 {
		t.Errorf("not found: %v", want)
	}
}

// TestByHand: a launcher that was started by hand is one for its own user, and for no unit.
func TestByHand(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to start a process of another user: make test")
	}
	listener, address := sockets.Server(t, "tcp4", "127.0.0.1:0")
	launcher := child(hold, "/usr/local/bin/gateway", "run")
	startHolderAs(t, listener, launcher)
	theirs := child(hold, "/usr/local/bin/gateway", "run")
	unprivileged(theirs)
	startHolderAs(t, listener, theirs)
	listener.Close()
	for _, known := range []Known{{}, {Launcher: theirs.Process.Pid}, {Units: true}} {
		want := map[int]api.Role{launcher.Process.Pid: api.RoleLauncher, theirs.Process.Pid: api.RoleForeign}
		if known.Units {
			want[launcher.Process.Pid] = api.RoleForeign
		}
		sockets, _, err := known.Listening(t.Context(), address)
		if err != nil || len(sockets) != 1 {
			t.Fatalf("%+v, %v", sockets, err)
		}
		for _, holder := range sockets[0].Holders {
			if holder.Role != want[holder.PID] {
				t.Errorf("knowing %+v, pid %d of uid %d is %s, want %s", known, holder.PID, holder.UID, holder.Role, want[holder.PID])
			}
		}
	}
}

// TestForked: what systemd has forked and not executed is systemd, wherever it is already; not whom systemd has inherited,
// whatever its name.
func TestForked(t *testing.T) {
	t.Parallel()
	// This process stands for the manager, and its children that run the same program for those that it has not executed yet.
	l := Known{}.newLook()
	l.own = os.Getpid()
	l.said[question{}] = answer{}
	listener, _ := sockets.Server(t, "tcp4", "127.0.0.1:0")
	child := func(program string, change func(*exec.Cmd)) Holder {
		t.Helper()
		cmd := child(hold, "(sleep)")
		if program != "" {
			cmd.Path = program
		}
		if change != nil {
			change(cmd)
		}
		startHolderAs(t, listener, cmd)
		h, err := describe(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	another := copied(t, "(sleep)")
	for what, test := range map[string]struct {
		h    Holder
		want bool
	}{
		"a child":                        {child("", nil), true},
		"a child of another program":     {child(another, nil), false},
		"a child that is another user's": {child("", unprivileged), false},
	} {
		if manager, got := l.forked(t.Context(), &test.h); got != test.want || got && manager != (systemd.Manager{User: true, UID: os.Geteuid()}) {
			t.Errorf("%s is of the manager: %t (%+v), want %t", what, got, manager, test.want)
		}
	}
	h := child("", nil)
	h.Start -= 2 * uint64(forkLimit/time.Second) * 100
	if _, got := l.forked(t.Context(), &h); got {
		t.Error("a child of a user's manager counts although it should have been executed long ago")
	}
}

// copied is another file with this program.
func copied(t *testing.T, name string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	// What is forked meanwhile has it open for writing, and nobody can execute it as long.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	return program
}
