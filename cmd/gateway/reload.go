package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/listener/holders"
	"openclaw-gateway/units"
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

// watched returns the file whose edits count: the one that is read, or the one
// that would be if it were made.
func (f configFile) watched() string {
	return cmp.Or(f.name(), config.DefaultPath(os.Geteuid() != 0), config.DefaultPath(false))
}

func (f configFile) load() (*config.Config, error) { return config.Load(f.name()) }

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
	cfg, err := l.files.load()
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
	var changes []change
	if current != nil {
		if changes = compare(current, next); len(changes) == 0 {
			l.held.drop(next.spec.Edition)
			return l.keep(cfg, current), nil
		}
		next.spec.After = current.spec.Edition
	}
	restart := current == nil || slices.ContainsFunc(changes, change.restarts)
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

// change is what an edit does to one key.
type change struct {
	Key    string `json:"key"`
	From   string `json:"from"`
	To     string `json:"to"`
	Effect effect `json:"effect"`
}

// effect is when a change takes effect.
type effect string

const (
	atOnce          effect = "at once"
	nextGeneration  effect = "with the next generation, now"
	nextFailure     effect = "with the next failure"
	nextLauncher    effect = "with the next start of the launcher"
	withUnits       effect = "when \"gateway install\" has rendered the units again"
	nowAndWithUnits effect = "with the next generation, now, and in full when \"gateway install\" has rendered the units again"
)

// restarts reports whether the change asks for another worker.
func (c change) restarts() bool { return c.Effect == nextGeneration || c.Effect == nowAndWithUnits }

// effects says when a change of a key takes effect; what is not here concerns
// the worker that runs, which is replaced.
var effects = map[string]effect{
	"worker.start":             nextLauncher,
	"worker.idle_stop":         atOnce,
	"restart.backoff_min":      nextFailure,
	"restart.backoff_max":      nextFailure,
	"restart.reset_after":      nextFailure,
	"restart.fatal_exit_codes": nextFailure,
	"front_desk":               atOnce,
	"log.level":                atOnce,
	"log.format":               nextLauncher,
}

// compare says what an edit does, key by key.
func compare(from, to *edition) []change {
	var changes []change
	old, values := from.cfg.Values(), to.cfg.Values()
	changed := from.cfg.Changed(to.cfg)
	sameSockets := slices.Equal(from.addresses, to.addresses)
	for i, value := range values {
		if !slices.Contains(changed, value.Key) {
			continue
		}
		c := change{Key: value.Key, From: shownValue(from.cfg, old[i]), To: shownValue(to.cfg, value), Effect: effects[value.Key]}
		if c.From == c.To {
			c.To += " (edited)"
		}
		lacking := slices.ContainsFunc(to.lacks, func(l lack) bool { return l.key == value.Key })
		switch {
		case value.Key == "listen" && sameSockets && lacking:
			c.Effect = withUnits
		case value.Key == "listen" && sameSockets:
			c.Effect = atOnce
		case lacking:
			c.Effect = nowAndWithUnits
		}
		changes = append(changes, c)
	}
	if !slices.Equal(from.fromFile, to.fromFile) && !slices.Contains(changed, "worker.environment") &&
		!slices.Contains(changed, "worker.environment_file") {
		file := to.cfg.Worker.EnvironmentFile
		changes = append(changes, change{Key: "worker.environment_file", From: file, To: file + " (edited)"})
	}
	if !sameSockets && !slices.Contains(changed, "listen") {
		// This machine has got one of them since, or lost it.
		changes = append(changes, change{Key: "listen", From: joinAddresses(from.addresses), To: joinAddresses(to.addresses)})
	}
	for i := range changes {
		if changes[i].Effect == "" {
			changes[i].Effect = nextGeneration
		}
	}
	return changes
}

// shownValue is a value of a configuration for people and the log, without what may
// be a secret. It is never empty: the log leaves out what is.
func shownValue(cfg *config.Config, value config.Value) string {
	text := fmt.Sprint(value.Value)
	switch value.Key {
	case "worker.environment":
		text = variableNames(cfg.Worker.Environment)
	case "worker.command":
		text = holders.CommandLine(cfg.Worker.Command)
	case "ready.path":
		text = worker.ShownURL(cfg.Ready.Path)
	}
	return cmp.Or(text, `""`)
}

func variableNames(environment []string) string {
	names := make([]string, 0, len(environment))
	for _, entry := range environment {
		name, _, _ := strings.Cut(entry, "=")
		names = append(names, name)
	}
	return strings.Join(names, " ")
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

// lack is what the units lack for a configuration that can be applied.
type lack struct{ key, problem string }

// lacks compares a configuration with the units that run. With an error, which
// systemd's answer within limit would have avoided, stop.timeout was not compared.
func (l *launcher) lacks(cfg *config.Config, limit time.Duration) (lacks []lack, err error) {
	if l.held.kind != bySystemd {
		return nil, nil
	}
	held, _ := l.held.now()
	_, missing, unwanted := held.Select(cfg.Listen)
	if len(missing) > 0 {
		lacks = append(lacks, lack{"listen", fmt.Sprintf(
			"listen has %s, but systemd does not hold it: %s", joinAddresses(missing), renderAgain)})
	}
	if len(unwanted) > 0 {
		lacks = append(lacks, lack{"listen", fmt.Sprintf(
			"systemd holds %s, which is not in listen and is not handed to the worker: %s", joinAddresses(unwanted), renderAgain)})
	}
	needed := units.NeededStopLimit(cfg.Stop.Timeout)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	granted, err := units.StopLimit(ctx, l.scope())
	if err != nil {
		l.log.Debug("cannot compare stop.timeout with the unit", "error", err)
		return lacks, err
	}
	if granted < needed {
		lacks = append(lacks, lack{"stop.timeout", fmt.Sprintf(
			"stop.timeout is %s, but systemd kills the service after %s (TimeoutStopSec), and %s are needed: %s",
			cfg.Stop.Timeout, granted, needed, renderAgain)})
	}
	return lacks, nil
}

// How long systemd may take to say what stop.timeout is compared with: when a
// configuration is applied, and when the status is asked, whose client does not
// wait longer than answerLimit.
const (
	lacksLimit      = 5 * time.Second
	lacksAgainLimit = 500 * time.Millisecond
)

// problems says what is wrong with the configuration that is in use.
func (l *launcher) problems() []string {
	problems := []string{}
	if current := l.current(); current != nil && len(current.lacks) > 0 {
		// It may have been mended since; where systemd does not say, it is as it was.
		lacks, err := l.lacks(current.cfg, lacksAgainLimit)
		if err != nil {
			lacks = current.lacks
		}
		for _, lack := range lacks {
			problems = append(problems, lack.problem)
		}
	}
	for _, refused := range l.held.refused {
		problems = append(problems, refused.Error())
	}
	return problems
}

const renderAgain = "run \"gateway install\" again, which renders the units and restarts the socket"

func (l *launcher) reject(err error) {
	l.log.Error("configuration rejected", "error", err)
	l.report.Store(&configReport{path: l.files.name(), err: err.Error()})
	l.announce.reject(err.Error())
	l.tell()
}
