package main

import (
	"bufio"
	"os"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/adopt"
	"openclaw-gateway/cmd/gateway/adopt/steps"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/units/instance"
)

func newAdoptCommand() *cobra.Command {
	var o adopt.Options
	var undo, named bool
	var name instance.Name
	cmd := &cobra.Command{
		Use:     "adopt [UNIT] [--system | --user]",
		Short:   "put your OpenClaw service behind the launcher; --undo gives it back",
		Example: "gateway adopt\nsudo gateway adopt openclaw.service --dry-run\ngateway adopt --undo",
		Long: `Puts the OpenClaw service that you have behind the launcher. It finds the service whatever its name is, through a wrapper too. It shows what it is about to do and
why, asks once, and does it. Port, address, command, variables, limits, resources and sandbox of the old unit stay as they were; it says what does not, and why. Clients are
refused only while the old service stops and our socket opens. If a step fails, or you press Ctrl-C, it puts back what was there. If it is killed half way, the next
"gateway adopt" puts that back first. --undo gives the old service back later, to the byte, enabled and running as it was. What you have edited since is kept, and it says where.

UNIT is needed if there are several services and no terminal to ask at. The service of an OpenClaw profile becomes the instance of the profile's name, any other one the default
instance; --name chooses another name. A service that runs as root becomes that of a user of its own, openclaw, with a copy of its state, unless you or --run-as name another user, or root.`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return adopt.Services(cmd.Context(), o), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.By, o.In, o.Out, o.Advice = holders.Me(), bufio.NewReader(cmd.InOrStdin()), cmd.OutOrStdout(), cmd.ErrOrStderr()
			o.Terminal = say.IsTerminal(say.NewWriter(os.Stdin)) && say.IsTerminal(o.Advice)
			if named {
				o.Name = name.String()
			}
			if undo {
				if len(args) > 0 {
					return usageError("--undo takes no UNIT: it gives back what was adopted, with --name that of one instance")
				}
				return asUsage(steps.Undo(cmd.Context(), o))
			}
			if len(args) > 0 {
				o.Unit = args[0]
			}
			return asUsage(steps.Run(cmd.Context(), o))
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.System, "system", false, "a service of the system")
	flags.BoolVar(&o.User, "user", false, "a service of your own")
	flags.Var(instance.Option{Name: &name, Given: &named}, "name", "the `NAME` of the instance that it becomes")
	flags.StringVar(&o.RunAs, "run-as", "", "run the new service as this `USER` (if the old one is the system's and runs as root)")
	_ = cmd.RegisterFlagCompletionFunc("run-as", completeUsers)
	flags.BoolVar(&o.DryRun, "dry-run", false, "show what would be done, and change nothing")
	flags.BoolVar(&o.Yes, "yes", false, "do not ask")
	flags.BoolVar(&undo, "undo", false, "give back the service that was adopted, as it was")
	cmd.MarkFlagsMutuallyExclusive("system", "user")
	cmd.MarkFlagsMutuallyExclusive("undo", "run-as")
	return cmd
}
