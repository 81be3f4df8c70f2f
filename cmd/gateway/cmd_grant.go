package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/launcher"
	"openclaw-gateway/netaddr"
)

func newGrantCommand() *cobra.Command {
	var access netaddr.Access
	cmd := &cobra.Command{
		Use:    "grant PATH [--mode MODE] [--user USER] [--group GROUP]",
		Short:  "give a unix socket its mode and owner, for the socket unit",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := launcher.Grant(args[0], access); err != nil {
				return fmt.Errorf("who may connect to %s: %w", netaddr.Unix(args[0]), err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&access.Mode, "mode", "", "in octal digits")
	cmd.Flags().StringVar(&access.User, "user", "", "its owner")
	cmd.Flags().StringVar(&access.Group, "group", "", "its group")
	return cmd
}
