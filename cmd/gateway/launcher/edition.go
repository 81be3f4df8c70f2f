package launcher

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/worker"
)

// edition is a configuration that was applied, and what a worker is made from
// because of it.
type edition struct {
	cfg     *config.Config
	spec    worker.Spec
	outcome *outcome
	// addresses are those that the worker gets, of listen.
	addresses []netip.AddrPort
	// lacks is what the units lack for it.
	lacks []lack
	// fromFile is what worker.environment_file held.
	fromFile []string
}

// outcome is what comes of applying a configuration; nil is good already.
type outcome struct {
	done chan struct{} // closed when err is known
	err  error
}

func newOutcome(reply <-chan error) *outcome {
	o := &outcome{done: make(chan struct{})}
	go func() {
		o.err = <-reply
		close(o.done)
	}()
	return o
}

func (o *outcome) wait(ctx context.Context) error {
	if o == nil {
		return nil
	}
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
		return fmt.Errorf("waiting for the next generation: %w", ctx.Err())
	}
}

// configReport is what the status says about the configuration.
type configReport struct {
	path string
	err  string // why the file was rejected; "" when it was applied
}

// adopt takes the first configuration, or the reason why there is none. Then
// the last one that worked in an earlier life serves, if one is known. It is
// called with the lock.
func (l *launcher) adopt(cfg *config.Config, err error) (first worker.Spec, good *worker.Spec) {
	if remembered := l.recall(); remembered != nil {
		l.good.Store(remembered)
		good = &remembered.spec
	}
	var prepared *edition
	if err == nil {
		l.watchEnvironment(cfg.Worker.EnvironmentFile)
		prepared, err = l.prepare(cfg)
	} else if good != nil {
		l.watchEnvironment(l.good.Load().cfg.Worker.EnvironmentFile)
	}
	if err != nil {
		l.reject(err)
		if good != nil {
			l.log.Warn("going on with the last configuration that worked", "path", l.good.Load().cfg.Path)
			l.level.Set(l.good.Load().cfg.Log.Level)
			l.latest.Store(l.good.Load())
			return *good, good
		}
		return worker.Spec{Refused: fmt.Errorf("no worker can be started: %w", err), FrontDesk: true}, nil
	}
	if good != nil && len(cfg.Changed(l.good.Load().cfg)) == 0 {
		good.Edition = prepared.spec.Edition
	}
	l.accept(prepared)
	return prepared.spec, good
}

// reload applies the configuration as it is now, and returns when the worker
// that it asks for is ready, or with the reason why it is not.
func (l *launcher) reload(ctx context.Context) error {
	outcome, err := l.apply()
	if err != nil {
		return err
	}
	if err := outcome.wait(ctx); err != nil {
		return fmt.Errorf("the worker that the new configuration asks for is not ready: %w", err)
	}
	return nil
}

// apply reads the configuration and hands what it asks for to the supervisor.
// The lock keeps the order of two calls; the outcome is awaited without it, so
// that a better configuration need not wait for the failure of a bad one.
func (l *launcher) apply() (*outcome, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	cfg, err := l.files.Load()
	var next *edition
	if err == nil {
		l.watchEnvironment(cfg.Worker.EnvironmentFile)
		next, err = l.prepare(cfg)
	}
	if err != nil {
		l.reject(err)
		return nil, err
	}
	current := l.current()
	var changes []api.Change
	if current != nil {
		if changes = compare(current, next); len(changes) == 0 {
			l.held.drop(next.spec.Edition)
			return l.keep(cfg, current), nil
		}
		next.spec.After = current.spec.Edition
	}
	restart := current == nil || slices.ContainsFunc(changes, api.Change.Restarts)
	for _, c := range changes {
		l.log.Info("configuration edited", "key", c.Key, "from", c.From, "to", c.To, "takes_effect", c.Effect)
	}
	l.accept(next)
	l.level.Set(cfg.Log.Level)
	next.outcome = newOutcome(l.supervisor.Apply(next.spec, restart))
	return next.outcome, nil
}

// keep is for a configuration that is the one in use: perhaps its worker is
// still on its way, or an edit that was rejected or rolled back was taken back.
func (l *launcher) keep(cfg *config.Config, current *edition) *outcome {
	l.report.Store(&configReport{path: cfg.Path})
	l.announce.reject("")
	l.tell()
	l.log.Info("the configuration has not changed")
	if l.latest.Swap(current) != current {
		return newOutcome(l.supervisor.Apply(current.spec, false))
	}
	return current.outcome
}

// current is the configuration that is in use; nil before the first good one.
func (l *launcher) current() *edition {
	latest := l.latest.Load()
	if status := l.observed.Load(); latest != nil && status != nil && status.RolledBack == latest.spec.Edition {
		return l.good.Load()
	}
	return latest
}

func (l *launcher) accept(e *edition) {
	l.latest.Store(e)
	l.report.Store(&configReport{path: e.cfg.Path})
	l.announce.reject("")
	l.tell()
	for _, lack := range e.lacks {
		l.log.Warn(lack.problem, "key", lack.key)
	}
}

func (l *launcher) reject(err error) {
	l.log.Error("configuration rejected", "error", err)
	l.report.Store(&configReport{path: l.files.Name(), err: err.Error()})
	l.announce.reject(err.Error())
	l.tell()
}
