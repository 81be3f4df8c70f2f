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

// killWait is how long the kernel may take to end killed processes before
// the log says that it does; they are waited for however long it takes.
const killWait = 10 * time.Second

// markKey is the variable by which a launcher recognises what a predecessor that
// was killed has left.
const markKey = proctree.MarkKey

// The cgroups that the launcher makes in the unit's: its own, and before the
// number each generation's.
const (
	launcherGroup     = cgroup.LauncherName
	generationsPrefix = "generation-"
)

// trees makes and ends the process trees of generations.
type trees struct {
	log *slog.Logger
	// reaper is nil when this process has other business than the worker: then
	// its orphans are not inherited, and are found by their mark.
	reaper *reaper
	// group is the unit's cgroup; nil where none was delegated, or to a process
	// with other business, and the tree is found by descent alone.
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
	if reaper == nil {
		return t
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
	group, err := unitGroup()
	if err != nil {
		return nil, err
	}
	own, err := group.Make(launcherGroup)
	if err != nil {
		return nil, err
	}
	if err := own.Enter(); err != nil {
		return nil, err
	}
	return group, nil
}

// unitGroup returns the delegated cgroup, unless another launcher lives in it:
// that of the worker in which somebody starts this one by hand, for one.
func unitGroup() (*cgroup.Group, error) {
	group, err := cgroup.Delegated()
	if err != nil {
		return nil, err
	}
	launchers, err := group.Children(launcherGroup)
	if err != nil {
		return nil, err
	}
	for _, launcher := range launchers {
		pids, err := launcher.Processes()
		if err != nil {
			return nil, err
		}
		for _, pid := range pids {
			if pid != os.Getpid() {
				return nil, fmt.Errorf("%w alone: process %d is another launcher in it", cgroup.ErrNotDelegated, pid)
			}
		}
	}
	return group, nil
}

// make returns the cgroup of a new generation; nil where there is none.
func (t *trees) make(generation int) (*cgroup.Group, error) {
	if t.group == nil {
		return nil, nil
	}
	return t.group.Make(generationsPrefix + strconv.Itoa(generation))
}

// mark is the value of markKey in the environment of a worker: the launcher's
// runtime directory, pid and start time.
func (t *trees) mark() string {
	return proctree.Mark{Directory: t.directory, Launcher: t.launcher}.String()
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
		left, reaped, err := t.left(main)
		if err != nil {
			return strays, err
		}
		// One that was reaped may have started another one behind the look.
		if len(left) == 0 && reaped == 0 {
			return strays, nil
		}
		strays = append(strays, left...)
		if err := proctree.Kill(left); err != nil {
			return strays, err
		}
	}
}

// left returns the living processes of the generation besides its main process,
// and how many that had ended were reaped.
func (t *trees) left(main int) (left []proctree.Process, reaped int, err error) {
	if t.reaper != nil {
		left, reaped, err = t.reaper.reap()
	} else {
		left, err = proctree.Marked(markKey, func(value string) bool { return value == t.mark() })
	}
	return slices.DeleteFunc(left, func(p proctree.Process) bool { return p.PID == main }), reaped, err
}

// endGroup ends what is left in a generation's cgroup and removes it.
func endGroup(log *slog.Logger, group *cgroup.Group) ([]proctree.Process, error) {
	var strays []proctree.Process
	pids, err := group.Processes()
	if err != nil {
		// They are to end, whoever they are.
		log.Warn("cannot say whom a generation has left", "cgroup", group.Name(), "error", err)
	}
	for _, pid := range pids {
		if process, err := proctree.Find(pid); err == nil && !process.Zombie {
			strays = append(strays, process)
		}
	}
	if err := group.Kill(); err != nil {
		return strays, err
	}
	for {
		err := group.AwaitEmpty(killWait)
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
	group, err := unitGroup()
	if err == nil {
		var groups []*cgroup.Group
		groups, err = group.Children(generationsPrefix)
		for _, group := range groups {
			strays, err := endGroup(log, group)
			report(log, "an earlier launcher left processes in "+group.Name()+", which were killed", 0, strays)
			errs = append(errs, err)
		}
	}
	if !errors.Is(err, cgroup.ErrNotDelegated) {
		errs = append(errs, err)
	}
	var strays []proctree.Process
	for {
		left, err := proctree.Marked(markKey, func(value string) bool {
			mark, ok := proctree.ParseMark(value)
			return ok && mark.Directory == directory && mark.Launcher.Gone()
		})
		// A mark can get into another service's environment ("systemctl --user
		// import-environment" in a worker): that service is none of ours.
		own := proctree.Service(os.Getpid())
		left = slices.DeleteFunc(left, func(p proctree.Process) bool {
			service := proctree.Service(p.PID)
			return service != "" && service != own
		})
		strays = append(strays, left...)
		err = errors.Join(err, proctree.Kill(left))
		// Again, for what they have started meanwhile.
		if len(left) == 0 || err != nil {
			errs = append(errs, err)
			break
		}
	}
	report(log, "an earlier launcher left processes, which were killed", 0, strays)
	return errors.Join(errs...)
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
