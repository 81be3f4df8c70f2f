package main

import (
	"context"
	"fmt"
	"net/http"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/listener/holders"
	"openclaw-gateway/units"

	"github.com/spf13/cobra"
)

// scopeFlags are --system and --user, which all commands but run have.
type scopeFlags struct{ choice }

func (f *scopeFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.system, "system", false, "the launcher of the system")
	cmd.Flags().BoolVar(&f.user, "user", false, "the launcher of this user")
	cmd.MarkFlagsMutuallyExclusive("system", "user")
}

func newRestartCommand() *cobra.Command {
	return newVerb("restart", "start the next generation of the worker now",
		`Ends the present generation of the worker and starts the next one. Clients that connect meanwhile wait in the queue.
Waits until the new generation is ready; if it does not become ready, the exit status is 1 and the reason is printed.`)
}

func newReloadCommand() *cobra.Command {
	return newVerb("reload", "apply the configuration now",
		`Reads the configuration and applies it, which does nothing if it has not changed. Waits for the outcome; a
configuration that is rejected changes nothing, the exit status is 1 and the reason is printed.`)
}

func newVerb(name, short, long string) *cobra.Command {
	var scope scopeFlags
	cmd := &cobra.Command{
		Use: name, Short: short, Long: long, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := scope.one(cmd.Context())
			if err != nil {
				return err
			}
			_, err = t.greet(cmd.Context())
			if err == nil {
				err = t.call(cmd.Context(), http.MethodPost, "/"+name, nil, new(answer))
			}
			if err != nil && systemd.ExecutedThis() && t.stopping(cmd.Context()) {
				// A reload that systemd's own stop has overtaken is no failure: the exit
				// status would make the stopped unit a failed one.
				fmt.Fprintf(cmd.ErrOrStderr(), "gateway: %v\n", err)
				return nil
			}
			return err
		},
	}
	scope.add(cmd)
	return cmd
}

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
