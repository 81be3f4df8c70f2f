package worker

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"openclaw-gateway/test/cgroups"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/proctree"
	"openclaw-gateway/worker/tree"
)

func TestNames(t *testing.T) {
	t.Parallel()
	var processes []proctree.Process
	for pid := range 12 {
		processes = append(processes, proctree.Process{PID: pid, Name: "node"})
	}
	ten := "node (pid 0), node (pid 1), node (pid 2), node (pid 3), node (pid 4), " +
		"node (pid 5), node (pid 6), node (pid 7), node (pid 8), node (pid 9)"
	for count, want := range map[int]string{0: "", 1: "node (pid 0)", 10: ten, 11: ten + ", and 1 more", 12: ten + ", and 2 more"} {
		if got := tree.Names(processes[:count]); got != want {
			t.Errorf("%d processes: %q, want %q", count, got, want)
		}
	}
}

// bystander starts a process that only its environment connects with a launcher.
func bystander(t *testing.T, environment ...string) *exec.Cmd {
	t.Helper()
	line := command(t, "deaf")
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(os.Environ(), append(environment, quietRace)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	return cmd
}

func find(t *testing.T, pid int) proctree.Process {
	t.Helper()
	process, err := proctree.Find(pid)
	if err != nil {
		t.Fatal(err)
	}
	return process
}

func TestSweep(t *testing.T) {
	t.Parallel()
	directory := filepath.Join(t.TempDir(), "run:1:2")
	mark := func(directory string, launcher proctree.Process) string {
		return proctree.MarkKey + "=" + (proctree.Mark{Directory: directory, Launcher: launcher}).String()
	}
	self := find(t, os.Getpid())
	dead := exec.Command("true")
	if err := dead.Start(); err != nil {
		t.Fatal(err)
	}
	past := find(t, dead.Process.Pid)
	if err := dead.Wait(); err != nil {
		t.Fatal(err)
	}
	zombie := exec.Command("true")
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = zombie.Wait() })
	unreaped := find(t, zombie.Process.Pid)
	if err := unix.Waitid(unix.P_PID, zombie.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	reused := self
	reused.Start--

	left := map[string]*exec.Cmd{
		"of a dead launcher":            bystander(t, mark(directory, past)),
		"of one that nobody has reaped": bystander(t, mark(directory, unreaped)),
		"of one whose pid was reused":   bystander(t, mark(directory, reused)),
	}
	others := map[string]*exec.Cmd{
		"of a living launcher":      bystander(t, mark(directory, self)),
		"of another directory":      bystander(t, mark(directory+"0", past)),
		"of a directory above":      bystander(t, mark(filepath.Dir(directory), past)),
		"without a mark":            bystander(t),
		"with half a mark":          bystander(t, proctree.MarkKey+"="+directory),
		"with a mark of no process": bystander(t, proctree.MarkKey+"="+directory+":one:2"),
	}
	log := new(lockedBuffer)
	within(t, "the sweep ends", func() error {
		return tree.Sweep(slog.New(slog.NewTextHandler(log, nil)), directory)
	})
	for name, cmd := range left {
		if alive(cmd.Process.Pid) {
			t.Errorf("a process %s is alive", name)
		}
		if who := fmt.Sprintf("(pid %d)", cmd.Process.Pid); !strings.Contains(log.String(), who) {
			t.Errorf("a process %s is not in the log: %s", name, log)
		}
	}
	for name, cmd := range others {
		if !alive(cmd.Process.Pid) {
			t.Errorf("a process %s has been killed", name)
		}
	}
	if !strings.Contains(log.String(), "strays=3") {
		t.Errorf("log: %s", log)
	}
	if before := log.String(); tree.Sweep(slog.New(slog.NewTextHandler(log, nil)), directory) != nil || log.String() != before {
		t.Errorf("swept again: %s", log)
	}
}

