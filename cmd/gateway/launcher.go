package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/listener"
	"openclaw-gateway/listener/frontdesk"
	"openclaw-gateway/worker"
	"openclaw-gateway/worker/handoff"
)

// launcher is "gateway run": it ties the held sockets, the configuration and
// the supervisor together, and is what the control socket speaks to.
type launcher struct {
	log        *slog.Logger
	level      *slog.LevelVar
	files      configFile
	held       listener.Set
	holder     holder
	since      time.Time
	supervisor *worker.Supervisor
	observed   atomic.Pointer[worker.Status]

	// mu makes one reload wait for the other.
	mu sync.Mutex
	// latest is the configuration that was applied last; nil before the first
	// good one. good is the last one whose worker became ready.
	latest, good atomic.Pointer[edition]
	editions     int // how many have been prepared

	report atomic.Pointer[configReport]
}

// edition is a configuration that was applied, and what a worker is made from
// because of it.
type edition struct {
	cfg  *config.Config
	spec worker.Spec
}

// configReport is what the status says about the configuration.
type configReport struct {
	path     string
	err      string   // why the file was rejected; "" when it was applied
	problems []string // what is wrong although it was applied
}

// adopt takes the first configuration, or the reason why there is none. Then
// the last one that worked in an earlier life serves, if one is known.
func (l *launcher) adopt(cfg *config.Config, err error) (first worker.Spec, good *worker.Spec) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if remembered := l.recall(); remembered != nil {
		l.good.Store(remembered)
		good = &remembered.spec
	}
	var spec worker.Spec
	if err == nil {
		spec, err = l.prepare(cfg)
	}
	if err != nil {
		l.reject(err)
		if good != nil {
			l.log.Warn("going on with the last configuration that worked", "path", l.good.Load().cfg.Path)
			l.latest.Store(l.good.Load())
			return *good, good
		}
		return worker.Spec{Refused: fmt.Errorf("no worker can be started: %w", err), FrontDesk: true}, nil
	}
	if good != nil && len(cfg.Changed(l.good.Load().cfg)) == 0 {
		good.Edition = spec.Edition
	}
	l.accept(cfg, spec)
	return spec, good
}

// atOnce reports whether the first generation should not wait for a client:
// because it was configured so, or because one waits already.
func (l *launcher) atOnce() bool {
	latest := l.latest.Load()
	if latest == nil {
		return false
	}
	if latest.cfg.Worker.Start == config.StartAtOnce {
		return true
	}
	queued, err := l.held.Queued()
	return err == nil && queued > 0
}

// restart starts the next generation and returns when it is ready, or with the
// reason why it is not.
func (l *launcher) restart(ctx context.Context) error {
	return await(ctx, l.supervisor.Restart())
}

// reload applies the configuration as it is now, and returns when the worker
// that it asks for is ready, or with the reason why it is not.
func (l *launcher) reload(ctx context.Context) error {
	outcome, err := l.apply()
	if err != nil {
		return err
	}
	if err := await(ctx, outcome); err != nil {
		return fmt.Errorf("the worker that the new configuration asks for is not ready: %w", err)
	}
	return nil
}

// apply reads the configuration and hands what it asks for to the supervisor.
// The lock keeps the order of two calls; the outcome is awaited without it, so
// that a better configuration need not wait for the failure of a bad one.
func (l *launcher) apply() (<-chan error, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	cfg, err := l.files.load()
	var spec worker.Spec
	if err == nil {
		spec, err = l.prepare(cfg)
	}
	if err != nil {
		l.reject(err)
		return nil, err
	}
	current := l.current()
	first := current == nil
	var changed []string
	if !first {
		changed = current.cfg.Changed(cfg)
		if !slices.Equal(spec.Environment, current.spec.Environment) && !slices.Contains(changed, "worker.environment") {
			changed = append(changed, "worker.environment_file")
		}
	}
	if !first && len(changed) == 0 {
		// As before, though perhaps after a rejected edit that was taken back.
		l.latest.Store(current)
		l.report.Store(l.examine(cfg))
		l.log.Info("the configuration has not changed")
		if status := l.observed.Load(); status != nil && status.RolledBack != 0 {
			return l.supervisor.Apply(current.spec, false), nil
		}
		nothing := make(chan error, 1)
		nothing <- nil
		return nothing, nil
	}
	l.accept(cfg, spec)
	l.level.Set(cfg.Log.Level)
	restart := first || slices.ContainsFunc(changed, needsGeneration)
	l.log.Info("configuration applied", "changed", strings.Join(changed, " "), "next_generation", restart)
	return l.supervisor.Apply(spec, restart), nil
}

