package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/worker/cgroup"
	"openclaw-gateway/worker/proctree"
	"openclaw-gateway/worker/tree"
)

// inPlaces runs a test of trees where a cgroup was delegated, and where there is none,
// each time alone, with a reaper.
func inPlaces(t *testing.T, test func(t *testing.T, trees *tree.Trees)) {
	t.Helper()
	run := func(t *testing.T) {
		t.Helper()
		log := slog.New(slog.NewTextHandler(os.Stderr, nil))
		reaper := tree.NewReaper()
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(cancel)
		reaper.Inherit(ctx, log)
		trees := tree.New(log, reaper, t.TempDir())
		trees.Enter()
		test(t, trees)
	}
	t.Run("cgroup", func(t *testing.T) {
		if _, ok := inScratch(t, func(string) {}); ok {
			run(t)
		}
	})
	t.Run("no cgroup", func(t *testing.T) {
		if alone(t, "") {
			run(t)
		}
	})
}

// shell starts a script as the main process of a tree, and returns its pid and those that it writes.
func shell(test *testing.T, t *tree.Tree, script string) (main int, others []int) {
	test.Helper()
	said := fifo(test)
	cmd := exec.Command("/bin/sh", "-c", script+" >"+said+"; wait")
	cmd.Env = append(os.Environ(), t.Environment...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err := t.Start(cmd.SysProcAttr, func() (*os.Process, error) {
		err := cmd.Start()
		return cmd.Process, err
	})
	if err != nil {
		test.Fatal(err)
	}
	return cmd.Process.Pid, pids(test, hear(test, said))
}

func pids(t *testing.T, said string) (pids []int) {
	t.Helper()
	for word := range strings.FieldsSeq(said) {
		var pid int
		if _, err := fmt.Sscan(word, &pid); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// killed kills the main process of the tree and ends the rest.
func killed(test *testing.T, t *tree.Tree, main int) []proctree.Process {
	test.Helper()
	var strays []proctree.Process
	within(test, "the tree ends", func() (err error) {
		if err := syscall.Kill(main, syscall.SIGKILL); err != nil {
			return err
		}
		if err := unix.Waitid(unix.P_PID, main, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
			return err
		}
		strays, err = t.End(main)
		return err
	})
	return strays
}

// plant returns the tree of a generation.
func plant(t *testing.T, trees *tree.Trees, number int) *tree.Tree {
	t.Helper()
	planted, err := trees.Generation(number)
	if err != nil {
		t.Fatal(err)
	}
	return planted
}

// TestTwoTrees ends one of two trees that stand beside each other. What has left its cgroup is told by its mark, what has
// no mark by its parent; and what nothing connects with either ends with the last.
func TestTwoTrees(t *testing.T) {
	inPlaces(t, func(t *testing.T, trees *tree.Trees) {
		one, two := plant(t, trees, 1), plant(t, trees, 2)
		const inside = "sleep 100 >/dev/null & echo $!"
		oneMain, ones := shell(t, one, inside)
		twoMain, twos := shell(t, two, "{ "+inside+"; env -i sleep 100 >/dev/null & echo $!; }")
		// As orphans, below the launcher and in its cgroup.
		ones = append(ones, bystander(t, one.Environment...).Process.Pid)
		twos = append(twos, twoMain, bystander(t, two.Environment...).Process.Pid)
		unmarked := bystander(t).Process.Pid

		strays := killed(t, one, oneMain)
		if len(strays) != len(ones) {
			t.Errorf("strays of the first: %v, want %v", strays, ones)
		}
		for _, pid := range ones {
			if alive(pid) {
				t.Errorf("process %d of the first tree is alive after its end", pid)
			}
		}
		for _, pid := range append(twos, unmarked) {
			if !alive(pid) {
				t.Errorf("process %d has ended with the first tree (second: %v, nobody's: %d)", pid, twos, unmarked)
			}
		}
		strays = killed(t, two, twoMain)
		if len(strays) != len(twos) { // not the main process, but nobody's
			t.Errorf("strays of the second: %v, want %v without %d, and %d", strays, twos, twoMain, unmarked)
		}
		for _, pid := range append(twos[:len(twos)-2], unmarked) {
			if alive(pid) {
				t.Errorf("process %d is alive after the end of the last tree", pid)
			}
		}
	})
}

// TestNobodys: what nothing connects with a generation ends with one that ends, unless the other one can have started it.
func TestNobodys(t *testing.T) {
	inPlaces(t, func(t *testing.T, trees *tree.Trees) {
		trees.HasSocket = func(pid int) bool { // as far as these processes are concerned
			value, _ := proctree.Variable(pid, "HELD")
			return value != ""
		}
		// tick waits until what starts has another start time than what has started.
		tick := func() {
			for now := proctree.Now(); proctree.Now() <= now+1; {
				time.Sleep(time.Millisecond)
			}
		}
		begin := func(t *testing.T, two *tree.Tree) (main int) {
			t.Helper()
			tick()
			main, _ = shell(t, two, "echo")
			tick()
			return main
		}
		nobodys := func(t *testing.T, held string) int { return bystander(t, "HELD="+held).Process.Pid }
		number := 0
		for _, test := range []struct {
			what string
			// nobodys are started beside the first, with the second that has not begun; main is the second's then, 0 for none.
			start  func(t *testing.T, two *tree.Tree) (started, main int)
			spared bool
		}{
			{"the other one is prepared", func(t *testing.T, two *tree.Tree) (int, int) { return nobodys(t, ""), 0 }, false},
			{"the other one has begun since", func(t *testing.T, two *tree.Tree) (int, int) {
				started := nobodys(t, "")
				return started, begin(t, two)
			}, false},
			{"the other one had begun", func(t *testing.T, two *tree.Tree) (int, int) {
				main := begin(t, two)
				return nobodys(t, "1"), main
			}, true},
			{"it has a socket, and the other one has none", func(t *testing.T, two *tree.Tree) (int, int) {
				two.Gate()
				main := begin(t, two)
				return nobodys(t, "1"), main
			}, false},
			{"it has no socket, and the other one has none", func(t *testing.T, two *tree.Tree) (int, int) {
				two.Gate()
				main := begin(t, two)
				return nobodys(t, ""), main
			}, true},
			{"it has a socket, and the other one has got them since", func(t *testing.T, two *tree.Tree) (int, int) {
				two.Gate()
				main := begin(t, two)
				started := nobodys(t, "1")
				tick()
				two.Admit()
				return started, main
			}, false},
			{"it has a socket, and the other one had got them", func(t *testing.T, two *tree.Tree) (int, int) {
				two.Gate()
				main := begin(t, two)
				two.Admit()
				tick()
				return nobodys(t, "1"), main
			}, true},
		} {
			one, two := plant(t, trees, number+1), plant(t, trees, number+2)
			number += 2
			oneMain := begin(t, one)
			started, twoMain := test.start(t, two)
			killed(t, one, oneMain)
			if spared := alive(started); spared != test.spared {
				t.Errorf("%s: it has outlived the first: %v, want %v", test.what, spared, test.spared)
			}
			if twoMain > 0 {
				killed(t, two, twoMain)
			} else if err := two.Drop(); err != nil {
				t.Error(err)
			}
			if alive(started) {
				t.Errorf("%s: it has outlived both", test.what)
			}
		}
	})
}

// TestSession: what has left the control group of a generation, its environment and its parents is known by its session.
func TestSession(t *testing.T) {
	inPlaces(t, func(t *testing.T, trees *tree.Trees) {
		one, two := plant(t, trees, 1), plant(t, trees, 2)
		start := func(of *tree.Tree) (main, orphan int) {
			main, orphans := shell(t, of, "(env -i sleep 100 >/dev/null & echo $!)")
			if path := os.Getenv("GATEWAY_TEST_CGROUP"); path != "" {
				if err := os.WriteFile(filepath.Join(path, cgroup.LauncherName, "cgroup.procs"), fmt.Append(nil, orphans[0]), 0); err != nil {
					t.Fatal(err)
				}
			}
			return main, orphans[0]
		}
		twoMain, twos := start(two)
		oneMain, ones := start(one)
		killed(t, one, oneMain)
		if alive(ones) || !alive(twos) {
			t.Errorf("alive after the end of the first: its own %v, the second's %v", alive(ones), alive(twos))
		}
		killed(t, two, twoMain)
		if alive(twos) {
			t.Error("what the second has started is alive after its end")
		}
	})
}

// TestTreesEndTogether: what is nobody's ends even so when each of two is the last.
func TestTreesEndTogether(t *testing.T) {
	inPlaces(t, func(t *testing.T, trees *tree.Trees) {
		one, two := plant(t, trees, 1), plant(t, trees, 2)
		unmarked := bystander(t).Process.Pid
		// The main process of the second has ended as well.
		two.MainEnded()
		main, _ := shell(t, one, "echo")
		killed(t, one, main)
		if alive(unmarked) {
			t.Error("a process that is nobody's is alive after the end of all")
		}
		if err := two.Drop(); err != nil {
			t.Error(err)
		}
	})
}

// TestRun: a command of the launcher's own ends with its context, with all that it has started, and no generation with it.
func TestRun(t *testing.T) {
	inPlaces(t, func(t *testing.T, trees *tree.Trees) {
		generation, err := trees.Generation(1)
		if err != nil {
			t.Fatal(err)
		}
		main, of := shell(t, generation, "sleep 100 >/dev/null & echo $!")
		said := fifo(t)
		script := "setsid sleep 100 >/dev/null & echo $!; env -i setsid sleep 100 >/dev/null & echo $!; (setsid sleep 100 >/dev/null & echo $!)"
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- trees.Run(ctx, exec.Command("/bin/sh", "-c", "{ "+script+"; } >"+said+"; wait")) }()
		own := pids(t, hear(t, said))
		if len(own) != 3 {
			t.Fatalf("the command has started %v", own)
		}
		select {
		case err := <-ran:
			t.Fatalf("it has ended before its context: %v", err)
		default:
		}
		cancel()
		within(t, "it ends with its context", func() error {
			exit := new(exec.ExitError)
			if err := <-ran; !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				return err
			}
			return nil
		})
		for _, pid := range own {
			if alive(pid) {
				t.Errorf("process %d of the command is alive after its end", pid)
			}
		}
		for _, pid := range append(of, main) {
			if !alive(pid) {
				t.Errorf("process %d of a generation has ended with the command", pid)
			}
		}
		killed(t, generation, main)
		// By itself, with what it leaves.
		said = fifo(t)
		go func() {
			ran <- trees.Run(t.Context(), exec.Command("/bin/sh", "-c", "{ sleep 100 >/dev/null & echo $!; } >"+said+"; exit 9"))
		}()
		own = pids(t, hear(t, said))
		within(t, "it ends by itself", func() error {
			exit := new(exec.ExitError)
			if err := <-ran; !errors.As(err, &exit) || exit.ExitCode() != 9 {
				return fmt.Errorf("it ended with %w, want exit code 9", err)
			}
			return nil
		})
		if alive(own[0]) {
			t.Errorf("process %d is alive after the end of the command that left it", own[0])
		}
		if path := os.Getenv("GATEWAY_TEST_CGROUP"); path != "" {
			if left := groups(t, path); len(left) != 1 || left[0] != cgroup.LauncherName {
				t.Errorf("groups: %v", left)
			}
		}
	})
}
