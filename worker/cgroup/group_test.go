package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"openclaw-gateway/test/cgroups"
	"openclaw-gateway/test/wait"
)

// bound is how long a test waits for what has to happen.
const bound = 30 * time.Second

// scratch makes a group below that of the test.
func scratch(t *testing.T) *Group {
	t.Helper()
	group := &Group{path: cgroups.Scratch(t)}
	t.Cleanup(func() {
		if err := errors.Join(group.Kill(), group.AwaitEmpty(bound), group.Remove()); err != nil {
			t.Error(err)
		}
	})
	return group
}

func nested(t *testing.T, group *Group, names ...string) *Group {
	t.Helper()
	for _, name := range names {
		var err error
		if group, err = group.Make(name); err != nil {
			t.Fatal(err)
		}
	}
	return group
}

// program returns a program of the test binary that will be born in the group.
func program(t *testing.T, group *Group, name string, arguments ...string) *exec.Cmd {
	t.Helper()
	folder, err := group.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { folder.Close() })
	cmd := exec.Command(name, arguments...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(folder.Fd())}
	return cmd
}

// stay starts a process that ends when the first of what it returns is closed.
func stay(t *testing.T, group *Group) (input io.Closer, cmd *exec.Cmd) {
	t.Helper()
	cmd = program(t, group, "/proc/self/exe", programArgument, "stay")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return in, cmd
}

func wantProcesses(t *testing.T, group *Group, want ...int) {
	t.Helper()
	got, err := group.Processes()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("processes of %s: %s", group.Name(), diff)
	}
}

func within(t *testing.T, what string, do func() error) {
	t.Helper()
	wait.Within(t, bound, what, do)
}

func TestMake(t *testing.T) {
	t.Parallel()
	group := scratch(t)
	first := nested(t, group, "generation-1")
	if again := nested(t, group, "generation-1"); again.path != first.path {
		t.Errorf("made twice: %s and %s", first.path, again.path)
	}
	nested(t, group, "generation-2", "below")
	nested(t, group, "launcher")
	children, err := group.Children("generation-")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, child := range children {
		names = append(names, child.Name())
	}
	slices.Sort(names)
	if diff := cmp.Diff([]string{"generation-1", "generation-2"}, names); diff != "" {
		t.Error(diff)
	}
	// cgroup.procs and so on are no groups.
	if files, err := group.Children("cgroup."); err != nil || len(files) > 0 {
		t.Errorf("children named cgroup.: %v, %v", files, err)
	}
	if _, err := (&Group{path: filepath.Join(group.path, "missing")}).Make("below"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("made below a group that is missing: %v", err)
	}
}

func TestProcesses(t *testing.T) {
	t.Parallel()
	group := scratch(t)
	deep := nested(t, group, "generation-1", "a", "b")
	beside := nested(t, group, "generation-2")
	_, one := stay(t, nested(t, group, "generation-1"))
	_, two := stay(t, deep)
	_, three := stay(t, beside)
	wantProcesses(t, group, one.Process.Pid, two.Process.Pid, three.Process.Pid)
	wantProcesses(t, nested(t, group, "generation-1"), one.Process.Pid, two.Process.Pid)
	wantProcesses(t, deep, two.Process.Pid)
	// One that nobody has reaped has ended.
	if err := two.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := deep.AwaitEmpty(bound); err != nil {
		t.Fatal(err)
	}
	wantProcesses(t, deep)
}

// TestThreaded: a worker with a delegated group of its own may make it threaded;
// the processes are then those of the parent.
func TestThreaded(t *testing.T) {
	t.Parallel()
	group := nested(t, scratch(t), "generation-1")
	_, cmd := stay(t, group)
	threads := nested(t, group, "threads")
	if err := os.WriteFile(filepath.Join(threads.path, "cgroup.type"), []byte("threaded"), 0); err != nil {
		t.Fatal(err)
	}
	wantProcesses(t, group, cmd.Process.Pid)
}

// TestKill kills processes each of which starts the next one and ends: a list of
// pids would always be one behind.
func TestKill(t *testing.T) {
	t.Parallel()
	group := nested(t, scratch(t), "generation-1")
	script := filepath.Join(t.TempDir(), "chain")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho next\n\"$0\" &\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for _, place := range []*Group{group, group, nested(t, group, "a", "b")} {
		cmd := program(t, place, "/bin/sh", script)
		cmd.Stdout = writer
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = cmd.Wait() }()
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(reader)
	within(t, "the processes multiply", func() error {
		for range 20 {
			if !lines.Scan() {
				return fmt.Errorf("they have ended: %w", errors.Join(lines.Err(), io.EOF))
			}
		}
		return nil
	})
	if err := group.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := group.AwaitEmpty(bound); err != nil {
		t.Fatal(err)
	}
	wantProcesses(t, group)
	// Every process that was started held the pipe.
	within(t, "the last one has ended", func() error {
		for lines.Scan() {
			continue
		}
		return lines.Err()
	})
	if err := group.Remove(); err != nil {
		t.Error(err)
	}
}

