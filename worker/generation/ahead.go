package generation

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/prewarm"
	"openclaw-gateway/worker/tree"
)

// ahead is what a generation has to do with modules that are loaded ahead (Spec.Prewarm): one that starts beside another loads them, and
// begins when nothing of that one is left; any other tells which they are, if no earlier one has.
type ahead struct {
	// Ahead says that it is one that loads them.
	Ahead bool
	// Cold is why it is none, although it was to be.
	Cold string
	// Modules is how many it has loaded.
	Modules int
	// Stale is what the program has changed at its start, although a module had read it that was loaded ahead.
	Stale string
	// compared says that it does not become Stale any more.
	compared bool
	// spent is the key of the program that is not to be loaded ahead any more.
	spent     string
	mattering []byte         // what oom_score_adj of its process was; nil: it is as it was
	modules   *prewarm.Ahead // nil: neither
}

// LoadAhead makes a generation that has not been started one that loads its modules beside the elder. One of a program with the key
// spent does not.
func (g *Generation) LoadAhead(elder *Generation, spent string) {
	g.Beside(elder)
	g.ahead = ahead{Ahead: true, spent: spent}
}

// Key tells the program whose modules it loads from any other.
func (g *Generation) Key() string {
	if g.modules == nil {
		return ""
	}
	return g.modules.Key()
}

// Learns is for how long after it is ready it may tell which modules it loads; 0: it does not.
func (g *Generation) Learns() time.Duration {
	if g.modules == nil || g.Ahead {
		return 0
	}
	return prewarm.Told(cmp.Or(g.Options.SettleTime, prewarm.Settled))
}

// Prewarmed reports whether it has begun with modules that were loaded ahead.
func (g *Generation) Prewarmed() bool { return g.Ahead && !g.Gated }

// compareLimit is how long a generation may be ready until nobody waits for its comparison any more: of one that does not listen by
// itself there is none.
const compareLimit = time.Minute

// compares reports whether it may become Stale yet: the launcher that has started it alone is told of that.
func (g *Generation) compares() bool {
	return g.Prewarmed() && !g.compared && time.Since(g.Since) < compareLimit
}

// Unchanged returns an error where the worker may not begin with what it has loaded, or has not loaded it.
func (g *Generation) Unchanged() error {
	if g.Stage != Parked {
		return errors.New("it had not loaded its modules when the generation before it was gone")
	}
	return g.modules.Unchanged()
}

// Forget removes the list of the modules.
func (g *Generation) Forget() {
	if err := g.modules.Forget(); err != nil {
		g.Options.Log.Error("cannot remove the list of the modules that are loaded ahead", "generation", g.Number, "error", err)
	}
}

// prepareAhead has the worker load its modules, or tell them. That it cannot is no reason not to start it.
func (b *birth) prepareAhead() error {
	if !b.Spec.Prewarm {
		return nil
	}
	if err := b.arrangeAhead(); err != nil {
		b.Options.Log.Debug("the worker neither loads modules ahead nor tells which they are", "generation", b.Number, "error", err)
		if b.Ahead {
			b.gate = open()
			b.ahead = ahead{Cold: err.Error()}
			if learnErr := b.arrangeAhead(); learnErr != nil {
				b.modules = nil
			}
		}
	}
	if b.modules == nil {
		return nil
	}
	b.undo = append(b.undo, b.modules.Close)
	b.marks = append(b.marks, b.modules.Env()...)
	b.program.Environ = tree.Environment(b.given, b.marks...)
	b.program.Files = append(b.program.Files, b.modules.Files()...)
	return nil
}

func (b *birth) arrangeAhead() error {
	if b.Options.Modules == nil {
		return errors.New("there is no directory for what is known of them")
	}
	if !handoff.Direct(b.program.Path, b.program.Argv, b.program.Directory) || b.Binds {
		return errors.New("worker.command is not a Node.js that is started directly, with the script that it runs")
	}
	directory, err := b.Options.Modules()
	if err != nil {
		return err
	}
	program, err := prewarm.Of(b.program.Path, b.program.Argv, b.program.Directory, tree.Environment(b.given))
	if err != nil {
		return err
	}
	environ := b.program.Environ
	if !b.Ahead {
		b.modules, err = prewarm.Learning(program, directory, b.place, environ, cmp.Or(b.Options.SettleTime, prewarm.Settled))
		return err
	}
	b.modules, err = prewarm.Loading(program, directory, b.place, environ, cmp.Or(b.Options.SettleTime, prewarm.Settled), 3+len(b.program.Files))
	if err == nil && b.modules.Key() == b.spent {
		err = errors.Join(errors.New("two in a row that had loaded their modules ahead have failed: not before the program, its command or its environment is another one"), b.modules.Close())
		b.modules = nil
	}
	return err
}