// TestEndOfMarked: without a reaper, strays are found by the launcher's mark.
func TestEndOfMarked(t *testing.T) {
	t.Parallel()
	discard := slog.New(slog.DiscardHandler)
	own, other := tree.New(discard, nil, t.TempDir()), tree.New(discard, nil, t.TempDir())
	planted, err := own.Generation(1)
	if err != nil {
		t.Fatal(err)
	}
	main := bystander(t, proctree.MarkKey+"="+own.Mark())
	strays := []int{bystander(t, proctree.MarkKey+"="+own.Mark()).Process.Pid, bystander(t, proctree.MarkKey+"="+own.Mark()).Process.Pid}
	stranger := bystander(t, proctree.MarkKey+"="+other.Mark())
	ended, err := planted.End(main.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, process := range ended {
		got = append(got, process.PID)
	}
	slices.Sort(got)
	slices.Sort(strays)
	if diff := cmp.Diff(strays, got); diff != "" {
		t.Errorf("strays: %s", diff)
	}
	if slices.ContainsFunc(strays, alive) || !alive(main.Process.Pid) || !alive(stranger.Process.Pid) {
		t.Errorf("alive: strays %v, %v; main process %v, another launcher's %v",
			alive(strays[0]), alive(strays[1]), alive(main.Process.Pid), alive(stranger.Process.Pid))
	}
}

// alone runs the test that calls it in a process of its own, whose children are
// nobody else's, and returns true there. The directory of a cgroup makes that
// process be born in it.
func alone(t *testing.T, cgroup string) bool {
	t.Helper()
	const key = "GATEWAY_TEST_ALONE"
	if os.Getenv(key) == t.Name() {
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$")
	cmd.Env = append(os.Environ(), key+"="+t.Name())
	cmd.WaitDelay = bound
	if cgroup != "" {
		folder, err := os.Open(cgroup)
		if err != nil {
			t.Fatal(err)
		}
		defer folder.Close()
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(folder.Fd())}
	}
	output, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(output), "--- PASS: "+t.Name()) {
		t.Errorf("in a process of its own: %v\n%s", err, output)
	}
	return false
}

// detach has the worker start a program that leaves its tree, and returns its pid.
func (r *rig) detach(program string) int {
	r.t.Helper()
	answer, err := r.get("/detach/" + program)
	if err != nil {
		r.t.Fatal(err)
	}
	pid, err := strconv.Atoi(answer)
	if err != nil {
		r.t.Fatal(err)
	}
	return pid
}

func TestOrphansAreReaped(t *testing.T) {
	t.Parallel()
	if !alone(t, "") {
		return
	}
	r := newRig(t, command(t, "serve"))
	r.options.Alone = true
	r.run()
	ready := r.await(Ready)
	for range 3 {
		pid := r.detach("exit")
		within(t, "the orphan is reaped", func() error {
			for {
				// It is the worker's end that must not be waited for, so there is
				// no event but that it has gone.
				if _, err := proctree.Find(pid); errors.Is(err, os.ErrNotExist) {
					return nil
				} else if err != nil {
					return err
				}
			}
		})
	}
	if !alive(ready.PID) {
		t.Errorf("worker %d has ended", ready.PID)
	}
	r.wantAnswer("/", "generation 1,")
}

func TestStrays(t *testing.T) {
	t.Parallel()
	if !alone(t, "") {
		return
	}
	r := newRig(t, command(t, "serve"))
	r.options.Alone = true
	r.run()
	r.await(Ready)
	pid := r.detach("deaf")
	if !alive(pid) {
		t.Fatalf("process %d is not there", pid)
	}
	r.exit(3)
	s := r.await(BackingOff)
	if strays := s.LastExit.Strays; len(strays) != 1 || strays[0].PID != pid || s.LastExit.Code != 3 || s.LastExit.Detail != "" {
		t.Errorf("end of the generation: %+v, want %d as its stray", s.LastExit, pid)
	}
	if _, err := proctree.Find(pid); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stray %d: %v", pid, err)
	}
	if !strings.Contains(r.log.String(), fmt.Sprintf("(pid %d)", pid)) {
		t.Errorf("the stray is not in the log: %s", r.log)
	}
	r.want(r.outcome(r.supervisor.Restart(false)))
	s = r.ended()
	if len(s.LastExit.Strays) != 0 {
		t.Errorf("end of the generation that left nobody: %+v", s.LastExit)
	}
}

