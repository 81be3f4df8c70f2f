package holders

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/sockets"
	"openclaw-gateway/worker/proctree"
)

func TestOpen(t *testing.T) {
	l, _ := sockets.Server(t, "tcp4", "127.0.0.1:0")
	other, _ := sockets.Server(t, "tcp4", "127.0.0.1:0")
	shared, own := sockets.Inode(t, l), sockets.Inode(t, other)
	duplicate, err := l.File() // a second descriptor is no second holder
	if err != nil {
		t.Fatal(err)
	}
	defer duplicate.Close()
	cmd, end := startHolder(t, l, "gateway", "--token", "hunter2", "--port=1")

	byInode, _, err := open(t.Context(), []uint64{shared, own, 0})
	if err != nil {
		t.Fatal(err)
	}
	want := map[uint64][]int{shared: inOrder(os.Getpid(), cmd.Process.Pid), own: {os.Getpid()}}
	if diff := cmp.Diff(want, pids(byInode)); diff != "" {
		t.Fatalf("pids by inode, -want +got\n%s", diff)
	}

	// By pid: the child's can be lower than its parent's, where pids have begun anew.
	got := byInode[shared][slices.Index(want[shared], cmd.Process.Pid)]
	path, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(got.PID), "cgroup"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(path), ":"+got.Cgroup+"\n") || got.Cgroup == "" {
		t.Errorf("got cgroup %q, want one of\n%s", got.Cgroup, path)
	}
	session, err := unix.Getsid(0)
	if err != nil {
		t.Fatal(err)
	}
	wantHolder := Holder{
		Process: proctree.Process{
			PID:     cmd.Process.Pid,
			PPID:    os.Getpid(),
			Start:   startTime(t, got.PID),
			Session: session,
			Name:    "exe", // the last part of /proc/self/exe, which is what was executed
		},
		UID:     uint32(os.Geteuid()),
		Argv:    []string{"gateway", "--token", "hunter2", "--port=1"},
		Command: "gateway --token *** --port=1",
		Cgroup:  got.Cgroup, InUnit: got.InUnit, Manager: got.Manager,
	}
	if diff := cmp.Diff(wantHolder, got, cmp.AllowUnexported(Holder{})); diff != "" {
		t.Errorf("the child, -want +got\n%s", diff)
	}

	end()
	byInode, _, err = open(t.Context(), []uint64{shared})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[uint64][]int{shared: {os.Getpid()}}, pids(byInode)); diff != "" {
		t.Errorf("after the child has gone, -want +got\n%s", diff)
	}
}

// A process can have no argv that says anything; the kernel still has a name for it.
func TestOpenWithoutArgv(t *testing.T) {
	l, _ := sockets.Server(t, "tcp4", "127.0.0.1:0")
	inode := sockets.Inode(t, l)
	startHolder(t, l, "")
	l.Close()
	byInode, _, err := open(t.Context(), []uint64{inode})
	if err != nil {
		t.Fatal(err)
	}
	if got := byInode[inode]; len(got) != 1 || got[0].Command != "[exe]" {
		t.Errorf("got %+v, want one process shown as [exe]", got)
	}
}

