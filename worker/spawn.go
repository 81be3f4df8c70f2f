package worker

import (
	"context"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"openclaw-gateway/worker/handoff"
)

// protocol lists what systemd tells the launcher and no worker may mistake for
// its own: the sockets and the notify socket (sd_listen_fds(3), sd_notify(3)),
// the watchdog (sd_watchdog_enabled(3)), the descriptor store, and the pid of
// the process that systemd executed (systemd.exec(5)). And that of a command, where another
// launcher has started this one.
var protocol = []string{
	"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID",
	"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "FDSTORE", "MAINPID", "SYSTEMD_EXEC_PID", commands.key,
}

// environment returns the given entries without systemd's protocol, with the
// launcher's own on top: the last of each key counts.
func environment(given []string, own ...string) []string {
	var result []string
	place := map[string]int{}
	for i, entry := range slices.Concat(given, own) {
		key, _, _ := strings.Cut(entry, "=")
		at, known := place[key]
		switch {
		case i < len(given) && slices.Contains(protocol, key):
		case known:
			result[at] = entry
		default:
			place[key] = len(result)
			result = append(result, entry)
		}
	}
	return result
}

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
func (s spawner) start(p program, tree *tree) (*os.Process, error) {
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
		err = tree.start(attributes.Sys, func() (_ *os.Process, err error) {
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
