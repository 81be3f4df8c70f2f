// Package leader follows the main process of a generation, which can name another one as its successor (MAINPID= of
// sd_notify(3)): a server that replaces itself in place, whose old process then ends.
package leader

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Leader is the main process of a generation: first the one that was started, then whichever was named last.
type Leader struct {
	mu      sync.Mutex
	current *follower
	done    bool           // it has ended, and Await has said so
	earlier int            // so many were the main one before, and have not been reaped
	retired sync.WaitGroup // the process that was started is reaped when it has ended and is not the main one any more
}

// follower is one process that is or was the main one.
type follower struct {
	process  *os.Process
	ended    chan struct{} // closed when it has ended; it is not reaped
	replaced chan struct{} // closed when another one is the main process
	reaped   func(pid int)
}

// New returns the leader that a child of package os is. reaped is called with the pid of the child, or of one that was
// followed, when it has been waited for.
func New(child *os.Process, reaped func(pid int)) *Leader {
	f := &follower{process: child, ended: make(chan struct{}), replaced: make(chan struct{}), reaped: reaped}
	go func() {
		defer close(f.ended)
		for errors.Is(unix.Waitid(unix.P_PID, child.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
		}
	}()
	return &Leader{current: f}
}

// Resume returns the leader that a process is which an earlier program of this process has followed until it was held.
func Resume(process *os.Process, reaped func(pid int)) (*Leader, error) {
	ended, err := watch(process)
	if err != nil {
		return nil, fmt.Errorf("follow process %d: %w", process.Pid, err)
	}
	return &Leader{current: &follower{process: process, ended: ended, replaced: make(chan struct{}), reaped: reaped}}, nil
}

// Hold keeps the main process what it is, and Await from returning, until release is called. It fails where there is more than one process
// to follow, or none any more.
func (l *Leader) Hold() (release func(), err error) {
	l.mu.Lock()
	switch {
	case l.done:
		err = fmt.Errorf("process %d has ended", l.current.process.Pid)
	case l.earlier > 0:
		err = fmt.Errorf("the worker has named another main process (MAINPID=), %d, and the one before lives still", l.current.process.Pid)
	}
	if err != nil {
		l.mu.Unlock()
		return nil, err
	}
	return l.mu.Unlock, nil
}

// Process returns the main process.
func (l *Leader) Process() *os.Process {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current.process
}

// Follow makes another process the main one, which need not be a child of this one. It returns an error where the process
// cannot be waited for.
func (l *Leader) Follow(process *os.Process) error {
	watched, err := watch(process)
	if err != nil {
		return fmt.Errorf("follow process %d: %w", process.Pid, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done {
		return fmt.Errorf("follow process %d: the main process has ended", process.Pid)
	}
	old := l.current
	l.current = &follower{process: process, ended: watched, replaced: make(chan struct{}), reaped: old.reaped}
	close(old.replaced)
	l.earlier++
	l.retired.Go(func() {
		<-old.ended
		_, _ = old.process.Wait() // it is not ours, perhaps
		old.reaped(old.process.Pid)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.earlier--
	})
	return nil
}

// watch returns a channel that is closed when the process has ended, whosever child it is: its pidfd is readable then
// (pidfd_open(2)).
func watch(process *os.Process) (ended chan struct{}, err error) {
	own := -1
	handleErr := process.WithHandle(func(pidfd uintptr) {
		own, err = unix.FcntlInt(pidfd, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err := errors.Join(handleErr, err); err != nil {
		return nil, err
	}
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		defer unix.Close(own)
		for {
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(own), Events: unix.POLLIN}}, -1)
			if !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}()
	return ended, nil
}

// Await returns the main process when it has ended; it is not reaped. heard returns when all that was said before it was
// called has been taken in: a process may name its successor right before its end.
func (l *Leader) Await(heard func()) *os.Process {
	for {
		l.mu.Lock()
		f := l.current
		l.mu.Unlock()
		select {
		case <-f.replaced:
			continue
		case <-f.ended:
		}
		heard()
		l.mu.Lock()
		l.done = l.current == f
		l.mu.Unlock()
		if l.done {
			return f.process
		}
	}
}

// Status is the exit status, or -1 where a signal has ended it or nobody can tell, of a process that has ended and that nobody has waited for.
func Status(pid int) int {
	var info struct { // siginfo_t of a child, waitid(2)
		Signo, Errno, Code, _ int32
		PID, UID              uint32
		Status                int32
		_                     [100]byte
	}
	const exited = 1 // CLD_EXITED
	if err := unix.Waitid(unix.P_PID, pid, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil || info.Code != exited {
		return -1
	}
	return int(info.Status)
}

// ErrUnknown says that a process has ended, and that nobody can tell how.
var ErrUnknown = errors.New("how it ended is not known, because its parent has reaped it")

// Reap waits for the main process that has ended, and for the one that was started, when nothing else of the generation is
// alive. A process that another one has waited for is ErrUnknown.
func (l *Leader) Reap() (*os.ProcessState, error) {
	state, err := l.current.process.Wait()
	l.current.reaped(l.current.process.Pid)
	l.retired.Wait()
	if errors.Is(err, unix.ECHILD) {
		err = ErrUnknown
	}
	return state, err
}