// A process that ends between the listing and the look is neither an error nor unseen.
func TestAmongProcessGone(t *testing.T) {
	l, _ := sockets.Server(t, "tcp4", "127.0.0.1:0")
	inode := sockets.Inode(t, l)
	cmd, end := startHolder(t, l, "gateway")
	self, err := procfs.Self()
	if err != nil {
		t.Fatal(err)
	}
	init, err := procfs.NewProc(1)
	if err != nil {
		t.Fatal(err)
	}
	gone, err := procfs.NewProc(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	_, before, err := among(t.Context(), procfs.Procs{init, self}, []uint64{inode})
	if err != nil {
		t.Fatal(err)
	}
	end()
	byInode, unseen, err := among(t.Context(), procfs.Procs{gone, self, init}, []uint64{inode})
	if err != nil || unseen != before {
		t.Errorf("got %d unseen, %v, want %d and no error", unseen, err, before)
	}
	if diff := cmp.Diff(map[uint64][]int{inode: {os.Getpid()}}, pids(byInode)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// With hidepid= the processes of others do not even show in /proc.
func TestAmongHiddenProcesses(t *testing.T) {
	self, err := procfs.Self()
	if err != nil {
		t.Fatal(err)
	}
	if _, unseen, err := among(t.Context(), procfs.Procs{self}, []uint64{1}); err != nil || unseen != 1 {
		t.Errorf("without PID 1 in the list: got %d unseen, %v, want 1", unseen, err)
	}
}

func TestUnprivileged(t *testing.T) {
	l, addr := sockets.Server(t, "tcp4", "127.0.0.1:0")
	got := reportOf(t, addr, sockets.Inode(t, l), 1)
	if got.Unseen == 0 || !got.Denied {
		t.Errorf("got %+v, want some unseen, and PID 1 among them", got)
	}
	if !strings.Contains(got.Sentence, "`sudo ") || strings.Contains(got.Sentence, "free again") {
		t.Errorf("got %q, want advice to look as root", got.Sentence)
	}
	if os.Geteuid() != 0 {
		return // the reporter is the same user, and sees this process
	}
	want := fmt.Sprintf("%s is held by a process of user root that cannot be seen from here: `sudo ", addr)
	if len(got.Processes) > 0 || !strings.HasPrefix(got.Sentence, want) {
		t.Errorf("got processes %v and\n%s\nwant none and\n%s…", got.Processes, got.Sentence, want)
	}

	// The descriptors of a process of the same user with one capability more can be listed, but not read.
	cmd := child(hold, "gateway")
	unprivileged(cmd)
	cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_BIND_SERVICE}
	startHolderAs(t, l, cmd)
	if got := reportOf(t, addr, sockets.Inode(t, l), cmd.Process.Pid); !got.Denied || len(got.Processes) > 0 {
		t.Errorf("same user, more capable: got %+v, want it denied and no process", got)
	}
}

// reportOf runs the reporter as an ordinary user.
func reportOf(t *testing.T, addr netaddr.Address, inode uint64, pid int) seen {
	t.Helper()
	cmd := child(report, "reporter")
	cmd.Env = append(cmd.Env, fmt.Sprintf("HOLDERS_TEST_INODE=%d", inode), fmt.Sprintf("HOLDERS_TEST_PID=%d", pid),
		"HOLDERS_TEST_ADDRESS="+addr.String())
	unprivileged(cmd)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got seen
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	return got
}

func pids(byInode map[uint64][]Holder) map[uint64][]int {
	m := map[uint64][]int{}
	for inode, processes := range byInode {
		for _, p := range processes {
			m[inode] = append(m[inode], p.PID)
		}
	}
	return m
}

// inOrder sorts pids: a child has a lower one than its parent when the numbers have begun again.
func inOrder(pids ...int) []int {
	slices.Sort(pids)
	return pids
}

// startTime is field 22 of stat, counted after the name in parentheses, which is field 2.
func startTime(t *testing.T, pid int) uint64 {
	t.Helper()
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	ticks, err := strconv.ParseUint(strings.Fields(rest)[22-3], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return ticks
}

// TestDescribe: a process is described, and its start is a moment.
func TestDescribe(t *testing.T) {
	before := time.Now()
	l, _ := sockets.Server(t, "tcp4", "127.0.0.1:0")
	cmd, _ := startHolder(t, l)
	after := time.Now()
	h, err := describe(cmd.Process.Pid)
	if err != nil || h.PPID != os.Getpid() || h.UID != uint32(os.Geteuid()) || h.Command == "" {
		t.Errorf("%+v, %v", h, err)
	}
	// To the second.
	if since := h.Since(); since.Before(before.Add(-time.Second)) || since.After(after.Add(time.Second)) {
		t.Errorf("it started at %s, want %s to %s", since, before, after)
	}
	if _, err := describe(1 << 30); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of no process: %v", err)
	}
}

// TestHolderEnds: who ends while it is looked at is no holder of which nothing is known.
func TestHolderEnds(t *testing.T) {
	script := "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); b = b'x' * (256 << 20); print(s.getsockname()[1], flush=True); sys.stdin.read()"
	for range 3 {
		cmd := exec.Command("python3", "-c", script)
		_, inErr := cmd.StdinPipe()
		out, err := cmd.StdoutPipe()
		if err := errors.Join(inErr, err, cmd.Start()); err != nil {
			t.Fatal(err)
		}
		var port int
		if _, err := fmt.Fscan(out, &port); err != nil {
			t.Fatal(err)
		}
		pid := cmd.Process.Pid
		listening, err := sockdiag.Listening(netaddr.MustParse(fmt.Sprintf("127.0.0.1:%d", port)))
		if err != nil || len(listening) != 1 {
			t.Fatal(listening, err)
		}
		process, err := procfs.NewProc(pid)
		if err != nil {
			t.Fatal(err)
		}
		wanted := map[string]uint64{fmt.Sprintf("socket:[%d]", listening[0].Inode): listening[0].Inode}
		look := func() sight {
			return lookInto(t.Context(), procfs.Procs{process}, wanted, []uint32{uint32(os.Geteuid())})[0]
		}
		if s := look(); s.err != nil || len(s.holder.Argv) == 0 {
			t.Fatalf("before it ends: %+v", s)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for s := look(); s.err == nil && len(s.found) > 0; s = look() {
			if len(s.holder.Argv) == 0 {
				t.Errorf("while it ends it is %+v", s.holder)
				break
			}
		}
		_ = cmd.Wait()
	}
}

// TestManyHolders: of a user with more processes than can be judged in time the rest is unseen, and the others are judged.
func TestManyHolders(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to start processes of another user: make test")
	}
	l, _ := sockets.Server(t, "tcp4", "127.0.0.1:0")
	inode := sockets.Inode(t, l)
	cmd := child(hold, "gateway")
	unprivileged(cmd)
	startHolderAs(t, l, cmd)
	for name, test := range map[string]struct {
		before func(*look)
		want   []int
	}{
		"there is time":       {func(*look) {}, inOrder(os.Getpid(), cmd.Process.Pid)},
		"the user had theirs": {func(look *look) { look.spent[nobody] = decideLimit }, []int{os.Getpid()}},
		"all users had":       {func(look *look) { look.spentAll = decideAllLimit }, []int{os.Getpid()}},
	} {
		look := Known{}.newLook()
		test.before(look)
		byInode, unseen, err := look.holders(t.Context(), []uint64{inode}, nil)
		if diff := cmp.Diff(test.want, pids(byInode)[inode]); diff != "" || err != nil {
			t.Errorf("%s: %v, -want +got\n%s", name, err, diff)
		}
		if left := 2 - len(test.want); unseen < left {
			t.Errorf("%s: %d are unseen", name, unseen)
		}
	}
}

// TestStaysWithoutTime: when the time for a second look is up, none is taken.
func TestStaysWithoutTime(t *testing.T) {
	gone := Holder{Process: proctree.Process{PID: 1 << 29}, Role: api.RoleForeign}
	for late, want := range map[bool]bool{false: false, true: true} {
		look := Known{}.newLook()
		if late {
			look.closing = time.Now().Add(-time.Second)
		}
		if got := look.stays(t.Context(), &gone, 1); got != want {
			t.Errorf("late %t: %t", late, got)
		}
	}
}