// TestOthersAreSpared: what the launcher has started itself, and what was there
// before it, does not end with a generation, and its end is not stolen.
func TestOthersAreSpared(t *testing.T) {
	t.Parallel()
	if !alone(t, "") {
		return
	}
	before := exec.Command("cat")
	input, err := before.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := before.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		input.Close()
		_ = before.Wait() // it may have been reaped, as an orphan that ends
	}()
	r := newRig(t, command(t, "serve"))
	r.options.Alone = true
	r.run()
	r.await(Ready)
	here, gate := fifo(t), fifo(t)
	own := make(chan error, 1)
	go func() {
		own <- r.supervisor.Exec(t.Context(), exec.Command("/bin/sh", "-c", "(read line < "+gate+") & echo > "+here+"; wait; exit 9"))
	}()
	hear(t, here)
	r.exit(3)
	if s := r.await(BackingOff); len(s.LastExit.Strays) != 0 {
		t.Errorf("end of the generation: %+v, want no strays", s.LastExit)
	}
	if !alive(before.Process.Pid) {
		t.Error("a process that was there before the launcher has ended with a generation")
	}
	open(t, gate)
	within(t, "the command of the launcher's own ends", func() error {
		var exit *exec.ExitError
		if err := <-own; !errors.As(err, &exit) || exit.ExitCode() != 9 {
			return fmt.Errorf("it ended with %w, want exit code 9", err)
		}
		return nil
	})
	if err := r.supervisor.Exec(t.Context(), exec.Command("/nowhere")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a command that is not there: %v", err)
	}
	r.ended()
}

// TestMainProcessIsNotStolen: the end of the main process is for package os,
// however many orphans end with it.
func TestMainProcessIsNotStolen(t *testing.T) {
	t.Parallel()
	if !alone(t, "") {
		return
	}
	r := newRig(t, []string{"/bin/sh", "-c", "(true & true &); exit 7"})
	// Without the shim, which is slow to start with the race detector in it.
	r.spec.Handoff = handoff.Preload
	r.options.Alone = true
	r.spec.Backoff.Min, r.spec.Backoff.Max = 1, 1
	r.run()
	for generation := 1; generation <= 100; generation++ {
		s := r.await(BackingOff)
		if e := s.LastExit; e.Generation != generation || e.Code != 7 || e.Detail != "" || s.Failures != generation {
			t.Fatalf("end of generation %d: %+v", generation, e)
		}
	}
	r.ended()
	within(t, "every orphan is reaped", func() error {
		left, err := proctree.Descendants(os.Getpid())
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("left: %v", left)
		}
		return err
	})
}

// scratch makes a cgroup below that of the test, as if it had been delegated.
func scratch(t *testing.T) string {
	t.Helper()
	path := cgroups.Scratch(t)
	if err := unix.Setxattr(path, "user.delegate", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	return path
}

// inScratch runs the test alone, in a cgroup that was delegated to it, and
// returns that one there.
func inScratch(t *testing.T, prepare func(path string)) (path string, ok bool) {
	t.Helper()
	const key = "GATEWAY_TEST_CGROUP"
	if path := os.Getenv(key); path != "" {
		return path, true
	}
	path = scratch(t)
	prepare(path)
	t.Setenv(key, path)
	alone(t, path)
	return "", false
}

func members(t *testing.T, group string) []string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(content))
}

func groups(t *testing.T, path string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names
}