func await(ctx context.Context, outcome <-chan error) error {
	select {
	case err := <-outcome:
		return err
	case <-ctx.Done():
		return fmt.Errorf("waiting for the next generation: %w", ctx.Err())
	}
}

// needsGeneration reports whether a changed key concerns the worker that runs.
func needsGeneration(key string) bool {
	section, _, _ := strings.Cut(key, ".")
	return slices.Contains([]string{"listen", "worker", "ready", "stop"}, section) && key != "worker.start"
}

// current is the configuration that is in use; nil before the first good one.
func (l *launcher) current() *edition {
	latest := l.latest.Load()
	if status := l.observed.Load(); latest != nil && status != nil && status.RolledBack == latest.spec.Edition {
		return l.good.Load()
	}
	return latest
}

// observe takes note of what the supervisor does; it must not wait for a reload,
// which waits for the supervisor.
func (l *launcher) observe(status worker.Status) {
	l.observed.Store(&status)
	if good := l.good.Load(); status.RolledBack != 0 && good != nil {
		l.level.Set(good.cfg.Log.Level)
	}
	latest := l.latest.Load()
	if status.State != worker.Ready || latest == nil || status.Edition != latest.spec.Edition {
		return
	}
	if l.good.Swap(latest) != latest {
		go l.remember(latest)
	}
}

func (l *launcher) accept(cfg *config.Config, spec worker.Spec) {
	l.latest.Store(&edition{cfg: cfg, spec: spec})
	l.report.Store(l.examine(cfg))
}

// examine says what is wrong with a configuration that can be applied.
func (l *launcher) examine(cfg *config.Config) *configReport {
	report := configReport{path: cfg.Path}
	if _, missing, unwanted := l.held.Select(cfg.Listen); l.holder.kind == bySystemd {
		if len(missing) > 0 {
			report.problems = append(report.problems, fmt.Sprintf(
				"listen has %s, but systemd does not hold it: %s", joinAddresses(missing), renderAgain))
		}
		if len(unwanted) > 0 {
			report.problems = append(report.problems, fmt.Sprintf(
				"systemd holds %s, which is not in listen and is not handed to the worker: %s", joinAddresses(unwanted), renderAgain))
		}
	}
	for _, problem := range report.problems {
		l.log.Warn(problem)
	}
	for _, refused := range l.holder.refused {
		report.problems = append(report.problems, refused.Error())
	}
	return &report
}

const renderAgain = "run \"gateway install\" again, then restart openclaw-gateway.socket"

func (l *launcher) reject(err error) {
	l.log.Error("configuration rejected", "error", err)
	l.report.Store(&configReport{path: l.files.name(), err: err.Error()})
}

