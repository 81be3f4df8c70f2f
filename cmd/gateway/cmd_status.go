package main

import (
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/status"
)

func newStatusCommand() *cobra.Command {
	var scope scopeFlags
	var format status.Format
	var watch, history bool
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "say who holds the port, what serves it, since when",
		Example: "gateway status\ngateway status --watch\ngateway status --name work\nsudo gateway status --full",
		Long: `Says who holds the port, what serves it, since when, and what is wrong. It works without a launcher too. As an ordinary user it says what it could not see. While
nothing is wrong it is short; --full shows everything. No line is wider than the terminal, and command lines are cut; with --full they are not.

If there are several instances it prints a line for each; --name shows one of them, --full all. As root it shows other users' launchers too, each as that
user tells of it; they count for the exit status only if the system and root have no launcher. In JSON it is the status of the default instance, with all of them as "instances"; with --name
that one's alone.

Exit status, the worst of them: 0 serving, starting, or waiting for a first client; 1 something is wrong; 3 not running. Do not ask
systemctl is-active instead: it exits with 0 while the worker does not answer.

--watch shows each change of the launcher, of its worker and of its configuration as it comes, and the launcher's end and
return; Ctrl-C ends it. Clients come and go without an event: on a terminal their numbers are read again each second, elsewhere
with the next change. --history lists the last hundred generations (starts of the worker), those of earlier launchers too; the journal has more.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if history {
				return printHistory(cmd, scope, format)
			}
			targets := scope.Targets(cmd.Context())
			var others []client.Target
			if !watch {
				others = scope.Others(cmd.Context())
			}
			format.One = scope.Named
			var unknown error
			if len(targets)+len(others) == 0 {
				targets = []client.Target{client.Nowhere(scope.Name)}
				if unknown = scope.ifUnknown(cmd.Context()); unknown != nil && !format.JSON {
					return unknown
				}
			}
			if watch {
				ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM)
				defer stop()
				return status.Watch(ctx, cmd.OutOrStdout(), cmd.ErrOrStderr(), targets, format)
			}
			if len(targets) == 0 {
				// They count where there is nothing else.
				targets, others = others, nil
			}
			all, exit := status.All(cmd.Context(), targets)
			theirs, _ := status.All(cmd.Context(), others)
			all = append(all, theirs...)
			if err := status.Print(cmd.OutOrStdout(), all, format); err != nil {
				return err
			}
			if exit != 0 {
				return &exitStatus{status: exit, err: unknown}
			}
			return nil
		},
	}
	scope.add(cmd)
	cmd.Flags().BoolVar(&format.JSON, "json", false, "print JSON: an object; with --name an array, if both scopes have that instance")
	cmd.Flags().BoolVar(&format.Full, "full", false, "show everything, and cut nothing")
	cmd.Flags().BoolVar(&watch, "watch", false, "go on and show each change; with --json, one object a line")
	cmd.Flags().BoolVar(&history, "history", false, "list the last hundred generations of the worker instead")
	cmd.MarkFlagsMutuallyExclusive("watch", "history")
	return cmd
}

func printHistory(cmd *cobra.Command, scope scopeFlags, format status.Format) error {
	targets := scope.Targets(cmd.Context())
	if len(targets) == 0 {
		return &exitStatus{status: 3, err: scope.None(cmd.Context())}
	}
	all, exit, failed := status.Histories(cmd.Context(), targets)
	if err := status.WriteHistory(cmd.OutOrStdout(), all, len(targets) > 1, format); err != nil {
		return err
	}
	if failed != nil {
		return &exitStatus{status: exit, err: failed}
	}
	return nil
}
