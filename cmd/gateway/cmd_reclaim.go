package main

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/logging"
	"openclaw-gateway/cmd/gateway/reclaim"
	"openclaw-gateway/cmd/gateway/status"
	"openclaw-gateway/worker/proctree"
)

// reclaimLimit is for all of "gateway reclaim", below the TimeoutSec=20 of the
// socket unit that runs it.
const reclaimLimit = 18 * time.Second

func newReclaimCommand() *cobra.Command {
	var scope scopeFlags
	var force, dryRun bool
	cmd := &cobra.Command{
		Use:     "reclaim [ADDRESS…] [--dry-run] [--force]",
		Short:   "end orphaned OpenClaw gateways that hold the port",
		Example: "gateway reclaim --dry-run\nsudo gateway reclaim 127.0.0.1:18789",
		Long: `Ends orphans: OpenClaw gateways that no unit keeps running and that hold an address, or one that conflicts with it such as 0.0.0.0. Their command line proves what they are. They get
SIGTERM, and SIGKILL if the address is not free after 10 seconds. Without ADDRESS it takes the addresses of the installed socket unit, or else "listen" of the configuration, which must be root's or yours, or 127.0.0.1:18789 and [::1]:18789. The socket unit runs this
command each time before it opens the port.

A rival is an OpenClaw gateway that is the main process of another unit, or below it. It is named, with the command that ends its unit. Foreign are all processes that are no OpenClaw gateway.
Only --force ends rivals, foreign processes, and launchers of other users. If something that is no unit starts a process again, such as PM2, supervisord or a loop in a shell, it is named
with the command that ends it. PID 1, service managers, our launcher and its worker, and whoever has started this command are never ended.

Exit status: 0 the address is free, or only systemd, our launcher and its worker hold it; 1 somebody else holds it, or
systemd does for another socket unit.
With --dry-run nothing is ended; the exit status is the one that you would get without it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), reclaimLimit)
			defer cancel()
			addresses, err := reclaim.Addresses(args)
			if err != nil {
				return usageError("%w", err)
			}
			if len(addresses) == 0 {
				if addresses, err = status.Addresses(ctx, scope.Choice); err != nil {
					return err
				}
			}
			teller := &reclaim.Teller{
				Out: cmd.OutOrStdout(), Err: cmd.ErrOrStderr(),
				Addresses: addresses, Force: force, DryRun: dryRun, By: holders.Me(),
			}
			if proctree.ExecutedBySystemd() && !dryRun {
				log, flush := logging.New(config.FormatAuto, slog.LevelInfo, os.Stderr)
				defer flush()
				teller.Log = log
			}
			options := reclaim.Options{Force: force, DryRun: dryRun, Unbound: reclaim.BeforeBind(), Tell: teller.Event}
			if teller.By.UID != 0 && !options.Unbound {
				options.Ours = client.OwnAddresses(ctx)
			}
			result, err := reclaim.Run(ctx, addresses, options)
			if err != nil {
				return err
			}
			teller.Result(result)
			if len(result.Obstacles) > 0 {
				return &exitStatus{status: 1}
			}
			return nil
		},
	}
	scope.add(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be ended and why, and end nothing")
	cmd.Flags().BoolVar(&force, "force", false, "end a rival or a foreign process too")
	return cmd
}
