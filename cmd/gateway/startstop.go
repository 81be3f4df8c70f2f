package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"openclaw-gateway/listener/holders"
	"openclaw-gateway/units"
)

func newStartCommand() *cobra.Command {
	return newUnitsCommand("start", "open the port and start the launcher",
		`Starts the socket and the service. It returns when the worker is ready, when the launcher waits for a first client
(worker.start: on-demand), or when the first generation has failed; "gateway status" says which.`,
		func(ctx context.Context, t target) error {
			return units.Systemctl(ctx, t.scope, "start", units.Socket, units.Service)
		})
}

func newStopCommand() *cobra.Command {
	return newUnitsCommand("stop", "stop the worker and the launcher, and close the port",
		`Stops the service and the socket, and checks that nobody listens any more. "systemctl stop openclaw-gateway.service"
alone leaves the port open, and the next client starts everything again.`,
		func(ctx context.Context, t target) error {
			// Together: with the service alone the next client would start it again.
			if err := units.Systemctl(ctx, t.scope, "stop", units.Socket, units.Service); err != nil {
				return err
			}
			for _, address := range t.listen {
				left, err := holders.Listening(address)
				if err != nil {
					return err
				}
				if len(left) > 0 && left[0].Exact {
					return fmt.Errorf("stopped, but %s is not free: %s", address, reclaimHint(ctx, address))
				}
			}
			return nil
		})
}

func newUnitsCommand(name, short, long string, do func(context.Context, target) error) *cobra.Command {
	var scope scopeFlags
	cmd := &cobra.Command{
		Use: name, Short: short, Long: long, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := scope.one(cmd.Context())
			if err != nil {
				return err
			}
			if t.unasked != nil {
				return t.unasked
			}
			if !t.installed {
				return fmt.Errorf("there is no %s in %s scope: \"gateway install --%s\" writes it (a launcher run by hand stops with Ctrl-C)",
					units.Service, t.scope, t.scope)
			}
			return do(cmd.Context(), t)
		},
	}
	scope.add(cmd)
	return cmd
}
