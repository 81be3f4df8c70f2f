package launcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/state"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker"
	"openclaw-gateway/worker/generation"
)

// editions are the configurations that were applied, one after the other, and the worker that each of them asks for.
type editions struct {
	assembler
	log   *slog.Logger
	level *slog.LevelVar
	// report is told what became of the configuration file.
	report func(configReport)

	environment environmentWatch
	watch       func() error // has edits of the configuration file noticed from now on; nil where it is not to be tried again
	unwatched   unwatched    // of that file
	readings    atomic.Int64 // how many were begun

	// mu makes one reload wait for the other, and the first one for begin. After that no file is read while it is held.
	mu         sync.Mutex
	supervisor applier
	prepared   int   // how many there were
	applied    int64 // the number of the reading that was applied last
	// outcome is what came of it.
	outcome struct {
		ready *pending
		err   error
	}

	// latest is the one that was applied last; nil before the first good one. good is the last one whose worker became
	// ready. rolledBack is the number of one that was given up for it.
	latest, good atomic.Pointer[edition]
	rolledBack   atomic.Int64

	goodKept state.Keeper // of the last good one

	oddities atomic.Pointer[[]config.Oddity] // of the environment file as it was read last
}

// applier is the supervisor, as far as it is told of editions.
type applier interface {
	Apply(spec generation.Spec, restart bool) <-chan error
}

// configReport is what became of the configuration file.
type configReport struct {
	path string
	err  string // why it was rejected; "" when it was applied
}

// begin takes the first configuration, or the reason why there is none: then the last one that worked in an earlier life
// serves, if one is known. supervise is called with what the first worker is made from and with what is known to work, nil
// if nothing is; an edit waits until it has returned.
func (e *editions) begin(cfg *config.Config, err error, supervise func(first generation.Spec, good *generation.Spec) applier) {
	e.mu.Lock() // before the environment file is watched
	defer e.mu.Unlock()
	read := reading{cfg: cfg, err: err}
	e.completeReading(&read)
	saved := e.readSaved(err != nil)
	e.supervisor = supervise(e.first(read, saved))
}

// first makes the first edition of what was read, and that of the configuration that was kept, if there is one.
func (e *editions) first(read, kept reading) (first generation.Spec, good *generation.Spec) {
	if saved := e.prepareSaved(kept); saved != nil {
		e.good.Store(saved)
		good = &saved.spec
	}
	next, err := e.prepare(read)
	if err != nil {
		e.reject(err)
		if good != nil {
			e.log.Warn("going on with the last configuration that worked", "path", e.good.Load().cfg.Path)
			e.level.Set(e.good.Load().cfg.Log.Level)
			e.latest.Store(e.good.Load())
			e.oddities.Store(&kept.oddities)
			return *good, good
		}
		return generation.Spec{Refused: fmt.Errorf(api.SaysRefused+"%w", err), FrontDesk: true}, nil
	}
	if good != nil && len(read.cfg.Changed(e.good.Load().cfg)) == 0 {
		good.Edition = next.spec.Edition
	}
	e.oddities.Store(&read.oddities)
	e.accept(next)
	return next.spec, good
}

// end ends what begin has started, when the supervisor has ended.
func (e *editions) end() {
	e.environment.follow(math.MaxInt64, "")
	e.goodKept.Wait()
}

// reload applies the configuration as it is now, and returns when the worker
// that it asks for is ready, or with the reason why it is not. Noticed: nobody has asked for it, but a file was edited.
func (e *editions) reload(ctx context.Context, noticed bool) error {
	ready, err := e.apply(noticed)
	if err != nil {
		return err
	}
	if err := ready.wait(ctx); err != nil {
		return fmt.Errorf("the worker that the new configuration asks for is not ready: %w", err)
	}
	return nil
}

// read reads the configuration and what it names.
func (e *editions) read() reading {
	read := reading{number: e.readings.Add(1)}
	if why := e.unwatched.why.Swap(nil); why != nil && (e.watch == nil || e.watch() != nil) {
		e.unwatched.why.Store(why)
	}
	read.cfg, read.err = e.files.LoadAfter(e.before())
	e.completeReading(&read)
	return read
}

// before is the file that the configuration was read from last; "" where there was none.
func (e *editions) before() string {
	if latest := e.latest.Load(); latest != nil {
		return latest.cfg.Path
	}
	return ""
}

