package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/logging"
	"openclaw-gateway/cmd/gateway/reclaim"
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
		Long: `Ends the OpenClaw gateways that hold an address, or one that conflicts with it such as 0.0.0.0, and that no unit
keeps running, which is proven by their command line: SIGTERM, and SIGKILL after 10 s if the address is not free then. Without ADDRESS (127.0.0.1:18789, [::1]:18789) it takes those of the installed socket unit, else "listen" of the
configuration. The socket unit runs it each time before it opens the port.

An OpenClaw gateway that is the main process of a unit, or below it (a rival), is named with the command that ends its
unit. It and processes that are no OpenClaw gateway (foreign) are only ended with --force, and so are launchers of other
users. Who starts one again and is no unit, such as PM2, supervisord or a loop in a shell, is named with the command that
ends that. PID 1, service managers, our launcher and its worker, and whoever has started this command are never ended.

Exit status: 0 the address is free, or held by systemd, our launcher and its worker alone; 1 somebody else holds it, or
systemd does for another socket unit.
With --dry-run nothing is ended, and the exit status is the one to expect without.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), reclaimLimit)
			defer cancel()
			addresses, err := reclaim.Addresses(args)
			if err != nil {
				return usageError("%w", err)
			}
			if len(addresses) == 0 {
				if addresses, err = scope.addresses(ctx); err != nil {
					return err
				}
			}
			teller := &reclaim.Teller{
				Out: cmd.OutOrStdout(), Err: cmd.ErrOrStderr(),
				Addresses: addresses, Force: force, DryRun: dryRun, By: holders.Me(),
			}
			if proctree.ExecutedBySystemd() && !dryRun {
				teller.Log = logging.New(config.FormatAuto, slog.LevelInfo, os.Stderr)
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

// addresses returns what the installed socket unit listens on, or what the
// configuration asks for where there is none.
func (f scopeFlags) addresses(ctx context.Context) ([]netip.AddrPort, error) {
	found := f.Targets(ctx)
	if len(found) > 1 {
		_, err := f.One(ctx)
		return nil, err
	}
	if len(found) == 1 && len(found[0].Listen) > 0 {
		return found[0].Listen, nil
	}
	cfg, err := namedConfig(f, nil).Load()
	if err != nil {
		return nil, fmt.Errorf("name the addresses, as the configuration does not tell them: %w", err)
	}
	return cfg.Listen, nil
}
