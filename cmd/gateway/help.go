package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/say"
)

// helpColumns is how wide the help is, where the terminal is not narrower.
const helpColumns = 80

// besides is how wide the help has to be so that an option and what it does have room side by side.
const besides = 60

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
	columns := helpColumns
	if terminal := say.Columns(cmd.OutOrStdout()); terminal > 0 {
		columns = min(columns, terminal)
	}
	writeHelp(cmd, columns)
}

func writeHelp(cmd *cobra.Command, columns int) {
	out := cmd.OutOrStdout()
	text := cmd.Long
	if text == "" {
		text = strings.ToUpper(cmd.Short[:1]) + cmd.Short[1:] + "."
	}
	fmt.Fprintln(out, say.Paragraphs(text, columns))
	if cmd.Runnable() && cmd.HasParent() {
		fmt.Fprintf(out, "\nUsage:\n  %s\n", say.Wrap(cmd.UseLine(), 2, 4, columns))
	}
	if cmd.HasExample() {
		fmt.Fprint(out, "\nExamples:\n")
		for example := range strings.SplitSeq(strings.TrimSpace(cmd.Example), "\n") {
			fmt.Fprintf(out, "  %s\n", strings.Trim(say.Wrap("`"+example+"`", 2, 4, columns), "`")) // as a command, so that it can be pasted
		}
	}
	listCommands(cmd, columns)
	if cmd.HasAvailableLocalFlags() {
		options := cmd.LocalFlags().FlagUsagesWrapped(columns)
		if columns < besides {
			options = say.Below(cmd.LocalFlags().FlagUsages(), columns)
		}
		fmt.Fprintf(out, "\nOptions:\n%s\n", strings.TrimRight(options, "\n"))
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(out, "\n%s\n", say.Wrap(cmd.CommandPath()+" COMMAND --help says more about a command.", 0, 2, columns))
	}
}

// listCommands lists those below a command, by their groups where there are some.
func listCommands(cmd *cobra.Command, columns int) {
	below := cmd.Groups()
	if len(below) == 0 && cmd.HasAvailableSubCommands() {
		below = []*cobra.Group{{Title: "Commands:"}}
	}
	for _, group := range below {
		fmt.Fprintf(cmd.OutOrStdout(), "\n%s\n", group.Title)
		for _, sub := range cmd.Commands() {
			if sub.GroupID == group.ID && (sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand()) {
				fmt.Fprintf(cmd.OutOrStdout(), "  %-11s %s\n", sub.Name(), say.Wrap(sub.Short, 14, 14, columns))
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

// newExitCodesTopic is a help topic and no command.
func newExitCodesTopic() *cobra.Command {
	var table strings.Builder
	for _, code := range api.ExitCodes {
		fmt.Fprintf(&table, "  %-2s   %s\n", code.Status, code.Means)
	}
	return &cobra.Command{
		Use: "exit-codes", Short: "what the commands exit with",
		Long:    "What the commands exit with. gateway logs becomes journalctl, and exits with what that does.\n\n" + table.String(),
		Example: "gateway status >/dev/null || echo \"not well: exit status $?\"",
	}
}
