package main

import (
	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/systemd"
)

func newCompletionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "print a script with which a shell completes commands and options",
		Long: `Prints a script for a shell, which then completes commands, options, users, units and the fields of the log.
The examples install it: for all users of bash, which needs the package bash-completion; for yourself in zsh, which needs
"fpath+=(~/.zsh); autoload -U compinit; compinit" in ~/.zshrc; and for yourself in fish. A new shell has it.`,
		Example: "gateway completion bash | sudo tee /etc/bash_completion.d/gateway >/dev/null\n" +
			"mkdir -p ~/.zsh && gateway completion zsh > ~/.zsh/_gateway\n" +
			"gateway completion fish > ~/.config/fish/completions/gateway.fish",
		Args: cobra.MaximumNArgs(1), ValidArgs: []cobra.Completion{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch append(args, "")[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			default:
				return usageError("say which shell: bash, zsh or fish")
			}
		},
	}
}

func completeUsers(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return systemd.UserNames(cmd.Context()), cobra.ShellCompDirectiveNoFileComp
}

// completeInstances names those that there are, in the scopes that were chosen.
func completeInstances(cmd *cobra.Command, _ []string, _ string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
	var scope client.Choice
	scope.System, _ = cmd.Flags().GetBool("system")
	scope.User, _ = cmd.Flags().GetBool("user")
	for _, t := range scope.Targets(cmd.Context()) {
		names = append(names, cobra.CompletionWithDesc(t.Instance.String(), string(t.Scope)+" scope"))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func completeLogs(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	words, open := systemd.JournalWords(cmd.Context(), args, word)
	if open {
		return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}
