package main

import (
	"fmt"
	"os"
	"os/user"
	"slices"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/worker"
	"openclaw-gateway/worker/handoff"
)

// prepare makes what a worker is made from.
func (l *launcher) prepare(cfg *config.Config) (*edition, error) {
	selected, missing, _ := l.held.Select(cfg.Listen)
	if len(selected) == 0 {
		return nil, fmt.Errorf("listen is %s, but %s holds %s: %s",
			joinAddresses(cfg.Listen), l.holder.kind, joinAddresses(l.held.Addresses()), renderAgain)
	}
	latest := l.latest.Load()
	if l.holder.kind == byItself && latest != nil && !slices.Equal(latest.cfg.Listen, cfg.Listen) {
		return nil, fmt.Errorf("listen has changed to %s: stop \"gateway run\" and start it again (missing: %s)",
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
			return nil, fmt.Errorf("find the program of the hello server: %w", err)
		}
		spec.Command = []string{executable, helloArgument}
		spec.Environment = append(spec.Environment, "GATEWAY_CONFIG="+l.files.name())
	}
	if spec.Directory == "" {
		spec.Directory = homeDirectory()
	}
	var fromFile []string
	if file := cfg.Worker.EnvironmentFile; file != "" {
		var err error
		if fromFile, err = config.ReadEnvironmentFile(file); err != nil {
			return nil, fmt.Errorf("worker.environment_file: %w", err)
		}
		// After worker.environment, so that the file wins, as in a unit.
		spec.Environment = append(spec.Environment, fromFile...)
	}
	return &edition{cfg: cfg, spec: spec, fromFile: fromFile}, nil
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
