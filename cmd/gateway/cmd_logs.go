package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"openclaw-gateway/units"
)

func newLogsCommand() *cobra.Command {
	var scope scopeFlags
	var follow bool
	cmd := &cobra.Command{
		Use:     "logs [--follow] [FIELD=VALUE…] [JOURNALCTL OPTIONS]",
		Short:   "show the journal of the launcher and its worker",
		Example: "gateway logs --follow\ngateway logs -n 20 --since=today\ngateway logs GENERATION=3",
		Long: `Runs journalctl for the units. FIELD=VALUE selects lines: "gateway logs GENERATION=3" shows what the launcher did with the third start of the worker. Every
other option is journalctl's: "gateway logs -n 20 --since=today --output=json".

An ordinary user may read all of it as a member of the group systemd-journal. Others may read their own part, if the journal is kept on disk.`,
		ValidArgsFunction:  completeLogs,
		DisableFlagParsing: true, // it would know journalctl's options, and which of them have a value
		RunE: func(cmd *cobra.Command, args []string) error {
			help := false
			args, err := scope.named(args)
			if err != nil {
				return err
			}
			args = slices.DeleteFunc(args, func(arg string) bool {
				own := map[string]*bool{
					"--system": &scope.System, "--user": &scope.User, "-f": &follow, "--follow": &follow, "-h": &help, "--help": &help, "--": new(bool),
				}[arg]
				if own != nil {
					*own = true
				}
				return own != nil
			})
			switch {
			case help:
				return cmd.Help()
			case scope.System && scope.User:
				return usageError("--system or --user, and not both")
			}
			t, err := scope.One(cmd.Context())
			if err != nil {
				return err
			}
			if !t.Installed && t.Unasked == nil { // the journal answers without the manager
				return fmt.Errorf("there is no %s in %s scope: a launcher run by hand logs to its terminal", t.Service(), t.Scope)
			}
			journalctl, err := exec.LookPath("journalctl")
			if err != nil {
				return fmt.Errorf("show the journal: %w", err)
			}
			option := "--unit="
			if t.Scope == units.User {
				option = "--user-unit="
			}
			argv := []string{"journalctl", option + t.Service(), option + t.Socket()}
			if follow {
				argv = append(argv, "--follow")
			}
			argv = append(argv, args...)
			return fmt.Errorf("execute %s: %w", journalctl, unix.Exec(journalctl, argv, os.Environ()))
		},
	}
	scope.add(cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on, and show new lines as they come")
	return cmd
}