// readAhead tells what becomes of the modules.
func (g *Generation) readAhead() {
	for {
		report, err := g.modules.Next()
		switch {
		case errors.Is(err, io.EOF):
			g.send(Event{Kind: Compared}) // nobody can
			return
		case err != nil: // whoever runs in the worker can write there
			g.Options.Log.Debug("the worker reports something that is not understood", "generation", g.Number, "error", err)
		case report.Event == prewarm.Parked:
			g.send(Event{Kind: Loaded, modules: report.Modules})
		case report.Event == prewarm.Failed:
			g.send(Event{Kind: CannotServe, Err: fmt.Errorf("it could not load its modules ahead: %s", report.Detail)})
		case report.Event == prewarm.Stale:
			g.send(Event{Kind: Staled, Text: report.Detail})
		case report.Event == prewarm.Same:
			g.send(Event{Kind: Compared})
		}
	}
}

// yield leaves the processors to the one that serves.
func (g *Generation) yield(yields bool) {
	if err := g.tree.Yield(yields); err != nil {
		g.Options.Log.Warn("cannot set the share of the processors that a generation has", "generation", g.Number, "error", err)
	}
}

// first is an oom_score_adj by which the kernel ends a process before all others (proc_pid_oom_score_adj(5)).
const first = "1000"

// giveWay has the kernel end this one where memory is short (MemoryMax= of the unit), and not the one that serves, which has more of it.
func (g *Generation) giveWay() {
	before, err := os.ReadFile(g.oomScore())
	if err == nil {
		err = os.WriteFile(g.oomScore(), []byte(first), 0)
	}
	if err != nil {
		g.Options.Log.Debug("where memory is short the kernel may end the generation that serves", "generation", g.Number, "error", err)
		return
	}
	g.mattering = before
}

// matter takes that back: it is the one that serves.
func (g *Generation) matter() {
	if g.mattering == nil {
		return
	}
	if err := os.WriteFile(g.oomScore(), g.mattering, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		g.Options.Log.Warn("where memory is short the kernel ends this generation first", "generation", g.Number, "error", err)
	}
}

func (g *Generation) oomScore() string { return fmt.Sprintf("/proc/%d/oom_score_adj", g.Process.Pid) }

// park is told that the modules are loaded.
func (g *Generation) park(e Event) {
	if !g.Ahead || !g.Gated {
		return
	}
	if left := g.tree.Left(g.Process.Pid); len(left) > 0 {
		g.stopUnready(Event{Err: fmt.Errorf("a module that was loaded ahead has started %s", tree.Names(left))})
		return
	}
	g.Modules, g.GateAfter = e.modules, time.Since(g.Started)
	g.enter(Parked, 0)
	g.freeze(true)
	g.Options.Log.Info("the next generation has loaded its modules, and waits until the present one is gone", g.Told("modules", g.Modules, "after_ms", g.GateAfter.Milliseconds())...)
	g.tell(Event{Kind: Arrived, Generation: g.Number})
}

// compare is told that nothing of what the modules have read is another thing, or that nobody will tell.
func (g *Generation) compare(Event) { g.compared = true }

// stale is told that the worker is not what it would be without: it has stopped itself, and takes no signal.
func (g *Generation) stale(e Event) {
	if !g.Ahead {
		return
	}
	g.Stale = e.Text
	g.Options.Log.Warn("the program has changed what a module had read that was loaded ahead: the next generation starts without", g.Told("changed", g.Stale)...)
	g.destroy(ends.ReasonUnready, fmt.Sprintf("it has changed %s at its start, which a module had read that was loaded ahead", g.Stale))
}
