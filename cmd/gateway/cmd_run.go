package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/launcher"
)

func newRunCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:     "run [--config FILE]",
		Short:   "be the launcher, in the foreground",
		Example: "gateway run --config openclaw.yaml",
		Long: `Takes the listening sockets that systemd passes, starts the worker at the first connection, and goes on to the
next generation when it ends. Without passed sockets, and not under systemd, it binds the addresses of "listen"
itself. SIGTERM and SIGINT stop the worker and end it, a second one without waiting for the worker; SIGHUP applies
the configuration.

Exit status: 75 when the worker was stopped because nobody was connected (worker.idle_stop); systemd, which keeps the
sockets, starts it again for the next client. Run by hand it waits for that client itself.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runLauncher(cmd.Context(), path)
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "configuration file (default: the user's, else /etc/openclaw-gateway/config.yaml)")
	return cmd
}

// newWrapperCommand is "run" in the form in which a unit calls it that OpenClaw
// wrote with its own install --wrapper: PATH gateway --port N.
func newWrapperCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "gateway",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runLauncher(cmd.Context(), "")
		},
	}
}

// runLauncher is the launcher until it ends, with its exit status.
func runLauncher(ctx context.Context, path string) error {
	err := launcher.Run(ctx, launcher.Options{Config: path, Hello: helloArgument})
	if errors.Is(err, launcher.ErrIdle) {
		return &exitStatus{status: launcher.IdleStatus}
	}
	return whoHolds(ctx, err)
}

// whoHolds says who has the address that could not be bound, and what frees it.
func whoHolds(ctx context.Context, err error) error {
	used, ok := errors.AsType[*launcher.AddressInUse](err)
	if !ok {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, hintLimit)
	defer cancel()
	return fmt.Errorf("%w: %s", used.Err, holders.InUse(ctx, used.Address))
}

// hintLimit is how long a look at who holds an address may take.
const hintLimit = 5 * time.Second
