package worker

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"openclaw-gateway/worker/proctree"
)

// What the worker says by sd_notify(3), and what follows.

// mostExtended is the longest time that a worker can ask for at once; it may ask again.
const mostExtended = 24 * time.Hour

// hear takes what a process of the worker's says to its NOTIFY_SOCKET. It is called on a goroutine of its own, until nothing of
// the generation is left.
func (g *generation) hear(sender int, line string) {
	key, value, _ := strings.Cut(line, "=")
	switch {
	case line == "READY=1":
		if g.spec.Probe == ProbeAuto || g.spec.Probe == ProbeNotify {
			g.note(event{kind: becameReady})
		}
	case line == "WATCHDOG=1", line == "WATCHDOG=trigger":
		select {
		case g.beats <- line == "WATCHDOG=trigger":
		default: // one is on its way
		}
	case line == "RELOADING=1":
		g.note(event{kind: reloads})
	case line == "STOPPING=1":
		// One that has named a successor stops, and the worker does not.
		if proctree.Descends(sender, g.leader.Process().Pid) {
			g.note(event{kind: leaves})
		}
	case line == "FDSTORE=1":
		g.options.Log.Warn("the worker wants to have descriptors kept (FDSTORE=1): the launcher keeps none but the sockets", "generation", g.number)
	case key == "STATUS":
		g.note(event{kind: stated, text: value})
	case key == "EXTEND_TIMEOUT_USEC":
		if micros, err := strconv.ParseUint(value, 10, 64); err == nil && micros > 0 {
			g.note(event{kind: extended, more: time.Duration(min(micros, uint64(mostExtended.Microseconds()))) * time.Microsecond})
		}
	case key == "MAINPID":
		if err := g.followPID(value); err != nil {
			g.options.Log.Warn("the worker names another main process (MAINPID=), which is not followed", "generation", g.number, "error", err)
		}
	}
}

// note is for what is heard as long as anything of the generation lives.
func (g *generation) note(e event) {
	e.generation = g.number
	select {
	case g.events <- e:
	case <-g.unheard:
	}
}

// followPID makes another process of the generation its main process.
func (g *generation) followPID(text string) (err error) {
	pid, err := strconv.Atoi(text)
	if err != nil || pid <= 0 {
		return fmt.Errorf("%q is no pid", text)
	}
	main := g.leader.Process().Pid
	if pid == main {
		return nil
	}
	// The handle comes before the looks: what is found out is of the process that it is for.
	process, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	// From now on nobody else reaps it, who would take its exit status along.
	g.tree.Adopt(pid)
	defer func() {
		if err != nil {
			g.trees.Waited(pid)
		}
	}()
	found, err := proctree.Find(pid)
	switch {
	case err != nil:
		return err
	case found.Zombie || process.Signal(syscall.Signal(0)) != nil:
		return fmt.Errorf("process %d has ended", pid)
	case !g.tree.Holds(pid, main):
		return fmt.Errorf("process %d is none of this generation", pid)
	}
	if err := g.leader.Follow(process); err != nil {
		return err
	}
	g.note(event{kind: followed, process: process})
	return nil
}

// lead is told of the generation's new main process.
func (g *generation) lead(e event) {
	g.options.Log.Info("another process is the main one of the worker (MAINPID=)", g.told("main_pid", e.process.Pid)...)
	g.process = e.process
	if g.stage == stopping {
		g.signal(g.spec.StopSignal)
		g.signal(syscall.SIGCONT)
	}
}

// extend gives the worker the time that it has asked for, if that is longer than what it has.
func (g *generation) extend(e event) {
	if g.until.IsZero() || e.more <= time.Until(g.until) || g.headless {
		return
	}
	g.extended = true
	g.setLimit(e.more)
	if g.stage != stopping {
		return
	}
	g.stopUntil = g.until
	if g.why == ReasonStop {
		g.options.Extended(e.more)
	}
}

func (g *generation) takeWords(e event) { g.says = e.text }

func (g *generation) reload(event) {
	g.says = "it reloads"
	g.options.Log.Info("worker reloads", g.told()...)
}

func (g *generation) reloaded(event) { g.says = "" }

// stopItself takes note of a worker that ends without having been asked to.
func (g *generation) stopItself(event) {
	g.options.Log.Info("worker stops by itself (STOPPING=1)", g.told()...)
	g.leave()
}
