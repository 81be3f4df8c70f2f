// Package spawn starts the processes of the worker, in such a way that none outlives a launcher that was killed.
package spawn

import (
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"openclaw-gateway/passed"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/tree"
)

// Spawner starts processes from one thread that lives as long as the launcher:
// the parent-death signal of a process is sent when the thread that forked it
// ends (PR_SET_PDEATHSIG(2const)), and Go ends threads as it likes.
type Spawner chan func()

// New returns one that lives until the context is done.
func New(ctx context.Context) Spawner {
	jobs := make(Spawner)
	go func() {
		runtime.LockOSThread() // never unlocked
		for {
			select {
			case job := <-jobs:
				job()
			case <-ctx.Done():
				return
			}
		}
	}()
	return jobs
}

// Here runs f on a goroutine of its own and what it starts on this thread, until f returns. From the process's first thread, which Go
// never ends, it can become another program as well: execve(2) ends every other thread, and with it what those have started.
func Here(f func(Spawner) error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	jobs, ended := make(Spawner), make(chan error, 1)
	go func() { ended <- f(jobs) }()
	for {
		select {
		case job := <-jobs:
			job()
		case err := <-ended:
			return err
		}
	}
}

// Become makes another program of this process, with these files open, and returns only if that has failed: then nothing has changed.
func (s Spawner) Become(p Program, files *passed.Files) (err error) {
	done := make(chan struct{})
	s <- func() {
		defer close(done)
		if unix.Gettid() != os.Getpid() {
			err = errors.New("what it has started would end: this is not the first thread of the process")
			return
		}
		// Whoever forks meanwhile would pass them on.
		syscall.ForkLock.Lock()
		defer syscall.ForkLock.Unlock()
		undo, openErr := files.Open()
		if err = openErr; err != nil {
			return
		}
		defer undo()
		err = handoff.Explain(p.Path, syscall.Exec(p.Path, p.Argv, p.Environ))
	}
	<-done
	return err
}

// Program is what a process of the worker's is started from.
type Program struct {
	Path      string
	Argv      []string
	Environ   []string
	Directory string
	Files     []*os.File // its descriptors from 3 on
}

// Start starts a program in a session of its own, as the main process of the tree.
func (s Spawner) Start(p Program, of *tree.Tree) (*os.Process, error) {
	attributes := &os.ProcAttr{
		Dir:   p.Directory,
		Env:   p.Environ,
		Files: slices.Concat([]*os.File{nil, os.Stdout, os.Stderr}, p.Files),
		Sys: &syscall.SysProcAttr{
			Setsid: true,
			// The worker's main process never outlives a launcher that was
			// killed: it would go on serving with nobody who watches it.
			Pdeathsig: syscall.SIGKILL,
		},
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	attributes.Files[0] = null
	var process *os.Process
	done := make(chan struct{})
	s <- func() {
		defer close(done)
		err = of.Start(attributes.Sys, func() (_ *os.Process, err error) {
			if process, err = os.StartProcess(p.Path, p.Argv, attributes); err != nil {
				return nil, handoff.Explain(p.Path, err)
			}
			return process, nil
		})
	}
	<-done
	if err != nil {
		return nil, err
	}
	return process, nil
}
