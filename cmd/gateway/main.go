// Command gateway is a socket-activated launcher: it holds the listening
// sockets that systemd passes, starts the real server at the first connection,
// and hands the same sockets to every successor.
package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
)

func main() {
	launcher := slices.Contains(os.Args[1:min(2, len(os.Args))], "run")
	systemd.CompleteEnvironment(launcher)
	root := newRootCommand(launcher)
	root.SetOut(say.NewWriter(os.Stdout))
	if slices.Contains([]string{"completion", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd}, append(os.Args, "")[1]) {
		root.SetOut(say.NewCompletionWriter(os.Stdout)) // a shell reads it, tabs and all
	}
	root.SetErr(say.NewWriter(os.Stderr))
	os.Exit(execute(root))
}

// execute runs the command line and returns the exit status. What fails before a command has begun is a mistake of the
// command line.
func execute(root *cobra.Command) int {
	status := exitUsage
	atBegin(root, func() { status = 1 })
	err := root.Execute()
	if err == nil {
		return 0
	}
	if exit, ok := errors.AsType[*exitStatus](err); ok {
		status, err = exit.status, exit.err
	}
	if err != nil {
		fmt.Fprintln(root.ErrOrStderr(), say.Wrap(fmt.Sprintf("gateway: %v", err), 0, 2, say.Columns(root.ErrOrStderr())))
	}
	return status
}

// atBegin has f called when one of the commands begins.
func atBegin(cmd *cobra.Command, f func()) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			f()
			return run(cmd, args)
		}
	}
	for _, below := range cmd.Commands() {
		atBegin(below, f)
	}
}

func newRootCommand(launcher bool) *cobra.Command {
	version := false
	root := &cobra.Command{
		Use:   "gateway",
		Short: "keep a port open, and start the server behind it",
		Long: `Keeps the port of a server open, first of all that of the OpenClaw gateway. systemd holds the port. The launcher
starts the server behind it and hands it the same sockets after every restart: no client is refused, and nobody else can take
the port. The server is called the worker, and each start of it a generation.`,
		Example:                    "sudo gateway reclaim\ngateway adopt\ngateway status\ngateway doctor",
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		Args:                       cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if version {
				return printVersion(cmd)
			}
			return helpOrUnknown(cmd, args)
		},
	}
	root.Flags().BoolVar(&version, "version", false, "print the version")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w (%s --help lists the options)", err, cmd.CommandPath())
	})
	root.SetHelpFunc(printHelp)
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddGroup(groups...)
	if launcher { // it stays in memory, and a client waits for it: the other commands are nothing to it
		root.AddCommand(in("port", newRunCommand())...)
		return root
	}
	root.SetHelpCommand(in("more", newHelpCommand())[0])
	root.AddCommand(in("day",
		newStatusCommand(), newMetricsCommand(), newDoctorCommand(), newLogsCommand(),
		newRestartCommand(), newReloadCommand(), newUpgradeCommand(), newStartCommand(), newStopCommand(),
	)...)
	root.AddCommand(in("setup", newAdoptCommand(), newInstallCommand(newInstaller()), newUninstallCommand(newInstaller()), newConfigCommand(), newCompletionCommand())...)
	root.AddCommand(in("port", newRunCommand(), newReclaimCommand())...)
	root.AddCommand(in("more", newVersionCommand(), newExitCodesTopic())...)
	root.AddCommand(newWrapperCommand(), newHelloCommand(), newGrantCommand(), newCanUpgradeCommand())
	return root
}