func TestAwaitEmpty(t *testing.T) {
	t.Parallel()
	group := nested(t, scratch(t), "generation-1")
	if err := group.AwaitEmpty(0); err != nil {
		t.Errorf("a group that never had a process: %v", err)
	}
	input, _ := stay(t, nested(t, group, "a", "b"))
	began := time.Now()
	if err := group.AwaitEmpty(50 * time.Millisecond); !errors.Is(err, ErrPopulated) || time.Since(began) < 49*time.Millisecond {
		t.Errorf("a group with a process, after %s: %v", time.Since(began), err)
	}
	if err := group.Remove(); !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "generation-1/a/b") {
		t.Errorf("removed with a process in it: %v", err)
	}
	empty := make(chan error, 1)
	go func() { empty <- group.AwaitEmpty(time.Hour) }()
	select {
	case err := <-empty:
		t.Fatalf("empty before its process has ended: %v", err)
	default:
	}
	if err := input.Close(); err != nil {
		t.Fatal(err)
	}
	within(t, "the group is empty", func() error { return <-empty })
}

// TestAwaitEmptyOfFrozen: events that say something else do not begin the wait anew.
func TestAwaitEmptyOfFrozen(t *testing.T) {
	t.Parallel()
	group := nested(t, scratch(t), "generation-1")
	stay(t, group)
	over, toggled := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 1; ; i++ {
			select {
			case <-over:
				toggled <- os.WriteFile(filepath.Join(group.path, "cgroup.freeze"), []byte("0"), 0)
				return
			default:
			}
			if err := os.WriteFile(filepath.Join(group.path, "cgroup.freeze"), fmt.Append(nil, i%2), 0); err != nil {
				toggled <- err
				return
			}
		}
	}()
	within(t, "the bound is reached", func() error {
		if err := group.AwaitEmpty(300 * time.Millisecond); !errors.Is(err, ErrPopulated) {
			return fmt.Errorf("it ended with %w", err)
		}
		return nil
	})
	close(over)
	if err := <-toggled; err != nil {
		t.Error(err)
	}
}

// TestVanish walks a group in which others come and go.
func TestVanish(t *testing.T) {
	t.Parallel()
	group := nested(t, scratch(t), "generation-1")
	_, cmd := stay(t, group)
	over, walked := make(chan struct{}), make(chan error, 1)
	rounds := 0
	go func() {
		for {
			select {
			case <-over:
				walked <- nil
				return
			default:
			}
			below, err := group.Make("a")
			if err == nil {
				_, err = below.Make("b")
			}
			if err = errors.Join(err, below.Remove()); err != nil {
				walked <- err
				return
			}
			rounds++
		}
	}()
	for range 2000 {
		wantProcesses(t, group, cmd.Process.Pid)
		if t.Failed() {
			break
		}
	}
	close(over)
	if err := <-walked; err != nil || rounds < 10 {
		t.Errorf("after %d groups: %v", rounds, err)
	}
}

