package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/say"
)

// helpColumns is how wide the help is.
const helpColumns = 80

// groups are what the commands are for, in this order.
var groups = []*cobra.Group{
	{ID: "day", Title: "Every day:"}, {ID: "setup", Title: "To set it up:"}, {ID: "port", Title: "The launcher and its port:"}, {ID: "more", Title: "More:"},
}

// in puts commands into a group.
func in(group string, commands ...*cobra.Command) []*cobra.Command {
	for _, cmd := range commands {
		cmd.GroupID = group
	}
	return commands
}

// printHelp is how each command shows its help. Not cobra's template: what runs those has the linker keep every method.
func printHelp(cmd *cobra.Command, _ []string) {
	out := cmd.OutOrStdout()
	text := cmd.Long
	if text == "" {
		text = strings.ToUpper(cmd.Short[:1]) + cmd.Short[1:] + "."
	}
	fmt.Fprintln(out, say.Paragraphs(text, helpColumns))
	if cmd.Runnable() && cmd.HasParent() {
		fmt.Fprintf(out, "\nUsage:\n  %s\n", say.Wrap(cmd.UseLine(), 2, 4, helpColumns))
	}
	if cmd.HasExample() {
		fmt.Fprintf(out, "\nExamples:\n  %s\n", strings.ReplaceAll(strings.TrimSpace(cmd.Example), "\n", "\n  "))
	}
	listCommands(cmd)
	if cmd.HasAvailableLocalFlags() {
		fmt.Fprintf(out, "\nOptions:\n%s\n", strings.TrimRight(cmd.LocalFlags().FlagUsagesWrapped(helpColumns), "\n"))
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(out, "\n%s COMMAND --help says more about a command.\n", cmd.CommandPath())
	}
}

// listCommands lists those below a command, by their groups where there are some.
func listCommands(cmd *cobra.Command) {
	below := cmd.Groups()
	if len(below) == 0 && cmd.HasAvailableSubCommands() {
		below = []*cobra.Group{{Title: "Commands:"}}
	}
	for _, group := range below {
		fmt.Fprintf(cmd.OutOrStdout(), "\n%s\n", group.Title)
		for _, sub := range cmd.Commands() {
			if sub.GroupID == group.ID && (sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand()) {
				fmt.Fprintf(cmd.OutOrStdout(), "  %-11s %s\n", sub.Name(), say.Wrap(sub.Short, 14, 14, helpColumns))
			}
		}
	}
}

func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "say more about a command", Example: "gateway help status\ngateway help exit-codes",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			var names []cobra.Completion
			if of, rest, err := cmd.Root().Find(args); err == nil && len(rest) == 0 {
				for _, sub := range of.Commands() {
					if sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand() {
						names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			of, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return helpOrUnknown(of, rest)
			}
			return of.Help()
		},
	}
}

// exitCodes are what all commands end with.
var exitCodes = []struct{ status, means string }{
	{"0", "it is done, or all is well. status: the worker serves, is starting, or waits for a first client; doctor: nothing was found; " +
		"reclaim: the address is free, or held by what is ours; config check: valid"},
	{"1", "it could not be done, or something is wrong: the reason is printed. restart, reload: the worker did not become ready; doctor: something was found"},
	{"2", "doctor: nothing was found, and something could not be looked at"},
	{"3", "status, metrics: the launcher is not running, and nobody will start it"},
	{"64", "the command line is wrong (EX_USAGE)"},
	{"75", "run: the worker was stopped because nobody was connected (worker.idle_stop, EX_TEMPFAIL); systemd starts it again for the next client"},
}

// newExitCodesTopic is a help topic and no command.
func newExitCodesTopic() *cobra.Command {
	var table strings.Builder
	for _, code := range exitCodes {
		fmt.Fprintf(&table, "  %-2s   %s\n", code.status, code.means)
	}
	return &cobra.Command{
		Use: "exit-codes", Short: "what the commands exit with",
		Long:    "What the commands exit with. gateway logs becomes journalctl, and exits with what that does.\n\n" + table.String(),
		Example: "gateway status >/dev/null || echo \"not well: exit status $?\"",
	}
}
