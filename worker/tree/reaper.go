package tree

import (
	"cmp"
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

// Reaper makes the launcher the one who inherits the worker's orphans
// (PR_SET_CHILD_SUBREAPER(2const)), so that every process of a generation
// descends from the launcher whatever it did, and reaps them when they end. It
// never waits for just any child: package os waits for those that it started.
// A nil Reaper starts processes and leaves orphans to others.
type Reaper struct {
	mu sync.Mutex
	// started is what package os has started, and not yet waited for: the main
	// processes of the trees.
	started map[int]owner
	// aside is what is not the worker's although it descends from the launcher, by
	// pid with the start time: what was there before the process became the launcher
	// by exec, and what descends from that.
	aside map[int]uint64
	// init says that this process is the first one of its PID namespace, as in a container: then it inherits what others have
	// started there too, and what does not show that it is the worker's is not. That it has a held socket does show it: nobody else
	// is given one.
	init bool
	// resumed says that an earlier program of this process has begun all that.
	resumed bool
}

// owned is a process, and whose it is.
type owned struct {
	proctree.Process
	owner owner
}

// NewReaper returns one that does not inherit yet, see [Reaper.Inherit].
func NewReaper() *Reaper {
	return &Reaper{started: map[int]owner{}, aside: map[int]uint64{}, init: os.Getpid() == 1}
}

// Inherit begins to inherit and to reap, until the context is done.
func (r *Reaper) Inherit(ctx context.Context, log *slog.Logger) {
	// It cannot fail since Linux 3.4.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		log.Error("cannot become a child subreaper: processes that leave the worker's tree are not found", "error", err)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	if r.resumed {
		ended <- unix.SIGCHLD // of those that have ended while no program was there to hear of it
	} else {
		r.setAside(log)
	}
	go func() {
		defer signal.Stop(ended)
		for {
			select {
			case <-ended:
				if _, _, err := r.reap(nil, nil); err != nil {
					log.Warn("cannot reap all orphans of the worker", "error", err)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
}

// setAside sets aside what there is before there is a worker.
func (r *Reaper) setAside(log *slog.Logger) {
	// As a rule there is no child, which the kernel says at once: to look at all processes would keep the first client waiting.
	err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil)
	if errors.Is(err, unix.ECHILD) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	before, err := proctree.Descendants(os.Getpid())
	for _, process := range before {
		r.aside[process.PID] = process.Start
	}
	if err != nil {
		log.Error("cannot tell the worker's processes from those that were there before", "error", err)
	}
}

// start runs f, which starts the main process of the owner's tree with package os.
func (r *Reaper) start(of owner, f func() (*os.Process, error)) error {
	if r == nil {
		_, err := f()
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	process, err := f()
	if err == nil {
		r.started[process.Pid] = of
	}
	return err
}

// adopt says that package os will wait for the process, which has become the main one of the owner's tree.
func (r *Reaper) adopt(pid int, of owner) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.started[pid] = of
}

// waited says that package os has reaped the process.
func (r *Reaper) waited(pid int) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.started, pid)
}

// reap reaps the inherited children that have ended, and returns how many they
// were, and which processes live that were not there before the launcher, with
// whose they are: that of a main process is known, and of others told, which may be
// nil, or that of their parent, or of the main process in whose session they are. What
// started while it looked can be missing among these, but only if another one lives
// that was looked at, or was reaped. hasSocket is asked of orphans that are nobody's, as PID 1.
func (r *Reaper) reap(told func(pid int) owner, hasSocket func(pid int) bool) (living []owned, reaped int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	self := os.Getpid()
	descendants, err := proctree.Descendants(self)
	if err != nil {
		return nil, 0, err
	}
	aside, owners := map[int]uint64{}, map[int]owner{}
	var errs []error
	for _, process := range descendants {
		// Parents come before their children.
		whose, started := r.started[process.PID]
		start, before := r.aside[process.PID]
		switch above := owners[process.PPID]; {
		case started:
		case above == stranger || (before && start == process.Start):
			whose = stranger
			aside[process.PID] = process.Start
		default:
			if told != nil && !process.Zombie {
				whose = told(process.PID)
			}
			whose = cmp.Or(whose, above, r.started[process.Session])
			if r.init && told != nil && whose == nobody && process.PPID == self && !hasSocket(process.PID) {
				whose = stranger
				aside[process.PID] = process.Start
			}
		}
		owners[process.PID] = whose
		if !process.Zombie {
			if whose != stranger {
				living = append(living, owned{process, whose})
			}
			continue
		}
		if process.PPID != self || started {
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
