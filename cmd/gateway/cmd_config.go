package main

import (
	"errors"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/check"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/status"
)

func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "look at the configuration", Example: "gateway config check", Args: cobra.ArbitraryArgs, SuggestionsMinimumDistance: 2, RunE: helpOrUnknown,
	}
	cmd.AddCommand(newConfigCheckCommand(), newConfigShowCommand(), newConfigSchemaCommand())
	return cmd
}

func newConfigCheckCommand() *cobra.Command {
	var scope scopeFlags
	cmd := &cobra.Command{
		Use:     "check [FILE]",
		Short:   "check a configuration file, and say what it would change",
		Example: "gateway config check\ngateway config check new.yaml",
		Long: `Checks FILE. Without FILE it checks the configuration of the installed service (--system, --user), or the one that "gateway run" would read. It prints every mistake
with its line. Then it looks, as the service's user, whether what the file names can work on this machine: the program, the environment file, the port and --bind of an OpenClaw,
its Node.js. It runs none of it. Last it asks the running launcher, key by key, what the file would change if you saved it now. The launcher's own variables count
(GATEWAY_LOG_LEVEL and so on). It changes nothing. A warning is about something that may not work, or that you hardly want.

Exit status: 0 valid, perhaps with warnings; 1 not valid or not readable, or it cannot work, or the running launcher would
reject it, because of an address in use for instance.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := status.FileOf(cmd.Context(), scope.Choice, args)
			if err != nil {
				return err
			}
			return said(check.File(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), scope.Choice, file.Name()))
		},
	}
	scope.add(cmd)
	return cmd
}

func newConfigSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		Short:   "print the JSON Schema of the configuration, for editors",
		Example: "gateway config schema > config.schema.json",
		Long: `Prints a JSON Schema (draft 2020-12) with every key, its values, its default and what it is for. "gateway install"
writes it beside the configuration as ` + config.SchemaName + `, which the first line of a configuration names.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			schema, err := config.Schema()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(schema)
			return err
		},
	}
}

func newConfigShowCommand() *cobra.Command {
	var scope scopeFlags
	cmd := &cobra.Command{
		Use:     "show [FILE]",
		Short:   "print each value and where it comes from",
		Example: "gateway config show\ngateway config show --user",
		Long: `Prints every key with its value, and where the value comes from: a line of the file, a variable, or the default.
Secrets are not shown: the values of worker.environment, what looks like one in worker.command, and the password and the
query of ready.path.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := status.FileOf(cmd.Context(), scope.Choice, args)
			if err != nil {
				return err
			}
			cfg, err := file.Load()
			if err := check.PrintMistakes(cmd.ErrOrStderr(), err); err != nil {
				return said(err)
			}
			var rows [][]string
			for _, value := range cfg.Values() {
				rows = append(rows, []string{value.Key, config.Shown(cfg, value), value.Source})
			}
			return say.Table(cmd.OutOrStdout(), rows)
		},
	}
	scope.add(cmd)
	return cmd
}

// said turns into the exit status alone what has been said already.
func said(err error) error {
	if errors.Is(err, check.ErrSaid) {
		return &exitStatus{status: 1}
	}
	return err
}
