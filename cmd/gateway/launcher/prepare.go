package launcher

import (
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"slices"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/listener"
	"openclaw-gateway/worker"
	"openclaw-gateway/worker/handoff"
)

// prepare makes a new edition of a configuration. The caller accepts it or drops
// its claim on the sockets.
func (l *launcher) prepare(cfg *config.Config) (*edition, error) {
	l.editions++
	number := l.editions
	selected, err := l.held.claim(number, cfg.Listen)
	if err != nil {
		return nil, inKey(cfg, "listen", err)
	}
	e, err := l.assemble(cfg, selected, l.log)
	if err != nil {
		l.held.drop(number)
		return nil, err
	}
	e.spec.Edition = number
	return e, nil
}

// assemble makes what a worker is made from, and changes nothing.
func (l *launcher) assemble(cfg *config.Config, selected listener.Set, log *slog.Logger) (*edition, error) {
	spec := worker.Spec{
		Queues: selected, Command: cfg.Worker.Command, Directory: cfg.Worker.Directory,
		Environment: slices.Clone(cfg.Worker.Environment), Handoff: handoff.Kind(cfg.Worker.Handoff),
		Probe: worker.Probe(cfg.Ready.Probe), ReadyPath: cfg.Ready.Path, ReadyTimeout: cfg.Ready.Timeout,
		StopSignal: cfg.Stop.Signal, StopTimeout: cfg.Stop.Timeout,
		Backoff:        worker.Backoff{Min: cfg.Restart.BackoffMin, Max: cfg.Restart.BackoffMax, ResetAfter: cfg.Restart.ResetAfter},
		FatalExitCodes: cfg.Restart.FatalExitCodes, FrontDesk: cfg.FrontDesk,
		IdleStop: cfg.Worker.IdleStop,
	}
	for _, socket := range selected {
		spec.Sockets = append(spec.Sockets, handoff.Socket{File: socket.File, Address: socket.Address})
	}
	if len(spec.Command) == 0 {
		executable, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find the program of the hello server: %w", err)
		}
		spec.Command = []string{executable, l.options.Hello}
		spec.Environment = append(spec.Environment, "GATEWAY_CONFIG="+l.files.Name())
	}
	if spec.Directory == "" {
		spec.Directory = homeDirectory()
	}
	var fromFile []string
	if file := cfg.Worker.EnvironmentFile; file != "" {
		var err error
		if fromFile, err = config.ReadEnvironmentFile(file, log); err != nil {
			return nil, inKey(cfg, "worker.environment_file", err)
		}
		// After worker.environment, so that the file wins, as in a unit.
		spec.Environment = append(spec.Environment, fromFile...)
	}
	// What cannot be compared is in the log, and is no mistake of the configuration.
	lacks, _ := l.lacks(cfg, lacksLimit)
	return &edition{cfg: cfg, spec: spec, addresses: selected.Addresses(), lacks: lacks, fromFile: fromFile}, nil
}

// inKey names the key that an error is about, and the line or the variable where
// it is set.
func inKey(cfg *config.Config, key string, err error) error {
	if source, ok := cfg.Source[key]; ok {
		return fmt.Errorf("%s: %s: %w", source, key, err)
	}
	return fmt.Errorf("%s: %w", key, err)
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