// prepare makes the spec of the next generation.
func (l *launcher) prepare(cfg *config.Config) (worker.Spec, error) {
	selected, missing, _ := l.held.Select(cfg.Listen)
	if len(selected) == 0 {
		return worker.Spec{}, fmt.Errorf("listen is %s, but %s holds %s: %s",
			joinAddresses(cfg.Listen), l.holder.kind, joinAddresses(l.held.Addresses()), renderAgain)
	}
	latest := l.latest.Load()
	if l.holder.kind == byItself && latest != nil && !slices.Equal(latest.cfg.Listen, cfg.Listen) {
		return worker.Spec{}, fmt.Errorf("listen has changed to %s: stop \"gateway run\" and start it again (missing: %s)",
			joinAddresses(cfg.Listen), joinAddresses(missing))
	}
	l.editions++
	spec := worker.Spec{
		Edition: l.editions,
		Queues:  selected, Command: cfg.Worker.Command, Directory: cfg.Worker.Directory,
		Environment: slices.Clone(cfg.Worker.Environment), Handoff: handoff.Kind(cfg.Worker.Handoff),
		Probe: worker.Probe(cfg.Ready.Probe), ReadyPath: cfg.Ready.Path, ReadyTimeout: cfg.Ready.Timeout,
		StopSignal: cfg.Stop.Signal, StopTimeout: cfg.Stop.Timeout,
		Backoff:        worker.Backoff{Min: cfg.Restart.BackoffMin, Max: cfg.Restart.BackoffMax, ResetAfter: cfg.Restart.ResetAfter},
		FatalExitCodes: cfg.Restart.FatalExitCodes, FrontDesk: cfg.FrontDesk,
	}
	for _, socket := range selected {
		spec.Sockets = append(spec.Sockets, handoff.Socket{File: socket.File, Address: socket.Address})
	}
	if len(spec.Command) == 0 {
		executable, err := os.Executable()
		if err != nil {
			return worker.Spec{}, fmt.Errorf("find the program of the hello server: %w", err)
		}
		spec.Command = []string{executable, helloArgument}
		spec.Environment = append(spec.Environment, "GATEWAY_CONFIG="+l.files.name())
	}
	if spec.Directory == "" {
		spec.Directory = homeDirectory()
	}
	if info, err := os.Stat(spec.Directory); err != nil || !info.IsDir() {
		return worker.Spec{}, errors.Join(fmt.Errorf("worker.directory: %s is not a directory that can be entered", spec.Directory), err)
	}
	if file := cfg.Worker.EnvironmentFile; file != "" {
		// After worker.environment, so that the file wins, as in a unit.
		entries, err := config.ReadEnvironmentFile(file)
		if err != nil {
			return worker.Spec{}, fmt.Errorf("worker.environment_file: %w", err)
		}
		spec.Environment = append(spec.Environment, entries...)
	}
	return spec, nil
}

// openDesk lets the launcher answer the clients itself.
func (l *launcher) openDesk() (closeDesk func()) {
	desk, err := frontdesk.Open(l.held, l.notice, l.log)
	if err != nil {
		l.log.Error("cannot open the front desk, clients wait in the queue", "error", err)
		return func() {}
	}
	l.log.Info("front desk opened: clients are answered with 503")
	return func() {
		desk.Close()
		l.log.Info("front desk closed: clients wait for the next generation")
	}
}

// notice is what the front desk tells. The reason stays in the log and the
// status: it may name files and commands, and a client has not shown who it is.
func (l *launcher) notice() frontdesk.Notice {
	notice := frontdesk.Notice{Problem: "the server behind this port has failed"}
	if status := l.observed.Load(); status != nil {
		notice.Since, notice.Next = status.Since, status.NextStart
		exit := status.LastExit
		switch {
		case exit == nil:
			notice.Problem = "the server behind this port cannot be started"
		case exit.Reason == worker.ReasonUnready:
			notice.Problem = fmt.Sprintf("generation %d of the server behind this port did not serve", exit.Generation)
		default:
			notice.Problem = fmt.Sprintf("generation %d of the server behind this port ended: %s", exit.Generation, exit)
		}
	}
	return notice
}

// mend watches for a worker that shuts the sockets down for everybody.
func (l *launcher) mend(ctx context.Context) {
	watch, err := l.held.Watch(ctx)
	if err != nil {
		l.log.Error("cannot watch the sockets: one that a worker shuts down is mended with the next generation", "error", err)
		return
	}
	defer watch.Close()
	for {
		mended, err := watch.Mended()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			l.log.Error("cannot watch the sockets any more: one that a worker shuts down is mended with the next generation", "error", err)
			return
		}
		l.log.Warn("somebody shut a listening socket down; it listens again", "address", joinAddresses(mended.Addresses()))
	}
}

// homeDirectory returns the home of the user that the launcher runs as. systemd
// sets HOME only where a unit says User= (systemd.exec(5)).
func homeDirectory() string {
	if home, err := os.UserHomeDir(); err == nil {
		return home
	}
	if self, err := user.Current(); err == nil && self.HomeDir != "" {
		return self.HomeDir
	}
	return "/"
}

// configFile is where the configuration comes from.
type configFile struct {
	path string // as given with --config; "" looks for it, each time anew
}

func (f configFile) name() string {
	if f.path != "" {
		return f.path
	}
	return config.Find()
}

func (f configFile) load() (*config.Config, error) { return config.Load(f.name()) }
