package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/doctor"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/status"
	"openclaw-gateway/units"
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
		Short:   "validate a configuration file, and say what it would change",
		Example: "gateway config check\ngateway config check new.yaml",
		Long: `Validates FILE, with --system or --user that of the installed service, else the one that "gateway run" would read,
and prints every mistake with its line. Then it looks, as the service's user, whether what the file names can work on this
machine: the program, the environment file, the port and --bind of an OpenClaw, its Node.js. It executes none of it. Last
it asks the running launcher what the file would change if it were saved now, key by key; the launcher's environment counts
(GATEWAY_LOG_LEVEL and so on). Nothing is changed. A warning is for what may not work, or is hardly wanted.

Exit status: 0 valid, perhaps with warnings; 1 not valid or not readable, or what cannot work, or what the running launcher
would reject, because of an address in use for instance.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return checkConfig(cmd, scope, args)
		},
	}
	scope.add(cmd)
	return cmd
}

func checkConfig(cmd *cobra.Command, scope scopeFlags, args []string) error {
	file := namedConfig(scope, args)
	question := api.CheckRequest{Path: file.Name()}
	owner := -1
	if question.Path != "" {
		content, info, err := config.ReadFile(question.Path)
		if err != nil {
			return err
		}
		question.Content, owner = content, read.Owner(info)
	}
	var answer api.CheckReply
	targets := scope.Targets(cmd.Context())
	t, alone := status.Reader(cmd.Context(), targets, question.Path)
	if alone == nil {
		_, alone = t.Status(cmd.Context())
	}
	if alone == nil {
		ctx, cancel := context.WithTimeout(cmd.Context(), client.CheckLimit)
		defer cancel()
		alone = t.Call(ctx, http.MethodPost, "/check", question, &answer)
	}
	if alone != nil {
		_, err := config.Parse(question.Path, question.Content)
		if err := printMistakes(cmd, err); err != nil {
			return err
		}
	} else if len(answer.Mistakes) > 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), strings.Join(answer.Mistakes, "\n"))
		return &exitStatus{status: 1}
	}
	if question.Path != "" && answer.Rejected == "" {
		about := status.ScopeOf(scope.Choice, t, targets, question.Path)
		if err := printJudgement(cmd, about, question, owner); err != nil {
			return err
		}
	}
	name := question.Path
	if name == "" {
		name = "no configuration file; the built-in defaults"
	}
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: valid\n", name); err != nil {
		return err
	}
	// What this process cannot read as the launcher does has been told, or is a variable of the one's alone.
	if cfg, err := config.Parse(question.Path, question.Content); err == nil {
		for _, doubt := range doctor.Doubts(cfg) {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s: warning: %s\n", cfg.Source[doubt.Key], doubt.Key, doubt.Sentence)
		}
	}
	if alone != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "not compared with a running launcher: %v\n", alone)
		return nil
	}
	if address, err := netip.ParseAddrPort(answer.InUse); err == nil {
		answer.Rejected += ": " + holders.InUse(cmd.Context(), address)
	}
	if answer.Rejected != "" {
		return fmt.Errorf("the running launcher (pid %d) would reject it: %s", answer.PID, answer.Rejected)
	}
	return status.WriteCheck(cmd.OutOrStdout(), answer, t)
}

// printJudgement says what cannot work, which is the exit status too, and what may not.
func printJudgement(cmd *cobra.Command, scope units.Scope, question api.CheckRequest, owner int) error {
	findings, unknown := doctor.Judge(cmd.Context(), scope, question.Path, question.Content, owner)
	var failed error
	for _, finding := range findings {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", finding.Severity, say.Printable(finding.Summary))
		if finding.Severity == doctor.Error {
			failed = &exitStatus{status: 1}
		}
	}
	for _, u := range unknown {
		fmt.Fprintf(cmd.ErrOrStderr(), "not looked at: %s\n", say.Printable(u.What))
	}
	return failed
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
		Short:   "print each effective value and where it comes from",
		Example: "gateway config show\ngateway config show --user",
		Long: `Prints every key with its effective value and the file and line, the variable, or the default that it comes from.
What may be a secret is not shown: the values of worker.environment, what looks like one in worker.command, and the
password and the query of ready.path.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := namedConfig(scope, args).Load()
			if err := printMistakes(cmd, err); err != nil {
				return err
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, value := range cfg.Values() {
				fmt.Fprintf(table, "%s\t%s\t%s\n", value.Key, say.Printable(config.Shown(cfg, value)), say.Printable(value.Source))
			}
			return table.Flush()
		},
	}
	scope.add(cmd)
	return cmd
}

// namedConfig is the file that is named, or that of the scope, or the one that a
// launcher run by hand would read.
func namedConfig(scope scopeFlags, args []string) config.Named {
	switch {
	case len(args) == 1:
		return config.Named{Path: args[0]}
	case scope.System:
		return config.Named{Path: status.InstalledConfig(units.System)}
	case scope.User:
		return config.Named{Path: status.InstalledConfig(units.User)}
	default:
		return config.Named{}
	}
}

// printMistakes prints mistakes in a configuration as they are, and turns them
// into the exit status alone.
func printMistakes(cmd *cobra.Command, err error) error {
	if mistakes, ok := errors.AsType[config.Errors](err); ok {
		fmt.Fprintln(cmd.ErrOrStderr(), mistakes)
		return &exitStatus{status: 1}
	}
	return err
}
