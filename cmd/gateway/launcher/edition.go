package launcher

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/user"
	"slices"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/listener"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/generation"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/signs"
)

// edition is a configuration that was applied, and what a worker is made from
// because of it.
type edition struct {
	cfg   *config.Config
	spec  generation.Spec
	ready *pending // what its worker comes to; nil: it was never handed to the supervisor
	// addresses are those that the worker gets, of listen.
	addresses []netaddr.Address
	// drifts is what the units lack for it.
	drifts []drift
	// fromFile is what worker.environment_file held.
	fromFile []string
}

// pending is a reply of the supervisor that may be awaited by several; nil is a good one.
type pending struct {
	done chan struct{} // closed when err is known
	err  error
}

func newPending(reply <-chan error) *pending {
	p := &pending{done: make(chan struct{})}
	go func() {
		p.err = <-reply
		close(p.done)
	}()
	return p
}

func (p *pending) wait(ctx context.Context) error {
	if p == nil {
		return nil
	}
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("waiting for the next generation: %w", ctx.Err())
	}
}

// assembler makes editions.
type assembler struct {
	files config.Named
	held  *heldSockets
	hello string // the argument with which this program is the worker where the configuration names none
}

// assemble makes what a worker is made from, of a configuration, those of the held sockets that are of its listen, and what
// its environment file holds. It changes nothing.
func (a assembler) assemble(cfg *config.Config, selected listener.Set, fromFile []string) (*edition, error) {
	spec := generation.Spec{
		Queues: selected, Command: cfg.Worker.Command, Directory: cfg.Worker.Directory,
		Environment: slices.Clone(cfg.Worker.Environment), Handoff: handoff.Kind(cfg.Worker.Handoff), Cache: cfg.Worker.Cache == config.CacheAuto,
		Probe: generation.Probe(cfg.Ready.Probe), ReadyPath: cfg.Ready.Path, ReadyShown: say.URL(cfg.Ready.Path), ReadyHost: cfg.Ready.Host, ReadyTimeout: cfg.Ready.Timeout,
		StopSignal: cfg.Stop.Signal, StopAll: cfg.Stop.To == config.StopAll, StopTimeout: cfg.Stop.Timeout,
		Backoff:        generation.Backoff{Min: cfg.Restart.BackoffMin, Max: cfg.Restart.BackoffMax, ResetAfter: cfg.Restart.ResetAfter},
		FatalExitCodes: cfg.Restart.FatalExitCodes, WaitAfterExit0: cfg.Restart.AfterExit0 == config.AfterExit0Wait, FrontDesk: cfg.FrontDesk,
		IdleStop: cfg.Worker.IdleStop, Handover: cfg.Restart.Mode == config.ModeHandover, Standby: cfg.Restart.Standby,
		Prewarm: cfg.Restart.Prewarm == config.PrewarmOn, PrewarmTimeout: cfg.Restart.PrewarmTimeout,
		Alive: signs.Settings{
			Queue: cfg.Alive.Queue, Path: cfg.Alive.Path, Shown: say.URL(cfg.Alive.Path), Interval: cfg.Alive.Interval, Timeout: cfg.Alive.Timeout,
			Failures: cfg.Alive.Failures, Watchdog: cfg.Alive.Watchdog, Restart: cfg.Alive.Restart, StopTimeout: cfg.Alive.StopTimeout,
		},
	}
	// What cannot be compared is in the log, and is no mistake of the configuration.
	drifts, _ := a.held.drifts(cfg, driftLimit)
	for _, socket := range selected {
		spec.Sockets = append(spec.Sockets, handoff.Socket{
			Besides: !cfg.Wants(socket.Address), File: socket.File, Address: socket.Address, DualStack: socket.DualStack, Name: cmp.Or(cfg.Names[socket.Address], socket.Name), Backlog: socket.Backlog(),
		})
	}
	if len(spec.Command) == 0 {
		executable, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find the program of the hello server: %w", err)
		}
		spec.Command = []string{executable, a.hello}
		spec.Environment = append(spec.Environment, "GATEWAY_CONFIG="+a.files.Name())
	}
	spec.Home = homeOf(cfg.Worker.Command)
	// After worker.environment, so that the file wins, as in a unit.
	spec.Environment = append(spec.Environment, fromFile...)
	return &edition{cfg: cfg, spec: spec, addresses: selected.Addresses(), drifts: drifts, fromFile: fromFile}, nil
}

// inKey names the key that an error is about, and the line or the variable where
// it is set.
func inKey(cfg *config.Config, key string, err error) error {
	if source, ok := cfg.Source[key]; ok {
		return fmt.Errorf("%s: %s: %w", source, key, err)
	}
	return fmt.Errorf("%s: %w", key, err)
}

// homeOf is where a worker starts of which the configuration does not say it: at the home of the user that it runs as, also
// where the command itself makes it another one. That one may not enter root's, and Node.js fails there with a script to load.
func homeOf(command []string) string {
	name := handoff.Becomes(command)
	if name == "" {
		return homeDirectory()
	}
	if account, err := systemd.Account(name); err == nil {
		return account.HomeDir
	}
	return "/"
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
