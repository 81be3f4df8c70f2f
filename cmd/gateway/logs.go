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
	cmd := &cobra.Command{
		Use:   "logs [-- JOURNALCTL OPTIONS]",
		Short: "show the journal of the launcher and its worker",
		Long: `Becomes journalctl on the units. What comes after -- is passed on: "gateway logs -- --follow",
"gateway logs -- GENERATION=3".`,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := scope.one(cmd.Context())
			if err != nil {
				return err
			}
			journalctl, err := exec.LookPath("journalctl")
			if err != nil {
				return fmt.Errorf("show the journal: %w; a launcher run by hand logs to its terminal", err)
			}
			option := "--unit="
			if t.scope == units.User {
				option = "--user-unit="
			}
			argv := slices.Concat([]string{"journalctl", option + units.Service, option + units.Socket}, args)
			return fmt.Errorf("execute %s: %w", journalctl, unix.Exec(journalctl, argv, os.Environ()))
		},
	}
	scope.add(cmd)
	return cmd
}
