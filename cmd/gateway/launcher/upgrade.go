package launcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/launcher/upgrade"
	"openclaw-gateway/listener"
	"openclaw-gateway/passed"
	"openclaw-gateway/worker"
	"openclaw-gateway/worker/spawn"
)

// heirloom is what the launcher has for the program that it becomes.
type heirloom struct {
	Since    time.Time         `json:"since"`
	Manager  int               `json:"manager"`
	Sockets  []listener.Passed `json:"sockets"`
	Refused  []string          `json:"refused"`
	Control  int               `json:"control"`
	Editions []heirEdition     `json:"editions"` // the good one, the latest one, or one that is both
	Ends     []api.Ends        `json:"ends"`
	Strays   int               `json:"strays"`
	History  []api.Life        `json:"history"` // also of the one that lives
	Worker   worker.Saved      `json:"worker"`

	version string // of the program that was before
}

// heirEdition is an edition of the configuration.
type heirEdition struct {
	Path    string    `json:"path"`
	Content []byte    `json:"content"` // nil: the defaults
	Written time.Time `json:"written"`
	// FromFile is what worker.environment_file held.
	FromFile   []string `json:"from_file"`
	Good       bool     `json:"good"`
	Latest     bool     `json:"latest"`
	RolledBack bool     `json:"rolled_back"`
}

// How long an upgrade waits until the worker serves and nothing goes on beside, and then for what has begun to come to its end.
const (
	settleLimit = time.Minute
	quietLimit  = 5 * time.Second
)

// Upgrade has this process become the program that is installed now, with its worker, its clients and all that it knows. It returns only
// if it has not: then nothing has changed.
func (l *launcher) Upgrade(ctx context.Context) error {
	if l.held.kind != api.FromSystemd {
		return errors.New("a launcher run by hand is not upgraded: stop \"gateway run\" and start it again")
	}
	if !l.upgrading.TryLock() {
		return errors.New("it is being upgraded already")
	}
	defer l.upgrading.Unlock()
	program, err := upgrade.Installed()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleLimit+quietLimit)
	defer cancel()
	if err := l.tryUpgrade(ctx, program); err != nil {
		l.log.Error("the launcher is not upgraded", "program", program.Path, "error", err)
		return err
	}
	ctx, cancel = context.WithTimeout(ctx, quietLimit)
	defer cancel()
	err = l.comeToRest(ctx)
	if err == nil {
		var release func()
		if release, err = l.control.Quiet(ctx); err == nil {
			defer release()
			err = l.hold(ctx, true, func(saved worker.Saved, files *passed.Files) error { return l.become(program, saved, files) })
		}
	}
	err = fmt.Errorf("the launcher goes on as it is: %w", err)
	l.log.Error("the launcher is not upgraded", "program", program.Path, "error", err)
	return err
}

