package leader

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const bound = 30 * time.Second

func start(t *testing.T) *os.Process {
	t.Helper()
	child := exec.Command("sleep", "infinity")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Process.Kill() })
	return child.Process
}

// awaited is closed when the leader has ended, as far as it says.
func awaited(l *Leader) chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.Await(func() {})
	}()
	return ended
}

func await(t *testing.T, ended <-chan struct{}) {
	t.Helper()
	select {
	case <-ended:
	case <-time.After(bound):
		t.Fatal("its end is not noticed")
	}
}

// TestResume: who is held ends for nobody until he is released, and the next program, which finds him ended or not, is told how he has.
func TestResume(t *testing.T) {
	t.Parallel()
	for _, before := range []bool{true, false} {
		process := start(t)
		first := New(process, func(int) { t.Error("the one before has reaped it") })
		ended := awaited(first)
		release, err := first.Hold()
		if err != nil {
			t.Fatal(err)
		}
		if before {
			if err := process.Kill(); err != nil {
				t.Fatal(err)
			}
			await(t, first.current.ended) // it knows, and must not tell
		}
		var reaped []int
		again, err := os.FindProcess(process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		next, err := Resume(again, func(pid int) { reaped = append(reaped, pid) })
		if err != nil {
			t.Fatal(err)
		}
		if next.Process().Pid != process.Pid {
			t.Errorf("it follows %d", next.Process().Pid)
		}
		if !before {
			if err := process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		await(t, awaited(next))
		if state, err := next.Reap(); err != nil || state.Sys().(interface{ Signal() unix.Signal }).Signal() != unix.SIGKILL {
			t.Errorf("%v, %v", state, err)
		}
		if len(reaped) != 1 || reaped[0] != process.Pid {
			t.Errorf("reaped are %v", reaped)
		}
		select {
		case <-ended:
			t.Error("it was said to have ended while it was held")
		default:
		}
		release()
		await(t, ended)
		if _, err := first.Hold(); err == nil || !strings.Contains(err.Error(), "has ended") {
			t.Errorf("one that has ended is held: %v", err)
		}
	}
}

// TestHoldTwo: while there are two to follow, nothing is passed on; when the first one has gone, it is.
func TestHoldTwo(t *testing.T) {
	t.Parallel()
	old, process := start(t), start(t)
	gone := make(chan struct{})
	l := New(old, func(int) { close(gone) })
	if err := l.Follow(process); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Hold(); err == nil || !strings.Contains(err.Error(), "MAINPID=") {
		t.Errorf("two are held: %v", err)
	}
	if err := old.Kill(); err != nil {
		t.Fatal(err)
	}
	await(t, gone)
	l.retired.Wait()
	release, err := l.Hold()
	if err != nil {
		t.Fatal(err)
	}
	release()
	if l.Process() != process {
		t.Errorf("it follows %d", l.Process().Pid)
	}
}

// TestStatus: how a child has ended is known before anybody waits for it.
func TestStatus(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]int{"exit 0": 0, "exit 78": 78, "kill -KILL $$": -1} {
		child := exec.Command("sh", "-c", script)
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		for errors.Is(unix.Waitid(unix.P_PID, child.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
		}
		if got := Status(child.Process.Pid); got != want {
			t.Errorf("%s: %d, want %d", script, got, want)
		}
		_ = child.Wait()
		if got := Status(child.Process.Pid); got != -1 {
			t.Errorf("%s, and it was waited for: %d, want -1", script, got)
		}
	}
}
