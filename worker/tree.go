package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"openclaw-gateway/worker/cgroup"
	"openclaw-gateway/worker/proctree"
)

// killPatience is how long the kernel may take to end killed processes before
// the log says that it does; they are waited for however long it takes.
const killPatience = 10 * time.Second

// markKey is the variable by which a launcher recognises what a predecessor that
// was killed has left.
const markKey = "GATEWAY_LAUNCHER"

// trees makes and ends the process trees of generations.
type trees struct {
	log *slog.Logger
	// reaper is nil when this process has other business than the worker: then
	// its orphans are not inherited, and are found by their mark.
	reaper *reaper
	// group is the unit's cgroup; nil where none was delegated, and the tree is
	// found by descent alone.
	group     *cgroup.Group
	directory string
	launcher  proctree.Process
}

// newTrees prepares for generations: with a delegated cgroup the launcher moves
// into one of its own, beside theirs.
func newTrees(log *slog.Logger, reaper *reaper, directory string) *trees {
	t := &trees{log: log, reaper: reaper, directory: directory}
	var err error
	if t.launcher, err = proctree.Find(os.Getpid()); err != nil {
		log.Error("cannot mark the worker's processes: a successor will not recognise them", "error", err)
	}
	if t.group, err = ownGroup(); err != nil {
		level := slog.LevelWarn
		if errors.Is(err, cgroup.ErrNotDelegated) {
			level = slog.LevelDebug
		}
		log.Log(context.Background(), level, "the worker's processes are found by descent, not by cgroup", "reason", err)
	}
	return t
}

// ownGroup returns the delegated cgroup after this process has moved out of the
// generations' way.
func ownGroup() (*cgroup.Group, error) {
	group, err := cgroup.Delegated()
	if err != nil {
		return nil, err
	}
	own, err := group.Make("launcher")
	if err != nil {
		return nil, err
	}
	return group, own.Enter()
}

// make returns the cgroup of a new generation; nil where there is none.
func (t *trees) make(generation int) (*cgroup.Group, error) {
	if t.group == nil {
		return nil, nil
	}
	return t.group.Make("generation-" + strconv.Itoa(generation))
}

// mark is the value of markKey in the environment of a worker: the launcher's
// runtime directory, pid and start time.
func (t *trees) mark() string {
	return fmt.Sprintf("%s:%d:%d", t.directory, t.launcher.PID, t.launcher.Start)
}

// end ends what is left of a generation whose main process has ended and is not
// reaped yet, and returns who that was, when nothing of it is alive.
func (t *trees) end(main int, group *cgroup.Group) (strays []proctree.Process, err error) {
	if group != nil {
		if strays, err = endGroup(t.log, group); err != nil {
			t.log.Error("cannot end a cgroup", "cgroup", group.Name(), "error", err)
		}
	}
	// The launcher inherits every orphan, also one that has left the cgroup.
	for {
		left, err := t.left(main)
		if err != nil {
			return strays, err
		}
		if len(left) == 0 {
			break
		}
		strays = append(strays, left...)
		if err := proctree.Kill(left); err != nil {
			return strays, err
		}
	}
	if t.reaper != nil {
		return strays, t.reaper.reap()
	}
	return strays, nil
}

// left returns the living processes of the generation besides its main process.
func (t *trees) left(main int) ([]proctree.Process, error) {
	var left []proctree.Process
	var err error
	if t.reaper != nil {
		left, err = proctree.Descendants(os.Getpid())
	} else {
		left, err = proctree.Marked(markKey, func(value string) bool { return value == t.mark() })
	}
	return slices.DeleteFunc(left, func(p proctree.Process) bool { return p.PID == main || p.Zombie }), err
}

// endGroup ends what is left in a generation's cgroup and removes it.
func endGroup(log *slog.Logger, group *cgroup.Group) ([]proctree.Process, error) {
	var strays []proctree.Process
	pids, err := group.Processes()
	for _, pid := range pids {
		if process, err := proctree.Find(pid); err == nil && !process.Zombie {
			strays = append(strays, process)
		}
	}
	if err != nil {
		return strays, err
	}
	if err := group.Kill(); err != nil {
		return strays, err
	}
	for {
		err := group.AwaitEmpty(killPatience)
		if !errors.Is(err, cgroup.ErrPopulated) {
			if err != nil {
				return strays, err
			}
			return strays, group.Remove()
		}
		left, _ := group.Processes()
		log.Error("killed processes do not end: the kernel holds them (state D in ps)", "cgroup", group.Name(), "pids", fmt.Sprint(left))
	}
}

// Sweep ends what a launcher of this runtime directory has left that was killed,
// before anything is started, and before the launcher binds an address that one
// of those processes may still hold. Nothing is touched whose launcher lives.
func Sweep(log *slog.Logger, directory string) error {
	var errs []error
	group, err := cgroup.Delegated()
	if err == nil {
		var groups []*cgroup.Group
		groups, err = group.Children("generation-")
		for _, group := range groups {
			strays, err := endGroup(log, group)
			report(log, "an earlier launcher left processes in "+group.Name()+", which were killed", 0, strays)
			errs = append(errs, err)
		}
	}
	if !errors.Is(err, cgroup.ErrNotDelegated) {
		errs = append(errs, err)
	}
	left, err := proctree.Marked(markKey, func(value string) bool {
		marked, launcher, ok := cutMark(value)
		if !ok || marked != directory {
			return false
		}
		now, err := proctree.Find(launcher.PID)
		return err != nil || now.Start != launcher.Start || now.Zombie
	})
	errs = append(errs, err, proctree.Kill(left))
	report(log, "an earlier launcher left processes, which were killed", 0, left)
	return errors.Join(errs...)
}

// cutMark splits the value of a mark.
func cutMark(value string) (directory string, launcher proctree.Process, ok bool) {
	fields := strings.Split(value, ":")
	if len(fields) < 3 {
		return "", launcher, false
	}
	n := len(fields)
	pid, err := strconv.Atoi(fields[n-2])
	start, startErr := strconv.ParseUint(fields[n-1], 10, 64)
	if err != nil || startErr != nil {
		return "", launcher, false
	}
	return strings.Join(fields[:n-2], ":"), proctree.Process{PID: pid, Start: start}, true
}

// report says who was left; generation is 0 for an earlier launcher's.
func report(log *slog.Logger, message string, generation int, strays []proctree.Process) {
	if len(strays) > 0 {
		log.Warn(message, "generation", generation, "strays", len(strays), "who", names(strays))
	}
}

// names lists processes for a person: the first few, and how many more.
func names(processes []proctree.Process) string {
	const most = 10
	var words []string
	for i, process := range processes {
		if i == most {
			words = append(words, fmt.Sprintf("and %d more", len(processes)-most))
			break
		}
		words = append(words, process.String())
	}
	return strings.Join(words, ", ")
}
