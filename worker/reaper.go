package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"

	"openclaw-gateway/worker/proctree"
)

// reaper makes the launcher the one who inherits the worker's orphans
// (PR_SET_CHILD_SUBREAPER(2const)), so that every process of a generation
// descends from the launcher whatever it did, and reaps them when they end. It
// never waits for just any child: package os waits for those that it started.
type reaper struct {
	mu      sync.Mutex
	started map[int]bool // by package os, and not yet waited for
}

// A nil reaper starts processes and leaves orphans to others.

func newReaper(ctx context.Context, log *slog.Logger) *reaper {
	// It cannot fail since Linux 3.4.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		log.Error("cannot become a child subreaper: processes that leave the worker's tree are not found", "error", err)
	}
	r := &reaper{started: map[int]bool{}}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	go func() {
		defer signal.Stop(ended)
		for {
			select {
			case <-ended:
				if err := r.reap(); err != nil {
					log.Warn("cannot reap all orphans of the worker", "error", err)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return r
}

// start runs f, which starts a process with package os.
func (r *reaper) start(f func() (*os.Process, error)) (*os.Process, error) {
	if r == nil {
		return f()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	process, err := f()
	if err == nil {
		r.started[process.Pid] = true
	}
	return process, err
}

// waited says that package os has reaped the process.
func (r *reaper) waited(pid int) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.started, pid)
}

// reap reaps the inherited children that have ended.
func (r *reaper) reap() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	self := os.Getpid()
	descendants, err := proctree.Descendants(self)
	if err != nil {
		return err
	}
	var errs []error
	for _, process := range descendants {
		if process.PPID != self || !process.Zombie || r.started[process.PID] {
			continue
		}
		err := unix.Waitid(unix.P_PID, process.PID, nil, unix.WEXITED|unix.WNOHANG, nil)
		if err != nil && !errors.Is(err, unix.ECHILD) {
			errs = append(errs, fmt.Errorf("reap %s: %w", process, err))
		}
	}
	return errors.Join(errs...)
}
