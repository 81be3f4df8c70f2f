package worker

import (
	"context"
	"os"
	"runtime"
	"slices"
	"syscall"

	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/tree"
)

// spawner starts processes from one thread that lives as long as the launcher:
// the parent-death signal of a process is sent when the thread that forked it
// ends (PR_SET_PDEATHSIG(2const)), and Go ends threads as it likes.
type spawner chan func()

func newSpawner(ctx context.Context) spawner {
	jobs := make(spawner)
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

// program is what a process of the worker's is started from.
type program struct {
	path      string
	argv      []string
	environ   []string
	directory string
	files     []*os.File // its descriptors from 3 on
}

// start starts a program in a session of its own, as the main process of the tree.
func (s spawner) start(p program, of *tree.Tree) (*os.Process, error) {
	attributes := &os.ProcAttr{
		Dir:   p.directory,
		Env:   p.environ,
		Files: slices.Concat([]*os.File{nil, os.Stdout, os.Stderr}, p.files),
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
			if process, err = os.StartProcess(p.path, p.argv, attributes); err != nil {
				return nil, handoff.Explain(p.path, err)
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