// tryUpgrade asks the program first whether it can take what there is.
func (l *launcher) tryUpgrade(ctx context.Context, program upgrade.Program) error {
	settled, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	var content []byte
	err := l.hold(settled, false, func(saved worker.Saved, files *passed.Files) (err error) {
		left, err := l.bequeath(saved, files)
		if err == nil {
			content, err = upgrade.Encode(left)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("the launcher can be upgraded while the worker serves, or a client is waited for, and nothing goes on beside: %w", err)
	}
	return upgrade.Try(ctx, program.Path, content, l.supervisor.Exec)
}

// hold is Hold of the supervisor, while no edit is being applied.
func (l *launcher) hold(ctx context.Context, alone bool, f func(worker.Saved, *passed.Files) error) error {
	for {
		err := l.supervisor.Hold(ctx, alone, f)
		if !errors.Is(err, errEdited) {
			return err
		}
		l.editions.await()
	}
}

// comeToRest returns when what is kept is written, and who was answered with 503 has the answer.
func (l *launcher) comeToRest(ctx context.Context) error {
	rest := make(chan struct{})
	go func() {
		defer close(rest)
		l.reporter.history.Kept.Wait()
		l.editions.goodKept.Wait()
		l.binds.kept.Wait()
		l.alarm.Kept.Wait()
		l.desk.drain(ctx)
	}()
	select {
	case <-rest:
		return nil
	case <-ctx.Done():
		return errors.New("the disk does not take what is kept for the next start, or a client its answer")
	}
}

// bequeath is what the next program needs.
func (l *launcher) bequeath(saved worker.Saved, files *passed.Files) (left heirloom, err error) {
	sockets, _ := l.held.current()
	left = heirloom{
		Since: l.reporter.since, Manager: l.held.manager, Worker: saved, History: l.reporter.history.Lives(),
	}
	if left.Editions, err = l.editions.bequeath(); err != nil {
		return left, err
	}
	for _, refused := range l.held.refused {
		left.Refused = append(left.Refused, refused.Error())
	}
	left.Ends, left.Strays = l.reporter.ends.All()
	if left.Sockets, err = sockets.Pass(files); err != nil {
		return left, err
	}
	left.Control, err = l.control.Pass(files)
	return left, err
}

// become is called while everything stands still.
func (l *launcher) become(program upgrade.Program, saved worker.Saved, files *passed.Files) error {
	left, err := l.bequeath(saved, files)
	if err != nil {
		return err
	}
	content, err := upgrade.Encode(left)
	if err != nil {
		return err
	}
	environ, told, err := upgrade.Leave(content, files)
	if err != nil {
		return err
	}
	defer told.Close()
	if err := program.Unchanged(); err != nil {
		return err
	}
	l.log.Info("the launcher becomes the program that is installed now", "program", program.Path)
	l.flush()
	defer l.stops.listen() // where it does not
	if l.stops.come() {
		return worker.ErrStopping
	}
	return l.spawner.Become(spawn.Program{Path: program.Path, Argv: os.Args, Environ: environ}, files)
}

// CanUpgradeCommand is the argument with which a program calls [CanUpgrade].
const CanUpgradeCommand = upgrade.Command

// CanUpgrade says whether this program can take what the launcher that runs has; nil: it can.
func CanUpgrade(from io.Reader) error {
	content, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	h, err := inheritFrom(content)
	if err != nil {
		return err
	}
	for _, edition := range h.Editions {
		if _, err := edition.load(); err != nil {
			return fmt.Errorf("it does not take the configuration that is in use: %w", err)
		}
	}
	if len(h.Editions) == 0 || len(h.Sockets) == 0 {
		return errors.New("it is told of no configuration, or of no sockets")
	}
	return nil
}

func inheritFrom(content []byte) (*heirloom, error) {
	h := new(heirloom)
	var err error
	if h.version, err = upgrade.Decode(content, h); err != nil {
		return nil, err
	}
	return h, nil
}

// findHeirloom returns what an earlier program of this process has left; nil: there was none.
func findHeirloom() (*heirloom, error) {
	content, err := upgrade.Find()
	if content == nil {
		return nil, err
	}
	return inheritFrom(content)
}

// sockets and where they came from.
func (h *heirloom) source(options Options) (listener.Set, source, error) {
	sockets, err := listener.TakePassed(h.Sockets)
	from := source{kind: api.FromSystemd, of: options.Instance, manager: h.Manager}
	for _, refused := range h.Refused {
		from.refused = append(from.refused, errors.New(refused))
	}
	return sockets, from, err
}

func (e heirEdition) load() (*config.Config, error) {
	cfg, err := config.Parse(e.Path, e.Content)
	if cfg != nil {
		cfg.Written = e.Written
	}
	return cfg, err
}

// errEdited says that an edit is being applied: whoever does that waits for the supervisor, which must not wait for him.
var errEdited = errors.New("an edit is being applied")

// await returns when no edit is being applied.
func (e *editions) await() {
	e.mu.Lock()
	defer e.mu.Unlock()
}

// bequeath is the editions that the next program has to know. It is called by the supervisor, and does not wait.
func (e *editions) bequeath() (all []heirEdition, err error) {
	if !e.mu.TryLock() {
		return nil, errEdited
	}
	defer e.mu.Unlock()
	latest, good := e.latest.Load(), e.good.Load()
	for _, known := range []*edition{good, latest} {
		if known == nil || known == latest && known == good && len(all) > 0 {
			continue
		}
		all = append(all, heirEdition{
			Path: absolute(known.cfg.Path), Content: known.cfg.Content, Written: known.cfg.Written, FromFile: known.fromFile,
			Good: known == good, Latest: known == latest, RolledBack: e.rolledBack.Load() == int64(known.spec.Edition),
		})
	}
	return all, nil
}

func absolute(path string) string {
	if full, err := filepath.Abs(path); err == nil && path != "" {
		return full
	}
	return path
}

// resume takes up the editions that an earlier program of this process has had. supervise is called as by begin, with the number of
// the one that was rolled back.
func (e *editions) resume(all []heirEdition, supervise func(inUse edition, good *edition, rolledBack int) applier) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, was := range all {
		cfg, err := was.load()
		if err != nil {
			return err
		}
		known, err := e.prepare(reading{cfg: cfg, fromFile: was.FromFile})
		if err != nil {
			return err
		}
		if was.Good {
			e.good.Store(known)
		}
		if was.Latest {
			e.accept(known)
		}
		if was.RolledBack {
			e.rolledBack.Store(int64(known.spec.Edition))
		}
	}
	inUse := e.current()
	if inUse == nil {
		return errors.New("no configuration is in use")
	}
	e.level.Set(inUse.cfg.Log.Level)
	e.environment.follow(0, inUse.cfg.Worker.EnvironmentFile)
	e.supervisor = supervise(*inUse, e.good.Load(), int(e.rolledBack.Load()))
	return nil
}

// resume goes on where an earlier program of this process was.
func (l *launcher) resume(h *heirloom, options worker.Options) error {
	l.reporter.since, l.reporter.upgraded = h.Since, time.Now()
	l.reporter.systemd.Resume()
	l.reporter.history.Resume(h.History)
	l.reporter.history.Kept.Keep() // what the program before has written last may be cut off
	l.reporter.ends.Resume(h.Ends, h.Strays)
	l.log.Info("the launcher has become another program", "version", api.ProgramVersion(), "before", h.version)
	return l.editions.resume(h.Editions, func(inUse edition, good *edition, rolledBack int) applier {
		l.alarm.RolledBack(rolledBack)
		options.Resume, options.RolledBack, options.Known, options.Binds = &h.Worker, rolledBack, h.Worker.Known, h.Worker.Binds
		if good != nil {
			options.Good = &good.spec
		}
		options.Lost = func(err error) {
			l.log.Error("what the program before has left cannot be taken up: systemd starts everything again", "error", err)
			os.Exit(1) // the worker ends with it
		}
		l.supervise(inUse.spec, options)
		return l.supervisor
	})
}
