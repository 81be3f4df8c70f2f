package generation

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/proctree"
)

// What the worker says by sd_notify(3), and what follows.

// mostExtended is the longest time that a worker can ask for at once; it may ask again.
const mostExtended = 24 * time.Hour

// hear takes what a process of the worker's says to its NOTIFY_SOCKET. It is called on a goroutine of its own, until nothing of
// the generation is left.
func (g *Generation) hear(sender int, line string) {
	key, value, _ := strings.Cut(line, "=")
	switch {
	case line == "READY=1":
		if g.Spec.Probe == ProbeAuto || g.Spec.Probe == ProbeNotify {
			g.note(Event{Kind: BecameReady})
		}
	case line == "WATCHDOG=1", line == "WATCHDOG=trigger":
		select {
		case g.beats <- line == "WATCHDOG=trigger":
		default: // one is on its way
		}
	case line == "RELOADING=1":
		g.note(Event{Kind: Reloads})
	case line == "STOPPING=1":
		// One that has named a successor stops, and the worker does not.
		if proctree.Descends(sender, g.leader.Process().Pid) {
			g.note(Event{Kind: Leaves})
		}
	case line == "FDSTORE=1":
		g.Options.Log.Warn("the worker wants to have descriptors kept (FDSTORE=1): the launcher keeps none but the sockets", "generation", g.Number)
	case key == "STATUS":
		g.note(Event{Kind: Stated, Text: value})
	case key == "EXTEND_TIMEOUT_USEC":
		if micros, err := strconv.ParseUint(value, 10, 64); err == nil && micros > 0 {
			g.note(Event{Kind: Extended, more: time.Duration(min(micros, uint64(mostExtended.Microseconds()))) * time.Microsecond})
		}
	case key == "MAINPID":
		if err := g.followPID(value); err != nil {
			g.Options.Log.Warn("the worker names another main process (MAINPID=), which is not followed", "generation", g.Number, "error", err)
		}
	}
}

// note is for what is heard as long as anything of the generation lives.
func (g *Generation) note(e Event) {
	e.Generation = g.Number
	select {
	case g.Events <- e:
	case <-g.unheard:
	}
}

// followPID makes another process of the generation its main process.
func (g *Generation) followPID(text string) (err error) {
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
			g.Trees.Waited(pid)
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
	g.note(Event{Kind: Followed, process: process})
	return nil
}

// lead is told of the generation's new main process.
func (g *Generation) lead(e Event) {
	g.Options.Log.Info("another process is the main one of the worker (MAINPID=)", g.Told("main_pid", e.process.Pid)...)
	g.Process = e.process
	if g.Stage == Stopping {
		g.signal(g.Spec.StopSignal)
		g.signal(syscall.SIGCONT)
	}
}

// extend gives the worker the time that it has asked for, if that is longer than what it has.
func (g *Generation) extend(e Event) {
	if g.Until.IsZero() || e.more <= time.Until(g.Until) || g.headless {
		return
	}
	g.extended = true
	g.SetLimit(e.more)
	if g.Stage != Stopping {
		return
	}
	g.stopUntil = g.Until
	if g.Why == ends.ReasonStop {
		g.Options.Extended(e.more)
	}
}

func (g *Generation) takeWords(e Event) { g.Says = e.Text }

func (g *Generation) reload(Event) {
	g.Says = "it reloads"
	g.Options.Log.Info("worker reloads", g.Told()...)
}

func (g *Generation) reloaded(Event) { g.Says = "" }

// stopItself takes note of a worker that ends without having been asked to.
func (g *Generation) stopItself(Event) {
	g.Options.Log.Info("worker stops by itself (STOPPING=1)", g.Told()...)
	g.leave()
}
