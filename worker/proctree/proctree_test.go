package proctree

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// bound is how long a test waits for what has to happen.
const bound = 30 * time.Second

// run starts a program and returns when so many processes of it have said their pids.
func run(t *testing.T, cmd *exec.Cmd, processes int) (pid int) {
	t.Helper()
	cmd.Stdin = nil
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, written, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = written
	err = cmd.Start()
	_ = written.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = input.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = output.Close()
	})
	if err := output.SetReadDeadline(time.Now().Add(bound)); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	for range processes {
		if !lines.Scan() {
			t.Fatalf("%s says nothing: %v", cmd, lines.Err())
		}
		if strings.Contains(lines.Text(), " ") {
			t.Fatalf("%s: %s", cmd, lines.Text())
		}
	}
	return cmd.Process.Pid
}

// nobody is another user than root.
var nobody = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}

func find(t *testing.T, pid int) Process {
	t.Helper()
	process, err := Find(pid)
	if err != nil {
		t.Fatal(err)
	}
	return process
}

func kill(t *testing.T, processes ...Process) {
	t.Helper()
	result := make(chan error, 1)
	go func() { result <- Kill(processes) }()
	select {
	case err := <-result:
		if err != nil {
			t.Errorf("Kill: %v", err)
		}
	case <-time.After(bound):
		t.Fatalf("not killed within %s: %v", bound, processes)
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	before := find(t, os.Getpid())
	for _, name := range []string{"plain", "a) Z 1 (b", "two words"} {
		pid := run(t, start("stay", name), 1)
		got := find(t, pid)
		if got.PID != pid || got.PPID != os.Getpid() || got.Name != name || got.Zombie || got.Start < before.Start {
			t.Errorf("Find: %+v, want pid %d below %d under the name of %q", got, pid, os.Getpid(), name)
		}
		if want := fmt.Sprintf("%s (pid %d)", name, pid); got.String() != want {
			t.Errorf("String: %q, want %q", got, want)
		}
		if again := find(t, pid); again != got {
			t.Errorf("found again: %+v, before: %+v", again, got)
		}
	}
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{ended.Process.Pid, 0, -1} {
		if got, err := Find(pid); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("Find(%d): %+v, %v", pid, got, err)
		}
	}
}

// TestFindOfEnding looks at processes that end while it does.
func TestFindOfEnding(t *testing.T) {
	t.Parallel()
	for range 50 {
		cmd := exec.Command("true")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waited := make(chan error, 1)
		go func() { waited <- cmd.Wait() }()
		for {
			_, err := Find(cmd.Process.Pid)
			if errors.Is(err, os.ErrNotExist) {
				break
			}
			if err != nil {
				t.Fatalf("Find: %v", err)
			}
		}
		if err := <-waited; err != nil {
			t.Fatal(err)
		}
	}
}

