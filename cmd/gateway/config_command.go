package main

import (
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/config"
)

func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "look at the configuration"}
	cmd.AddCommand(newConfigCheckCommand(), newConfigShowCommand())
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
			cfg, err := loadNamed(cmd, args)
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

func newConfigShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show [FILE]",
		Short: "print each effective value and where it comes from",
		Long: `Prints every key with its effective value and the file and line, the variable, or the default that it comes from.
Of worker.environment only the names are shown: the values may be secrets.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadNamed(cmd, args)
			if err != nil {
				return err
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, value := range cfg.Values() {
				text := fmt.Sprint(value.Value)
				if value.Key == "worker.environment" {
					text = "[" + variableNames(cfg.Worker.Environment) + "]"
				}
				fmt.Fprintf(table, "%s\t%s\t%s\n", value.Key, text, value.Source)
			}
			return table.Flush()
		},
	}
}

// loadNamed loads the file that is named, or the one that the launcher would
// read. It prints what is wrong with it, a line each.
func loadNamed(cmd *cobra.Command, args []string) (*config.Config, error) {
	file := configFile{}
	if len(args) == 1 {
		file.path = args[0]
	}
	cfg, err := file.load()
	var mistakes config.Errors
	if errors.As(err, &mistakes) {
		fmt.Fprintln(cmd.ErrOrStderr(), mistakes)
		return nil, &exitStatus{status: 1}
	}
	return cfg, err
}
