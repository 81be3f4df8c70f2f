// Command gateway is a socket-activated launcher: it holds the listening
// sockets that systemd passes, starts the real server at the first connection,
// and hands the same sockets to every successor.
package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
)

func main() {
	completeEnvironment(os.Args[1:])
	root := newRootCommand()
	// A shell reads these, control characters and all.
	forShells := []string{"completion", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd}
	if len(os.Args) < 2 || !slices.Contains(forShells, os.Args[1]) {
		root.SetOut(say.NewWriter(os.Stdout))
	}
	root.SetErr(say.NewWriter(os.Stderr))
	os.Exit(execute(root))
}

// completeEnvironment adds what a session of the caller's has, for who has none (env -i, cron, a container's init): other
// programs are found by PATH, and a user's files by HOME. A launcher has what its worker is to have, but PATH, which a shell
// would make up too.
func completeEnvironment(args []string) {
	if os.Getenv("PATH") == "" {
		_ = os.Setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
	if os.Getenv("HOME") == "" && (len(args) == 0 || args[0] != "run") {
		if account, err := systemd.Account(strconv.Itoa(os.Geteuid())); err == nil {
			_ = os.Setenv("HOME", account.HomeDir)
		}
	}
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

func newRootCommand() *cobra.Command {
	version := false
	root := &cobra.Command{
		Use:   "gateway",
		Short: "keep a port open and start the server behind it, again and again",
		Long: `A socket-activated launcher for a server that must never lose its port, first of all the OpenClaw gateway.
systemd holds the port; the launcher starts the server at the first connection and hands it the same sockets
after every restart, so that nobody is refused and nobody can take the port.`,
		Example:                    "gateway install --user --now\ngateway status\ngateway doctor",
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
	root.SetHelpCommand(in("more", newHelpCommand())[0])
	root.AddCommand(in("day",
		newStatusCommand(), newMetricsCommand(), newDoctorCommand(), newLogsCommand(),
		newRestartCommand(), newReloadCommand(), newStartCommand(), newStopCommand(),
	)...)
	root.AddCommand(in("setup", newInstallCommand(newInstaller()), newUninstallCommand(newInstaller()), newConfigCommand(), newCompletionCommand())...)
	root.AddCommand(in("port", newRunCommand(), newReclaimCommand())...)
	root.AddCommand(in("more", newVersionCommand(), newExitCodesTopic())...)
	root.AddCommand(newWrapperCommand(), newHelloCommand())
	return root
}
