package main

import (
	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/status"
	"openclaw-gateway/cmd/gateway/verb"
)

func newRestartCommand() *cobra.Command {
	now := false
	cmd := newRequest("restart", "restart the worker; the port stays open",
		`Stops the worker (your server) and starts it again. Clients that connect meanwhile wait in the queue. The command returns when the
worker is ready. If it does not become ready, the exit status is 1 and the reason is printed. The old worker may finish what it
has begun, within stop.timeout. With --now it is killed at once, also if it is stopping already. With restart.mode: handover the
next worker starts first, and clients need not wait.`,
		func() string {
			if now {
				return api.RestartNowPath
			}
			return api.RestartPath
		})
	cmd.Flags().BoolVar(&now, "now", false, "kill the worker at once, and do not wait for it")
	cmd.Example += "\n" + cmd.Example + " --now"
	return cmd
}

func newReloadCommand() *cobra.Command {
	return newRequest("reload", "apply the configuration now",
		`Reads the configuration, applies it and waits for the outcome. If nothing has changed, it does nothing. If the
configuration is rejected, nothing changes, the exit status is 1 and the reason is printed.`,
		func() string { return api.ReloadPath })
}

func newUpgradeCommand() *cobra.Command {
	return newVerb("upgrade", "have the launcher become the program that is installed now",
		`After a new version has been installed: the launcher becomes that program, in place. The process, the worker (your server), its
clients and the sockets stay; nobody is refused or cut off. The new program is asked first whether it can go on with what there is; if
it cannot, or is older, nothing changes, the exit status is 1 and the reason is printed. While the worker starts, stops or is replaced,
the command waits up to a minute. A stop signal within the few milliseconds of the change ends launcher and worker at once.`,
		func(cmd *cobra.Command, t client.Target) error {
			return verb.Upgrade(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), t)
		})
}

// newRequest asks the launcher for something that may take its time.
func newRequest(name, short, long string, path func() string) *cobra.Command {
	return newVerb(name, short, long, func(cmd *cobra.Command, t client.Target) error {
		return verb.Request(cmd.Context(), cmd.ErrOrStderr(), t, path())
	})
}

// newVerb is a command that does something with the only launcher.
func newVerb(name, short, long string, do func(*cobra.Command, client.Target) error) *cobra.Command {
	var scope scopeFlags
	cmd := &cobra.Command{
		Use: name, Short: short, Long: long, Example: "gateway " + name, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := scope.One(cmd.Context())
			if err != nil {
				return err
			}
			if err := do(cmd, t); err != nil {
				return status.WayOut(cmd.Context(), t, name, err)
			}
			return nil
		},
	}
	scope.add(cmd)
	return cmd
}

func newStartCommand() *cobra.Command {
	return newUnitsCommand("start", "open the port and start the launcher",
		`Opens the port and starts the launcher. It returns when the worker (your server) is ready, when the launcher waits for a first
client (worker.start: on-demand), or when the first start has failed; "gateway status" says which.`,
		func(cmd *cobra.Command, t client.Target) error {
			return verb.Start(cmd.Context(), t)
		})
}

func newStopCommand() *cobra.Command {
	now := false
	cmd := newUnitsCommand("stop", "stop the worker and the launcher, and close the port",
		`Stops the service and the socket, and checks that nobody listens any more. "systemctl stop openclaw-gateway.service"
alone leaves the port open, and the next client starts everything again. The worker may finish what it has begun, within
stop.timeout. With --now it is killed at once, also if it is stopping already.`,
		func(cmd *cobra.Command, t client.Target) error {
			return verb.Stop(cmd.Context(), cmd.ErrOrStderr(), t, now)
		})
	cmd.Flags().BoolVar(&now, "now", false, "kill the worker at once, and do not wait for it")
	cmd.Example += "\n" + cmd.Example + " --now"
	return cmd
}

func newUnitsCommand(name, short, long string, do func(*cobra.Command, client.Target) error) *cobra.Command {
	return newVerb(name, short, long, func(cmd *cobra.Command, t client.Target) error {
		if err := verb.HasUnits(t); err != nil {
			return err
		}
		return do(cmd, t)
	})
}
