package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/worker"
)

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