// completeReading reads the environment file that a configuration names, and has its edits noticed from before.
func (e *editions) completeReading(read *reading) {
	if read.err == nil {
		e.environment.follow(read.number, read.cfg.Worker.EnvironmentFile)
		read.readEnvironment()
		for _, odd := range read.oddities {
			e.log.Warn("environment file: " + odd.String())
		}
	}
}

// apply reads the configuration and hands what it asks for to the supervisor. The outcome is awaited without the lock, so
// that a better configuration need not wait for the failure of a bad one; and so is the file, which may lie where reading
// takes long.
func (e *editions) apply(noticed bool) (*pending, error) {
	return e.applyRead(e.read(), noticed)
}

// applyRead does not put what was read over what was read later.
func (e *editions) applyRead(read reading, noticed bool) (*pending, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if read.number < e.applied {
		e.log.Info("the configuration has been read again meanwhile")
		return e.outcome.ready, e.outcome.err
	}
	e.applied = read.number
	e.outcome.ready, e.outcome.err = e.applyReading(read, noticed)
	return e.outcome.ready, e.outcome.err
}

// applyReading hands what was read to the supervisor.
//
// A notice may come late, when the edit that it is of has been asked for and was rolled back already: it is not tried
// again, until somebody asks or writes the file once more.
func (e *editions) applyReading(read reading, noticed bool) (*pending, error) {
	current := e.current()
	next, err := e.prepare(read)
	if err == nil {
		if err = read.emptied(current); err != nil {
			e.held.dropClaim(next.spec.Edition)
		}
	}
	if err != nil {
		e.reject(err)
		return nil, err
	}
	e.oddities.Store(&read.oddities)
	cfg := read.cfg
	if latest := e.latest.Load(); noticed && latest != current && latest.cfg.Written.Equal(cfg.Written) && len(compare(latest, next)) == 0 {
		e.held.dropClaim(next.spec.Edition)
		e.log.Info("the configuration is the one that did not work")
		return latest.ready, nil
	}
	var changes []api.Change
	if current != nil {
		if changes = compare(current, next); len(changes) == 0 {
			e.held.dropClaim(next.spec.Edition)
			return e.unchanged(cfg, current), nil
		}
		next.spec.After = current.spec.Edition
	}
	restart := current == nil || slices.ContainsFunc(changes, api.Change.Restarts)
	for _, c := range changes {
		e.log.Info("configuration edited", "key", c.Key, "from", c.From, "to", c.To, "takes_effect", c.Effect)
	}
	e.accept(next)
	e.level.Set(cfg.Log.Level)
	next.ready = newPending(e.supervisor.Apply(next.spec, restart))
	return next.ready, nil
}

// unchanged is for a configuration that is the one in use: perhaps its worker is
// still on its way, or an edit that was rejected or rolled back was taken back.
func (e *editions) unchanged(cfg *config.Config, current *edition) *pending {
	e.report(configReport{path: cfg.Path})
	e.log.Info("the configuration has not changed")
	if e.latest.Swap(current) != current {
		again := current.spec
		again.After = again.Edition // it was compared with itself
		return newPending(e.supervisor.Apply(again, false))
	}
	return current.ready
}

func (e *editions) accept(next *edition) {
	e.latest.Store(next)
	e.report(configReport{path: next.cfg.Path})
	for _, drift := range next.drifts {
		e.log.Warn(drift.problem, "key", drift.key)
	}
}

func (e *editions) reject(err error) {
	e.log.Error("configuration rejected", "error", err)
	e.report(configReport{path: e.files.NameAfter(e.before()), err: say.Cut(err.Error(), longestReason)})
}

// longestReason is in bytes, and more than anybody reads: a file can have a mistake in each of its lines.
const longestReason = 8 << 10

// prepare makes a new edition of what was read. The caller accepts it or drops
// its claim on the sockets.
func (e *editions) prepare(read reading) (*edition, error) {
	if read.err != nil {
		return nil, read.err
	}
	e.prepared++
	number := e.prepared
	selected, err := e.held.claim(number, wishOf(read.cfg))
	if err != nil {
		return nil, inKey(read.cfg, "listen", err)
	}
	next, err := e.assemble(read.cfg, selected, read.fromFile)
	if err != nil {
		e.held.dropClaim(number)
		return nil, err
	}
	next.spec.Edition = number
	return next, nil
}