func TestDescendants(t *testing.T) {
	t.Parallel()
	top := run(t, start("line", "3"), 4)
	found, err := Descendants(top)
	if err != nil {
		t.Fatal(err)
	}
	var chain []int
	for _, process := range found {
		chain = append(chain, process.PPID)
	}
	// Each is the child of the one before.
	if len(found) != 3 || !slices.Equal(chain, []int{top, found[0].PID, found[1].PID}) {
		t.Errorf("descendants of %d: %v, children of %v", top, found, chain)
	}

	neglectful := run(t, start("neglect"), 1)
	found, err = Descendants(neglectful)
	if err != nil || len(found) != 1 || !found[0].Zombie || found[0].PPID != neglectful {
		t.Errorf("descendants of %d: %+v, %v; want one zombie", neglectful, found, err)
	}

	own, err := Descendants(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	seen := []int{os.Getpid()}
	for _, process := range own {
		if !slices.Contains(seen, process.PPID) {
			t.Errorf("%v comes before its parent %d", process, process.PPID)
		}
		seen = append(seen, process.PID)
	}
	if !slices.Contains(seen, top) || !slices.Contains(seen, neglectful) {
		t.Errorf("descendants of the test: %v", own)
	}
	leaf := run(t, start("stay"), 1)
	if found, err := Descendants(leaf); err != nil || len(found) != 0 {
		t.Errorf("descendants of %d: %v, %v", leaf, found, err)
	}
}

// TestHeadless: a process lives for as long as its last thread does; the state
// that /proc shows is the first one's.
func TestHeadless(t *testing.T) {
	t.Parallel()
	cmd := start("headless")
	pid := run(t, cmd, 1)
	shown, err := procfs.NewProc(pid)
	if err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(bound); ; {
		stat, err := shown.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if stat.State == "Z" {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("the first thread has not ended: %+v", stat)
		}
	}
	process := find(t, pid)
	if process.Zombie {
		t.Errorf("it lives, and is said to have ended: %+v", process)
	}
	kill(t, process)
	if got := find(t, pid); !got.Zombie {
		t.Errorf("killed: %+v", got)
	}
}

func TestKill(t *testing.T) {
	t.Parallel()
	gone := exec.Command("true")
	if err := gone.Start(); err != nil {
		t.Fatal(err)
	}
	processes := []Process{find(t, gone.Process.Pid)}
	if err := gone.Wait(); err != nil {
		t.Fatal(err)
	}
	stopped := run(t, start("stay"), 1)
	if err := unix.Kill(stopped, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	neglectful := run(t, start("neglect"), 1)
	below, err := Descendants(neglectful)
	if err != nil {
		t.Fatal(err)
	}
	alive := []int{stopped, neglectful}
	for range 5 {
		alive = append(alive, run(t, start("stay"), 1))
	}
	processes = append(processes, below...) // a zombie
	for _, pid := range alive {
		processes = append(processes, find(t, pid))
	}
	kill(t, processes...)
	for _, pid := range alive {
		// Nobody has reaped it.
		if got := find(t, pid); !got.Zombie {
			t.Errorf("after Kill has returned: %+v", got)
		}
	}
	kill(t, processes...) // once more
	kill(t)
}

// TestKillOfAnother: a pid that another process has got meanwhile.
func TestKillOfAnother(t *testing.T) {
	t.Parallel()
	pid := run(t, start("stay"), 1)
	process := find(t, pid)
	former := process
	former.Start--
	kill(t, former)
	if got := find(t, pid); got != process {
		t.Errorf("a process with the pid of one that has ended: %+v, before: %+v", got, process)
	}
}

// TestKillNotAllowed kills, as a user who may not end root's processes, what it may.
func TestKillNotAllowed(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Fatal("the test acts as two users, which takes root")
	}
	roots := find(t, run(t, start("stay"), 1))
	theirs := start("stay")
	theirs.SysProcAttr = nobody
	mine := find(t, run(t, theirs, 1))
	attempt := start("kill", fmt.Sprint(roots.PID), fmt.Sprint(mine.PID))
	attempt.SysProcAttr, attempt.Stdin, attempt.Stdout = nobody, nil, nil
	output, err := attempt.Output()
	if want := fmt.Sprintf("kill exe (pid %d): operation not permitted\n", roots.PID); err == nil || string(output) != want {
		t.Errorf("Kill: %q, %v; want %q", output, err, want)
	}
	if got := find(t, roots.PID); got != roots {
		t.Errorf("a process that it may not kill: %+v", got)
	}
	if got := find(t, mine.PID); !got.Zombie {
		t.Errorf("killed beside another one: %+v", got)
	}
}

func marking(cmd *exec.Cmd, key, value string) *exec.Cmd {
	cmd.Env = append(cmd.Env, key+"="+value)
	return cmd
}

func TestMarked(t *testing.T) {
	t.Parallel()
	const key = "PROCTREE_TEST_MARKED"
	value := fmt.Sprint("a=b:", os.Getpid())
	mine := run(t, marking(start("line", "1"), key, value), 2)
	run(t, marking(start("stay"), key, value+"0"), 1)
	run(t, marking(start("stay"), key+"_TOO", value), 1)
	run(t, marking(start("stay"), "OTHER_"+key, value), 1)
	run(t, start("stay", key+"="+value), 1) // an argument is no mark
	run(t, marking(start("neglect"), key, "neglectful"), 1)

	contained := marking(start("stay"), key, value)
	contained.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	other := run(t, contained, 1)

	var judged []string
	marked := func(want string) (pids []int) {
		found, err := Marked(key, func(value string) bool {
			judged = append(judged, value)
			return value == want
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, process := range found {
			pids = append(pids, process.PID)
			if process.Zombie || process.Start == 0 {
				t.Errorf("marked: %+v", process)
			}
		}
		return pids
	}
	below, err := Descendants(mine)
	if err != nil || len(below) != 1 {
		t.Fatalf("descendants of %d: %v, %v", mine, below, err)
	}
	got, want := marked(value), []int{mine, below[0].PID}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("marked (%d is in another PID namespace): %s", other, diff)
	}
	if !slices.Contains(judged, value+"0") {
		t.Errorf("judged: %q", judged)
	}
	if pids := marked("nobody"); len(pids) != 0 {
		t.Errorf("marked, and judged not to be: %v", pids)
	}
	// Its child, of the same mark, has ended.
	if pids := marked("neglectful"); len(pids) != 1 {
		t.Errorf("marked: %v, want the one that lives", pids)
	}
}

// TestMarkedUnreadable looks as a user who may not look into root's processes.
func TestMarkedUnreadable(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Fatal("the test acts as two users, which takes root")
	}
	const key = "PROCTREE_TEST_UNREADABLE"
	value := fmt.Sprint(os.Getpid())
	run(t, marking(start("stay"), key, value), 1)
	theirs := marking(start("stay"), key, value)
	theirs.SysProcAttr = nobody
	pid := run(t, theirs, 1)
	look := start("marked", key, value)
	look.SysProcAttr, look.Stdin, look.Stdout = nobody, nil, nil
	output, err := look.Output()
	if got, want := strings.TrimSpace(string(output)), fmt.Sprintf("[exe (pid %d)]", pid); err != nil || got != want {
		t.Errorf("marked, for another user: %q, %v; want %q", got, err, want)
	}
}

// TestHandle: a handle leads to one process and to no other that gets its pid.
func TestHandle(t *testing.T) {
	t.Parallel()
	process := find(t, run(t, start("stay"), 1))
	earlier := process
	earlier.Start--
	if _, err := earlier.Open(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a handle to an earlier process with the same pid: %v", err)
	}
	handle, err := process.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	if err := handle.Signal(0); err != nil {
		t.Errorf("whether it may be signalled: %v", err)
	}
	begin := time.Now()
	const short = 50 * time.Millisecond
	if ended, err := handle.Wait(begin.Add(short)); ended || err != nil || time.Since(begin) < short {
		t.Errorf("it lives: %t, %v after %s", ended, err, time.Since(begin))
	}
	if err := handle.Signal(unix.SIGTERM); err != nil {
		t.Error(err)
	}
	if ended, err := handle.Wait(time.Now().Add(bound)); !ended || err != nil {
		t.Errorf("it has got SIGTERM: %t, %v", ended, err)
	}
	// It has ended, and waits to be reaped.
	if err := handle.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a signal for one that has ended: %v", err)
	}
}

func TestDescends(t *testing.T) {
	t.Parallel()
	self, parent := os.Getpid(), os.Getppid()
	for name, test := range map[string]struct {
		pid, ancestor int
		want          bool
	}{
		"itself":      {self, self, true},
		"parent":      {self, parent, true},
		"not a child": {parent, self, false},
		"unknown":     {0, self, false},
		"init":        {1, self, false},
		"ended":       {1 << 30, self, false},
	} {
		if got := Descends(test.pid, test.ancestor); got != test.want {
			t.Errorf("%s: Descends(%d, %d) is %t", name, test.pid, test.ancestor, got)
		}
	}
}