func TestCgroup(t *testing.T) {
	path, ok := inScratch(t, func(string) {})
	if !ok {
		return
	}
	r := newRig(t, command(t, "serve"))
	r.options.Alone = true
	r.run()
	worker := r.await(Ready)
	stray := r.detach("deaf")
	if diff := cmp.Diff([]string{fmt.Sprint(os.Getpid())}, members(t, filepath.Join(path, "launcher"))); diff != "" {
		t.Errorf("the launcher's own: %s", diff)
	}
	got, want := members(t, filepath.Join(path, "generation-1")), []string{fmt.Sprint(worker.PID), fmt.Sprint(stray)}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the generation's: %s", diff)
	}
	r.want(r.outcome(r.supervisor.Restart(false)))
	s := r.await(Ready)
	if strays := s.LastExit.Strays; len(strays) != 1 || strays[0].PID != stray || alive(stray) {
		t.Errorf("end of the generation: %+v, want %d as its stray", s.LastExit, stray)
	}
	if diff := cmp.Diff([]string{"generation-2", "launcher"}, groups(t, path)); diff != "" {
		t.Errorf("groups: %s", diff)
	}
	r.ended()
	if diff := cmp.Diff([]string{"launcher"}, groups(t, path)); diff != "" {
		t.Errorf("groups at the end: %s", diff)
	}
}

// TestCgroupWithoutBirth: where nothing can be born in a cgroup, the worker is in its own before
// anything of it runs, a command of the launcher's too, and what cannot be executed is told as ever.
func TestCgroupWithoutBirth(t *testing.T) {
	path, ok := inScratch(t, func(string) {})
	if !ok {
		return
	}
	// The one error that pthread_create(3), of a program with the race detector, takes for what it is.
	cgroups.RefuseBirth(t, unix.ENOSYS, unix.SECCOMP_FILTER_FLAG_TSYNC)
	first := filepath.Join(t.TempDir(), "first")
	script := "cat /proc/self/cgroup >" + first + `; exec "$@"`
	r := newRig(t, append([]string{"/bin/sh", "-c", script, "sh"}, command(t, "serve")...))
	r.options.Alone = true
	r.run()
	worker := r.await(Ready)
	stray := r.detach("deaf")
	began := func(generation int) {
		t.Helper()
		content, err := os.ReadFile(first)
		if want := fmt.Sprintf("/generation-%d\n", generation); err != nil || !strings.HasSuffix(string(content), want) {
			t.Errorf("the first that the worker did, it did in %q, %v; want ...%s", content, err, want)
		}
	}
	began(1)
	got, want := members(t, filepath.Join(path, "generation-1")), []string{fmt.Sprint(worker.PID), fmt.Sprint(stray)}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the generation's: %s", diff)
	}
	gate := fifo(t)
	place := filepath.Join(t.TempDir(), "place")
	own := make(chan error, 1)
	go func() {
		own <- r.supervisor.Exec(t.Context(), exec.Command("/bin/sh", "-c", "read line < "+gate+"; cat /proc/self/cgroup >"+place))
	}()
	within(t, "the command is in its cgroup", func() error {
		for { // there is no event but that it is there
			content, err := os.ReadFile(filepath.Join(path, "command-1", "cgroup.procs"))
			if len(content) > 0 || (err != nil && !errors.Is(err, os.ErrNotExist)) {
				return err
			}
		}
	})
	open(t, gate)
	r.want(<-own)
	if content, err := os.ReadFile(place); err != nil || !strings.HasSuffix(string(content), "/command-1\n") {
		t.Errorf("a command of the launcher's own was in %q, %v", content, err)
	}

	r.want(r.outcome(r.supervisor.Restart(false)))
	if s := r.await(Ready); len(s.LastExit.Strays) != 1 || s.LastExit.Strays[0].PID != stray || alive(stray) {
		t.Errorf("end of the generation: %+v, want %d as its stray", s.LastExit, stray)
	}
	began(2)
	r.ended()

	// A handoff that needs no shim gets one.
	r = newRig(t, []string{"/bin/sh", "-c", "cat /proc/self/cgroup >" + first + "; exit 7"})
	r.spec.Handoff, r.options.Alone = handoff.Preload, true
	r.run()
	if s := r.await(BackingOff); s.LastExit.Code != 7 {
		t.Errorf("end of the generation: %+v, want exit code 7", s.LastExit)
	}
	began(1)
	r.ended()
	if diff := cmp.Diff([]string{"launcher"}, groups(t, path)); diff != "" {
		t.Errorf("groups at the end: %s", diff)
	}
	if diff := cmp.Diff([]string{fmt.Sprint(os.Getpid())}, members(t, filepath.Join(path, "launcher"))); diff != "" {
		t.Errorf("the launcher's own: %s", diff)
	}
}