func TestVanished(t *testing.T) {
	t.Parallel()
	group := nested(t, scratch(t), "generation-1")
	if err := group.Remove(); err != nil {
		t.Fatal(err)
	}
	wantProcesses(t, group)
	for name, do := range map[string]func() error{
		"Kill": group.Kill, "AwaitEmpty": func() error { return group.AwaitEmpty(0) }, "Remove": group.Remove,
	} {
		if err := do(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := group.Open(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open: %v", err)
	}
	if _, err := group.Children(""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Children: %v", err)
	}
}

// TestMissingFile: what Kill relies on to tell a group that has vanished from a
// kernel that cannot kill it.
func TestMissingFile(t *testing.T) {
	t.Parallel()
	err := os.WriteFile(filepath.Join(scratch(t).path, "cgroup.missing"), nil, 0)
	if err == nil || vanished(err) {
		t.Errorf("write a file that a group does not have: %v", err)
	}
}

func TestRemoveNested(t *testing.T) {
	t.Parallel()
	group := nested(t, scratch(t), "generation-1")
	for _, path := range [][]string{{"a", "b", "c"}, {"a", "d"}, {"e"}} {
		nested(t, group, path...)
	}
	if err := group.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(group.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the group is there: %v", err)
	}
}

func TestDelegated(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		attribute, value string   // of the scratch group
		place            []string // of the process below it
		delegated        bool
	}{
		"itself":          {"user.delegate", "1", nil, true},
		"before 251":      {"trusted.delegate", "1", nil, true},
		"one level below": {"user.delegate", "1", []string{"launcher"}, true},
		"in another's":    {"user.delegate", "1", []string{"main"}, false},
		"two levels":      {"user.delegate", "1", []string{"main", "launcher"}, false},
		"not":             {"user.delegate", "0", []string{"launcher"}, false},
		"something else":  {"user.invocation_id", "1", []string{"launcher"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			group := scratch(t)
			if err := unix.Setxattr(group.path, test.attribute, []byte(test.value), 0); err != nil {
				t.Fatal(err)
			}
			output, err := program(t, nested(t, group, test.place...), "/proc/self/exe", programArgument, "delegated").Output()
			if test.delegated && (err != nil || string(output) != group.path) {
				t.Errorf("delegated: %q, %v; want %s", output, err, group.path)
			}
			if !test.delegated && string(output) != ErrNotDelegated.Error() {
				t.Errorf("delegated: %q, want %q", output, ErrNotDelegated)
			}
		})
	}
}

// TestDelegatedByUserManager: only the system's manager marks a group, so that of
// a user's service is known by its place and its process.
func TestDelegatedByUserManager(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	mine := fmt.Sprintf("user@%d.service", os.Geteuid())
	for name, test := range map[string]struct {
		manager   string
		place     []string // of the process below the manager's
		executed  string   // by systemd: the process, in the shell's words
		marked    string
		delegated bool
	}{
		"service":          {mine, []string{"app.slice", "a.service"}, "$$", "1", true},
		"one level below":  {mine, []string{"app.slice", "a.service", "launcher"}, "$$", "1", true},
		"in a terminal":    {mine, []string{"app.slice", "a.service"}, "1", "1", false},
		"scope":            {mine, []string{"app.slice", "a.scope"}, "$$", "1", false},
		"manager unmarked": {mine, []string{"app.slice", "a.service"}, "$$", "0", false},
		"another user's":   {"user@12345.service", []string{"app.slice", "a.service"}, "$$", "1", false},
		"the system's":     {"system.slice", []string{"a.service"}, "$$", "0", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			manager := nested(t, scratch(t), test.manager)
			if err := unix.Setxattr(manager.path, "user.delegate", []byte(test.marked), 0); err != nil {
				t.Fatal(err)
			}
			group := nested(t, manager, test.place...)
			script := "SYSTEMD_EXEC_PID=" + test.executed + ` exec "$@"`
			output, err := program(t, group, "/bin/sh", "-c", script, "sh", self, programArgument, "delegated").Output()
			want := strings.TrimSuffix(group.path, "/launcher")
			if test.delegated && (err != nil || string(output) != want) {
				t.Errorf("delegated: %q, %v; want %s", output, err, want)
			}
			if !test.delegated && string(output) != ErrNotDelegated.Error() {
				t.Errorf("delegated: %q, want %q", output, ErrNotDelegated)
			}
		})
	}
}

func TestEnter(t *testing.T) {
	t.Parallel()
	group := scratch(t)
	if err := unix.Setxattr(group.path, "user.delegate", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	cmd := program(t, group, "/proc/self/exe", programArgument, "enter")
	output, err := cmd.Output()
	if want := fmt.Sprint([]int{cmd.Process.Pid}); err != nil || string(output) != want {
		t.Errorf("processes of the group that it entered: %q, %v; want %s", output, err, want)
	}
}

// TestBirths: whatever the error is with which clone3 is refused, it is told from one of the program that was to be executed.
func TestBirths(t *testing.T) {
	t.Parallel()
	group := scratch(t)
	if !group.Births() {
		t.Error("nothing can be born in a group, says it where it can")
	}
	for _, refusal := range []unix.Errno{unix.ENOSYS, unix.EPERM, unix.EINVAL, unix.E2BIG, unix.EACCES, unix.ENOENT, unix.EOPNOTSUPP} {
		refused := make(chan bool)
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with its filter
			cgroups.RefuseBirth(t, refusal, 0)
			refused <- group.Births()
		}()
		if <-refused {
			t.Errorf("%v: a group in which nothing can be born is said to be one", refusal)
		}
	}
	wantProcesses(t, group)
	if gone := (&Group{path: filepath.Join(group.path, "gone")}); gone.Births() {
		t.Error("something can be born in a group that is not there")
	}
}

func TestAdd(t *testing.T) {
	t.Parallel()
	group := scratch(t)
	here, there := nested(t, group, "here"), nested(t, group, "there")
	_, cmd := stay(t, here)
	if err := there.Add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	wantProcesses(t, here)
	wantProcesses(t, there, cmd.Process.Pid)
	if err := (&Group{path: filepath.Join(group.path, "gone")}).Add(cmd.Process.Pid); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("moved into a group that is not there: %v", err)
	}
}
