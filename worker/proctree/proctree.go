// Package proctree is what can be known of a process from outside: its parent and
// those that descend from it, its user, unit and command line, and the launcher
// whose worker it is. A process is named by its pid and start time together, which
// no other process ever shares, and is signalled through a pidfd.
package proctree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// Process is one process.
type Process struct {
	PID, PPID int
	// Start is in clock ticks since boot: field 22 of /proc/PID/stat (proc(5)).
	Start uint64
	// Session is the pid of the process that has made its session (setsid(2)), which no other process gets while one is in it; 0 where
	// that is not of this PID namespace.
	Session int
	// Name is the kernel's short name for it.
	Name string
	// Zombie says that it has ended, to its last thread, and waits to be reaped
	// by its parent.
	Zombie bool
}

func (p Process) String() string { return fmt.Sprintf("%s (pid %d)", p.Name, p.PID) }

// Find returns the process that has the pid now. One that does not exist is
// os.ErrNotExist.
func Find(pid int) (Process, error) {
	process, err := procfs.NewProc(pid)
	if err != nil {
		return Process{}, err
	}
	return describe(process)
}

func describe(process procfs.Proc) (Process, error) {
	stat, err := process.Stat()
	// It was there when the file was opened, and not when it was read.
	if errors.Is(err, unix.ESRCH) {
		return Process{}, fmt.Errorf("process %d: %w", process.PID, os.ErrNotExist)
	}
	if err != nil {
		return Process{}, err
	}
	// The state is the first thread's, which the others can outlive.
	ended := (stat.State == "Z" || stat.State == "X") && stat.NumThreads <= 1
	return Process{PID: stat.PID, PPID: stat.PPID, Start: stat.Starttime, Session: stat.Session, Name: stat.Comm, Zombie: ended}, nil
}

// all lists every process, as far as it lives while it is looked at.
func all() ([]Process, error) {
	found, err := procfs.AllProcs()
	if err != nil {
		return nil, fmt.Errorf("list the processes: %w", err)
	}
	processes := make([]Process, 0, len(found))
	for _, process := range found {
		if described, err := describe(process); err == nil {
			processes = append(processes, described)
		}
	}
	return processes, nil
}

// Descendants returns the processes below pid, zombies included, children before
// grandchildren.
func Descendants(pid int) ([]Process, error) {
	processes, err := all()
	if err != nil {
		return nil, err
	}
	children := map[int][]Process{}
	for _, process := range processes {
		children[process.PPID] = append(children[process.PPID], process)
	}
	found := children[pid]
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i].PID]...)
	}
	return found, nil
}

// Tree returns the pids of a process and of those below it, as far as these are known.
func Tree(pid int) []int {
	pids := []int{pid}
	below, _ := Descendants(pid)
	for _, process := range below {
		pids = append(pids, process.PID)
	}
	return pids
}

// Marked returns the processes in this PID namespace that were started with
// KEY=VALUE in their environment and for which judge says yes to VALUE, as far
// as they may be looked into. Processes in another PID namespace, a container's,
// are somebody else's whatever they say.
func Marked(key string, judge func(value string) bool) ([]Process, error) {
	processes, err := procfs.AllProcs()
	if err != nil {
		return nil, fmt.Errorf("list the processes: %w", err)
	}
	if _, err := Elsewhere(os.Getpid(), "pid"); err != nil {
		return nil, err
	}
	var found []Process
	for _, process := range processes {
		value, is := Variable(process.PID, key)
		if process.PID == os.Getpid() || !is || !judge(value) {
			continue
		}
		marked, err := describe(process)
		if err != nil || marked.Zombie {
			continue
		}
		// Its pid may have become another's in between: that one has to be marked too.
		if again, _ := Variable(process.PID, key); again != value {
			continue
		}
		if elsewhere, err := Elsewhere(process.PID, "pid"); err == nil && !elsewhere {
			found = append(found, marked)
		}
	}
	return found, nil
}

// Handle is a process that no other can be mistaken for: a pidfd (pidfd_open(2))
// that was opened before the start time was compared.
type Handle struct{ fd int }

// Open returns a handle to the process. One that has gone, whether or not another
// has got its pid, is os.ErrNotExist.
func (p Process) Open() (*Handle, error) {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, fmt.Errorf("process %d: %w", p.PID, os.ErrNotExist)
	}
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	now, err := Find(p.PID)
	if err == nil && now.Start != p.Start {
		err = fmt.Errorf("process %d: %w", p.PID, os.ErrNotExist)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &Handle{fd: fd}, nil
}

// Signal sends a signal, or with 0 asks whether one may be sent: unix.EPERM says
// no. A process that has been reaped is os.ErrNotExist.
func (h *Handle) Signal(signal unix.Signal) error {
	err := unix.PidfdSendSignal(h.fd, signal, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return os.ErrNotExist
	}
	return err
}

// Wait reports whether the process ends before the deadline; the zero Time is
// none. It does not reap it.
func (h *Handle) Wait(deadline time.Time) (ended bool, err error) {
	for {
		timeout := -1
		if !deadline.IsZero() {
			timeout = int(max(0, time.Until(deadline)+time.Millisecond-1) / time.Millisecond)
		}
		// It becomes readable when the process has ended (pidfd_open(2)).
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(h.fd), Events: unix.POLLIN}}, timeout)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return n > 0, os.NewSyscallError("poll", err)
	}
}

// Close gives the handle up.
func (h *Handle) Close() { _ = unix.Close(h.fd) }

// Signal sends a signal to processes, and SIGCONT behind it: one that was stopped takes it only then. One that has gone already
// is no error.
func Signal(processes []Process, signal unix.Signal) error {
	var errs []error
	for _, process := range processes {
		handle, err := process.Open()
		if err == nil {
			err = errors.Join(handle.Signal(signal), handle.Signal(unix.SIGCONT))
			handle.Close()
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("signal %s: %w", process, err))
		}
	}
	return errors.Join(errs...)
}

// Await returns when all of the processes have ended, or the context is done; they are not reaped.
func Await(ctx context.Context, processes []Process) error {
	var done [2]int
	if err := unix.Pipe2(done[:], unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("pipe2", err)
	}
	defer unix.Close(done[0])
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		unix.Close(done[1])
	})
	defer func() {
		if stop() {
			unix.Close(done[1])
		} else {
			<-closed
		}
	}()
	for _, process := range processes {
		handle, err := process.Open()
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		poll := []unix.PollFd{{Fd: int32(handle.fd), Events: unix.POLLIN}, {Fd: int32(done[0])}}
		for err = unix.EINTR; errors.Is(err, unix.EINTR); {
			_, err = unix.Poll(poll, -1)
		}
		handle.Close()
		if err != nil {
			return os.NewSyscallError("poll", err)
		}
		if poll[1].Revents != 0 {
			return ctx.Err()
		}
	}
	return nil
}

// Kill ends processes with SIGKILL, all of them before it waits for any, and
// returns when they have ended; they are not reaped. One that has gone already
// is no error.
func Kill(processes []Process) error {
	var errs []error
	var handles []*Handle
	for _, process := range processes {
		handle, err := process.Open()
		if err == nil {
			defer handle.Close()
			err = handle.Signal(unix.SIGKILL)
		}
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			errs = append(errs, fmt.Errorf("kill %s: %w", process, err))
		default:
			handles = append(handles, handle)
		}
	}
	for _, handle := range handles {
		_, err := handle.Wait(time.Time{})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