// current is the edition that is in use; nil before the first good one.
func (e *editions) current() *edition {
	latest := e.latest.Load()
	if latest != nil && e.rolledBack.Load() == int64(latest.spec.Edition) {
		return e.good.Load()
	}
	return latest
}

// addresses returns those that the worker of an edition gets.
func (e *editions) addresses(number int) []netaddr.Address {
	for _, known := range []*edition{e.latest.Load(), e.good.Load()} {
		if known != nil && known.spec.Edition == number {
			return known.addresses
		}
	}
	sockets, _ := e.held.current()
	return sockets.Addresses()
}

// observe takes note of what the supervisor does; it must not wait for a reload,
// which waits for the supervisor.
func (e *editions) observe(status worker.Status) {
	e.rolledBack.Store(int64(status.RolledBack))
	if good := e.good.Load(); status.RolledBack != 0 && good != nil {
		e.level.Set(good.cfg.Log.Level)
	}
	if latest := e.latest.Load(); status.State == worker.Ready && latest != nil && status.Edition == latest.spec.Edition {
		if e.good.Swap(latest) != latest {
			e.goodKept.Keep()
		}
	}
	e.closeUnclaimed(status)
}

// closeUnclaimed closes the addresses that an edit has removed, as soon as no generation
// has them any more and none will be made with them by a rollback.
func (e *editions) closeUnclaimed(status worker.Status) {
	switch {
	case status.State == worker.Ready || status.State == worker.Waiting:
	case status.RolledBack == 0 || status.State == worker.Stopping:
		// What is stopping may be what was rolled back, with all that it has.
		return
	}
	good := e.good.Load()
	e.held.retainClaims(func(number int) bool {
		return number == status.Edition || good != nil && number == good.spec.Edition ||
			number > max(status.Edition, status.RolledBack) // about to be applied
	})
}

// atOnce reports whether the first generation should not wait for a client:
// because it was configured so, or because one waits already.
func (e *editions) atOnce() bool {
	latest := e.latest.Load()
	if latest == nil {
		return false
	}
	if latest.cfg.Worker.Start == config.StartAtOnce {
		return true
	}
	sockets, _ := e.held.current()
	queued, err := sockets.Queued()
	return err == nil && queued > 0
}

// problems says what is wrong with the configuration that is in use.
func (e *editions) problems() []string {
	problems := []string{}
	if current := e.current(); current != nil && len(current.drifts) > 0 {
		// It may have been mended since; where systemd does not say, it is as it was.
		drifts, err := e.held.drifts(current.cfg, driftAgainLimit)
		if err != nil {
			drifts = current.drifts
		}
		for _, drift := range drifts {
			problems = append(problems, drift.problem)
		}
	}
	e.unwatched.tell(&problems)
	e.environment.unwatched.tell(&problems)
	e.goodKept.Tell(&problems)
	return problems
}

// notes says what is hardly meant in the environment file, and of a configuration that is gone.
func (e *editions) notes() []string {
	notes := []string{}
	if all := e.oddities.Load(); all != nil {
		for _, odd := range *all {
			notes = append(notes, "worker.environment_file: "+odd.String())
		}
	}
	if path := e.before(); path != "" {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) { // that is no edit: an editor's removal is followed by one
			notes = append(notes, path+" is gone: put it back before the launcher starts again, or write {} there if all defaults are meant")
		}
	}
	return notes
}

// save keeps the configuration whose worker has become ready last for the next life of the launcher.
func (e *editions) save() error { return saveGood(e.good.Load().cfg) }

// readSaved reads the configuration that was kept; used says that it is the one to go on with.
func (e *editions) readSaved(used bool) reading {
	var saved reading
	saved.cfg, saved.err = loadGood()
	if saved.cfg == nil {
		return saved
	}
	if used {
		e.completeReading(&saved)
	} else {
		saved.readEnvironment()
	}
	return saved
}

// prepareSaved returns the edition of the configuration that was kept; nil if there is none, or none that can be used.
func (e *editions) prepareSaved(read reading) *edition {
	if read.cfg == nil && read.err == nil {
		return nil
	}
	saved, err := e.prepare(read)
	if err != nil {
		e.log.Warn("the last configuration that worked cannot be used any more", "file", goodFile, "error", err)
		return nil
	}
	return saved
}
