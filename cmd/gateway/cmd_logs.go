package main

import (
	"fmt"
	"os"
	"os/exec"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"openclaw-gateway/units"
)

func newLogsCommand() *cobra.Command {
	var scope scopeFlags
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs [--follow] [FIELD=VALUE…] [-- JOURNALCTL OPTIONS]",
		Short: "show the journal of the launcher and its worker",
		Long: `Becomes journalctl on the units. A FIELD=VALUE selects: "gateway logs GENERATION=3" is what the launcher did with that
generation. What comes after -- is passed on as it is: "gateway logs -- --since=today --output=json".

An ordinary user may read it as a member of the group systemd-journal or, where the journal is kept on disk, their own part.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := scope.One(cmd.Context())
			if err != nil {
				return err
			}
			if !t.Installed && t.Unasked == nil { // the journal answers without the manager
				return fmt.Errorf("there is no %s in %s scope: a launcher run by hand logs to its terminal", units.Service, t.Scope)
			}
			journalctl, err := exec.LookPath("journalctl")
			if err != nil {
				return fmt.Errorf("show the journal: %w", err)
			}
			option := "--unit="
			if t.Scope == units.User {
				option = "--user-unit="
			}
			argv := []string{"journalctl", option + units.Service, option + units.Socket}
			if follow {
				argv = append(argv, "--follow")
			}
			argv = append(argv, args...)
			return fmt.Errorf("execute %s: %w", journalctl, unix.Exec(journalctl, argv, os.Environ()))
		},
	}
	scope.add(cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on and show what comes")
	return cmd
}
