package spawn

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"openclaw-gateway/passed"
)

// stepKey is set in the environment of this program where it is the one that starts a child and becomes others.
const stepKey = "SPAWN_TEST_STEP"

func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	step, err := strconv.Atoi(os.Getenv(stepKey))
	if err != nil {
		os.Exit(m.Run())
	}
	fmt.Println(Here(func(s Spawner) error { return walk(s, step) }))
}

// walk starts a child at step 0, tries in vain to become what is not there, and becomes this program again and again.
func walk(s Spawner, step int) error {
	var files passed.Files
	reader := os.NewFile(3, "reader")
	if step == 0 {
		child := exec.Command("sleep", "infinity")
		child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		started := make(chan error)
		s <- func() { started <- child.Start() }
		if err := <-started; err != nil {
			return err
		}
		_ = os.Setenv("SPAWN_TEST_CHILD", strconv.Itoa(child.Process.Pid))
		if err := s.Become(Program{Path: "/none/such", Argv: []string{"none"}}, &files); !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("became what is not there: %w", err)
		}
	} else {
		var err error
		if reader, err = passed.Take(3, "reader"); err != nil {
			return err
		}
	}
	fmt.Printf("step %d of %d, child %s\n", step, os.Getpid(), os.Getenv("SPAWN_TEST_CHILD"))
	if step == 3 {
		_, err := io.Copy(io.Discard, reader) // until the test has seen enough
		return err
	}
	if _, err := files.Add(reader); err != nil {
		return err
	}
	_ = os.Setenv(stepKey, strconv.Itoa(step+1))
	return s.Become(Program{Path: "/proc/self/exe", Argv: os.Args, Environ: os.Environ()}, &files)
}

// TestBecome: what was started from the process's first thread lives on when that becomes another program, again and again, and still
// ends when it is killed afterwards.
func TestBecome(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.ExtraFiles, cmd.Stderr = append(os.Environ(), stepKey+"=0"), []*os.File{reader}, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = reader.Close()
	defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
	child := 0
	lines := bufio.NewScanner(out)
	for step := 0; step <= 3; step++ {
		if !lines.Scan() {
			t.Fatalf("it ended before step %d", step)
		}
		if _, err := fmt.Sscanf(lines.Text(), fmt.Sprintf("step %d of %d, child %%d", step, cmd.Process.Pid), &child); err != nil {
			t.Fatalf("step %d: %q: %v", step, lines.Text(), err)
		}
	}
	pidfd, err := unix.PidfdOpen(child, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
	if err != nil || !strings.Contains(string(stat), fmt.Sprintf(" %d ", cmd.Process.Pid)) {
		t.Fatalf("%s: %v", stat, err)
	}
	_ = cmd.Process.Kill()
	polled := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(polled, 10_000)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Poll(polled, 10_000)
	}
	if n != 1 {
		t.Errorf("the child outlives the launcher that was killed: %v", err)
	}
}

// TestBecomeElsewhere: what was started from another thread would end.
func TestBecomeElsewhere(t *testing.T) {
	err := New(t.Context()).Become(Program{Path: "/bin/true"}, new(passed.Files))
	if err == nil || !strings.Contains(err.Error(), "first thread") {
		t.Errorf("%v", err)
	}
}
