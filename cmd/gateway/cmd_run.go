package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/launcher"
	"openclaw-gateway/units/instance"
)

func newRunCommand() *cobra.Command {
	options := launcher.Options{Hello: helloArgument}
	cmd := &cobra.Command{
		Use:     "run [--name NAME] [--config FILE]",
		Short:   "run the launcher in the foreground",
		Example: "gateway run --config openclaw.yaml",
		Long: `Is the launcher: takes the listening sockets from systemd, starts the server (called the worker) at the first connection, and starts it
again each time it ends. Started by hand, it opens the addresses of "listen" itself. SIGTERM and SIGINT stop the worker and then the launcher; a
second one does not wait for the worker. SIGHUP applies the configuration; when the terminal is closed, it stops as well.

Exit status: 75 if the worker was stopped because nobody was connected (worker.idle_stop). systemd keeps the sockets, and
starts it again for the next client. Started by hand, it waits for that client itself.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if options.Config == "" && cmd.Flags().Changed("config") {
				return usageError("--config names no file")
			}
			return runLauncher(cmd.Context(), options)
		},
	}
	cmd.Flags().StringVar(&options.Config, "config", "", "the configuration `FILE` (default: the user's, else /etc/openclaw-gateway/config.yaml)")
	cmd.Flags().Var(instance.Option{Name: &options.Instance}, "name", "run this instance, with the configuration and the control socket of its `NAME`")
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
			return runLauncher(cmd.Context(), launcher.Options{Hello: helloArgument})
		},
	}
}

// The launcher starts the worker from the process's first thread, on which main is called if init has asked for it.
func init() { runtime.LockOSThread() }

// newCanUpgradeCommand is asked by the launcher of an earlier program, before that becomes this one.
func newCanUpgradeCommand() *cobra.Command {
	return &cobra.Command{
		Use: launcher.CanUpgradeCommand, Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return launcher.CanUpgrade(cmd.InOrStdin()) },
	}
}

// runLauncher is the launcher until it ends, with its exit status.
func runLauncher(ctx context.Context, options launcher.Options) error {
	err := launcher.Run(ctx, options)
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
