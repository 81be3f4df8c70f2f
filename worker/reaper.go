package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
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
	// aside is what is not the worker's although it descends from the launcher, by
	// pid with the start time: commands of the launcher's own, what was there before
	// the process became the launcher by exec, and what descends from these.
	aside map[int]uint64
}

// A nil reaper starts processes and leaves orphans to others.

func newReaper() *reaper { return &reaper{started: map[int]bool{}, aside: map[int]uint64{}} }

// inherit begins to inherit and to reap, until the context is done.
func (r *reaper) inherit(ctx context.Context, log *slog.Logger) {
	// It cannot fail since Linux 3.4.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		log.Error("cannot become a child subreaper: processes that leave the worker's tree are not found", "error", err)
	}
	if err := r.spareAll(); err != nil {
		log.Error("cannot tell the worker's processes from those that were there before", "error", err)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	go func() {
		defer signal.Stop(ended)
		for {
			select {
			case <-ended:
				if _, _, err := r.reap(); err != nil {
					log.Warn("cannot reap all orphans of the worker", "error", err)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
}

// spareAll sets everything aside that there is before there is a worker.
func (r *reaper) spareAll() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, err := proctree.Descendants(os.Getpid())
	for _, process := range before {
		r.aside[process.PID] = process.Start
	}
	return err
}

// start runs f, which starts a process of the worker's with package os.
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

// run runs a command of the launcher's own and waits for it.
func (r *reaper) run(cmd *exec.Cmd) error {
	if r == nil {
		return cmd.Run()
	}
	r.mu.Lock()
	err := cmd.Start()
	if err == nil {
		pid := cmd.Process.Pid
		r.started[pid] = true
		// Not waited for yet, so it is there.
		if process, err := proctree.Find(pid); err == nil {
			r.aside[pid] = process.Start
		}
		defer r.waited(pid)
	}
	r.mu.Unlock()
	if err != nil {
		return err
	}
	return cmd.Wait()
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

// reap reaps the inherited children that have ended, and returns how many they
// were and which processes of the worker live. What started while it looked can be
// missing among these, but only if another one lives that was looked at, or was
// reaped.
func (r *reaper) reap() (living []proctree.Process, reaped int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	self := os.Getpid()
	descendants, err := proctree.Descendants(self)
	if err != nil {
		return nil, 0, err
	}
	aside := map[int]uint64{}
	var errs []error
	for _, process := range descendants {
		// Parents come before their children.
		_, spared := aside[process.PPID]
		if start, known := r.aside[process.PID]; known && start == process.Start {
			spared = true
		}
		if spared {
			aside[process.PID] = process.Start
		}
		if !process.Zombie {
			if !spared {
				living = append(living, process)
			}
			continue
		}
		if process.PPID != self || r.started[process.PID] {
			continue
		}
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, process.PID, &info, unix.WEXITED|unix.WNOHANG, nil)
		switch {
		case err != nil && !errors.Is(err, unix.ECHILD):
			errs = append(errs, fmt.Errorf("reap %s: %w", process, err))
		case err == nil && info.Signo != 0: // 0 while a debugger holds it
			reaped++
		}
	}
	r.aside = aside
	return living, reaped, errors.Join(errs...)
}
