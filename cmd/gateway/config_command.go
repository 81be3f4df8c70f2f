package main

import (
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/units"
)

func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "look at the configuration"}
	cmd.AddCommand(newConfigCheckCommand(), newConfigShowCommand())
	return cmd
}

func newConfigCheckCommand() *cobra.Command {
	var scope scopeFlags
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "validate a configuration file",
		Long: `Validates FILE, with --system or --user that of the installed service, else the one that "gateway run" would read,
and prints every mistake with its line. The environment (GATEWAY_LOG_LEVEL and so on) counts as it does for the
launcher. Exit status: 0 valid; 1 not valid or not readable.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadNamed(cmd, scope, args)
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
	scope.add(cmd)
	return cmd
}

func newConfigShowCommand() *cobra.Command {
	var scope scopeFlags
	cmd := &cobra.Command{
		Use:   "show [FILE]",
		Short: "print each effective value and where it comes from",
		Long: `Prints every key with its effective value and the file and line, the variable, or the default that it comes from.
Of worker.environment only the names are shown: the values may be secrets.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadNamed(cmd, scope, args)
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
	scope.add(cmd)
	return cmd
}

// loadNamed loads the file that is named, or that of the scope, or the one that a
// launcher run by hand would read. It prints what is wrong with it, a line each.
func loadNamed(cmd *cobra.Command, scope scopeFlags, args []string) (*config.Config, error) {
	file := configFile{}
	switch {
	case len(args) == 1:
		file.path = args[0]
	case scope.system:
		file.path = installedConfig(units.System)
	case scope.user:
		file.path = installedConfig(units.User)
	}
	cfg, err := file.load()
	var mistakes config.Errors
	if errors.As(err, &mistakes) {
		fmt.Fprintln(cmd.ErrOrStderr(), mistakes)
		return nil, &exitStatus{status: 1}
	}
	return cfg, err
}

// installedConfig returns the file that the installed service of a scope reads,
// or would read.
func installedConfig(scope units.Scope) string {
	if dir, err := units.Dir(scope); err == nil {
		if _, path, err := units.Chosen("", dir); err == nil && path != "" {
			return path
		}
	}
	return config.DefaultPath(scope == units.User)
}
