package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// The roles are the first argument of a test binary that executes itself; go test never gives it such a one.
	keeperRole = "machine-keeper"
	initRole   = "machine-init"
	dialerRole = "machine-dialer"
	noIPv6Role = "machine-without-ipv6"
	searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// plan is what the test binary tells the keeper, and the keeper PID 1.
type plan struct {
	Cgroup2     string // where the host has cgroup2 mounted
	Root        string // the overlay's lower layer
	Systemd     string // below Root
	Console     string // the terminal that becomes /dev/console
	Users       bool
	DisableIPv6 bool
	NoIPv6      bool
	Binds       map[string]string
	Booted      bool // once before: its disk is as it was left
}

func (p *plan) marshal() (string, error) {
	raw, err := json.Marshal(p)
	return string(raw), err
}

// init is where the test binary, executed again, becomes what its first argument says: so it works in every package that
// imports this one, without a TestMain. It matters that it runs on the process's first thread, the only one that is sure to
// stay: the parent-death signal is sent at the death of a thread.
func init() {
	if len(os.Args) != 3 {
		return
	}
	roles := map[string]func(string) error{keeperRole: withPlan(keep), initRole: withPlan(becomeInit), dialerRole: dial, noIPv6Role: runWithoutIPv6}
	run, ok := roles[os.Args[1]]
	if !ok {
		return
	}
	if err := run(os.Args[2]); err != nil {
		fmt.Println(strings.ReplaceAll(fmt.Sprintf("%s: %v", os.Args[1], err), "\n", "; "))
		os.Exit(1)
	}
	os.Exit(0)
}

func withPlan(run func(*plan) error) func(string) error {
	return func(arg string) error {
		p := &plan{}
		if err := json.Unmarshal([]byte(arg), p); err != nil {
			return fmt.Errorf("parse the plan: %w", err)
		}
		return run(p)
	}
}

// keep has the machine live, again after each reboot, and removes it when the lifeline (standard input) closes, a signal comes, or
// PID 1 ends for good.
func keep(p *plan) error {
	// When the test binary has died, writing to it must not end the keeper.
	signal.Ignore(unix.SIGPIPE, unix.SIGHUP)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM)
	groups, err := os.Open(p.Cgroup2) // the disk hides it from this thread
	if err != nil {
		return err
	}
	defer groups.Close()
	if err := makeDisk(); err != nil {
		return err
	}
	told := make(chan byte) // each is a wish of the test's; closed at the end of the lifeline
	go func() {
		defer close(told)
		for wish := make([]byte, 1); ; told <- wish[0] {
			if _, err := os.Stdin.Read(wish); err != nil {
				return
			}
		}
	}()
	for {
		again, err := live(p, groups, signals, told)
		if err != nil || !again {
			return err
		}
		p.Booted = true
	}
}

// powerCut is what a test says on the lifeline to have the machine lose its power, and be booted again.
const powerCut = 'c'

// live makes the machine's cgroup and its PID 1, and removes both at the end. It reports whether the machine is to be booted again.
func live(p *plan, groups *os.File, signals <-chan os.Signal, told <-chan byte) (again bool, err error) {
	dir, err := os.MkdirTemp(fmt.Sprintf("/proc/self/fd/%d", groups.Fd()), "machine-")
	if err != nil {
		return false, fmt.Errorf("make a cgroup: %w: is cgroup2 mounted read-only here?", err)
	}
	defer func() { err = errors.Join(err, removeCgroup(dir)) }()
	// Users of the machine walk through its root cgroup.
	if err := os.Chmod(dir, 0o755); err != nil {
		return false, err
	}
	if err := os.Mkdir(filepath.Join(dir, commandsCgroup), 0o755); err != nil {
		return false, err
	}
	cgroup, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer cgroup.Close()
	self, err := os.Executable()
	if err != nil {
		return false, err
	}
	arg, err := p.marshal()
	if err != nil {
		return false, err
	}
	pid1 := &exec.Cmd{
		Path:   self,
		Args:   []string{self, initRole, arg},
		Env:    selfEnv(),
		Stdin:  start,
		Stdout: os.Stdout,
		Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET,
			// Not among the clone flags: there the namespace's root would be the cgroup of the parent.
			Unshareflags: unix.CLONE_NEWCGROUP,
			UseCgroupFD:  true,
			CgroupFD:     int(cgroup.Fd()),
			Setsid:       true,
			Pdeathsig:    unix.SIGKILL,
		},
	}
	if err := pid1.Start(); err != nil {
		return false, fmt.Errorf("start PID 1 in namespaces of its own: %w", err)
	}
	fmt.Printf("cgroup %s\npid %d\n", filepath.Join(p.Cgroup2, filepath.Base(dir)), pid1.Process.Pid)

	ended := make(chan error, 1)
	go func() { ended <- pid1.Wait() }()
	select {
	case wish := <-told:
		again = wish == powerCut
	case <-signals:
	case err := <-ended:
		// reboot(2): PID 1 of a namespace that asks for a restart ends by SIGHUP.
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == unix.SIGHUP {
			return true, nil
		}
		// The test may have asked for it (systemctl poweroff): said, not held against it.
		fmt.Printf("the machine ended by itself: %v\n", err)
		return false, nil
	}
	if err := pid1.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return false, fmt.Errorf("kill PID 1 of the machine, pid %d: %w", pid1.Process.Pid, err)
	}
	// PID 1 is gone only when everything in its PID namespace is: pid_namespaces(7).
	<-ended
	return again, nil
}

// start is what PID 1 waits at, which gets a byte for each boot.
var start = os.NewFile(3, "start")

// removeCgroup kills what is left in a cgroup, waits until it is empty, and removes it.
func removeCgroup(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0); err != nil {
		return fmt.Errorf("kill what is left of the machine: %w: kernel 5.14 or later is needed", err)
	}
	if err := awaitEmpty(dir); err != nil {
		return err
	}
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	for _, path := range slices.Backward(dirs) {
		err = errors.Join(err, unix.Rmdir(path))
	}
	if err != nil {
		return fmt.Errorf("remove the machine's cgroup %s: %w", dir, err)
	}
	return nil
}

// awaitEmpty returns when no process is in a cgroup or below. The kernel says so with a POLLPRI on cgroup.events:
// Documentation/admin-guide/cgroup-v2.rst.
func awaitEmpty(dir string) error {
	events, err := os.Open(filepath.Join(dir, "cgroup.events"))
	if err != nil {
		return err
	}
	defer events.Close()
	for {
		populated, err := isPopulated(events)
		if err != nil || !populated {
			return err
		}
		poll := []unix.PollFd{{Fd: int32(events.Fd()), Events: unix.POLLPRI}}
		n, err := unix.Poll(poll, int(tearDownBound.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait on %s: %w", events.Name(), err)
		case n == 0:
			return fmt.Errorf("cgroup %s still has processes after %v", dir, tearDownBound)
		}
	}
}

// selfEnv is the environment of the test binary when it executes itself. Built with the race detector, it would sleep a
// second at each exit.
func selfEnv() []string {
	return []string{"PATH=" + searchPath, "GORACE=atexit_sleep_ms=0"}
}