// TestNoCgroup: in a group that cannot be divided for processes the worker is
// started all the same.
func TestNoCgroup(t *testing.T) {
	path, ok := inScratch(t, func(path string) {
		// Beside a threaded group the others are invalid until they are threaded too.
		threads := filepath.Join(path, "threads")
		err := os.Mkdir(threads, 0o755)
		if err := errors.Join(err, os.WriteFile(filepath.Join(threads, "cgroup.type"), []byte("threaded"), 0)); err != nil {
			t.Fatal(err)
		}
	})
	if !ok {
		return
	}
	r := newRig(t, command(t, "serve"))
	r.options.Alone = true
	r.run()
	worker := r.await(Ready)
	if !slices.Contains(members(t, path), fmt.Sprint(worker.PID)) {
		t.Errorf("worker %d is not beside the launcher: %v", worker.PID, members(t, path))
	}
	stray := r.detach("deaf")
	if s := r.ended(); len(s.LastExit.Strays) != 1 || alive(stray) {
		t.Errorf("end of the generation: %+v, want %d as its stray", s.LastExit, stray)
	}
	r.awaitLog("found by descent")
}

// TestSweepCgroup sweeps what a launcher has left in the cgroup of its unit, and
// nothing while a launcher lives in it.
func TestSweepCgroup(t *testing.T) {
	path, ok := inScratch(t, func(path string) {
		for _, name := range []string{"launcher", "generation-7", "generation-7/below", "generation-8", "other"} {
			if err := os.Mkdir(filepath.Join(path, name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	})
	if !ok {
		return
	}
	put := func(name string) *exec.Cmd {
		t.Helper()
		cmd := bystander(t)
		err := os.WriteFile(filepath.Join(path, name, "cgroup.procs"), []byte(fmt.Sprint(cmd.Process.Pid)), 0)
		if err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	launcher, stray, other := put("launcher"), put("generation-7/below"), put("other")
	log := new(lockedBuffer)
	sweep := func() {
		t.Helper()
		within(t, "the sweep ends", func() error {
			return tree.Sweep(slog.New(slog.NewTextHandler(io.MultiWriter(log, os.Stderr), nil)), t.TempDir())
		})
	}
	sweep()
	all := []string{"generation-7", "generation-8", "launcher", "other"}
	if diff := cmp.Diff(all, groups(t, path)); diff != "" || !alive(stray.Process.Pid) || log.String() != "" {
		t.Errorf("swept while another launcher lives: %s\n%s", log, diff)
	}
	trees := tree.New(slog.New(slog.DiscardHandler), tree.NewReaper(), t.TempDir())
	trees.Enter()
	planted := plant(t, trees, 9)
	if diff := cmp.Diff(all, groups(t, path)); diff != "" {
		t.Errorf("shared with another launcher: %s", diff)
	}
	if err := planted.Drop(); err != nil {
		t.Error(err)
	}
	if err := launcher.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = launcher.Wait() // killed
	sweep()
	if diff := cmp.Diff([]string{"launcher", "other"}, groups(t, path)); diff != "" {
		t.Errorf("groups: %s", diff)
	}
	if alive(stray.Process.Pid) || !alive(other.Process.Pid) {
		t.Errorf("alive: the stray %v, another process %v", alive(stray.Process.Pid), alive(other.Process.Pid))
	}
	if text := log.String(); !strings.Contains(text, "generation-7") || !strings.Contains(text, fmt.Sprintf("(pid %d)", stray.Process.Pid)) {
		t.Errorf("log: %s", text)
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait() // killed
}
