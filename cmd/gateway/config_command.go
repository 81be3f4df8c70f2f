package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/config"
)

func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "look at the configuration"}
	cmd.AddCommand(newConfigCheckCommand())
	return cmd
}

func newConfigCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "validate a configuration file",
		Long: `Validates FILE, or the file that "gateway run" would read, and prints every mistake with its line. The environment
(GATEWAY_LOG_LEVEL and so on) counts as it does for the launcher. Exit status: 0 valid; 1 not valid or not readable.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := configFile{}
			if len(args) == 1 {
				file.path = args[0]
			}
			cfg, err := file.load()
			var mistakes config.Errors
			if errors.As(err, &mistakes) {
				fmt.Fprintln(cmd.ErrOrStderr(), mistakes)
				return &exitStatus{status: 1}
			}
			if err != nil {
				return err
			}
			name := cfg.Path
			if name == "" {
				name = "no configuration file; the built-in defaults"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: valid\n", name)
			return err
		},
	}
}
