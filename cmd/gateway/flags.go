package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/units/instance"
)

// scopeFlags are --system, --user and --name, which all commands about a launcher have.
type scopeFlags struct{ client.Choice }

func (f *scopeFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.System, "system", false, "the launcher of the system")
	cmd.Flags().BoolVar(&f.User, "user", false, "the launcher of this user")
	cmd.MarkFlagsMutuallyExclusive("system", "user")
	cmd.Flags().Var(instance.Option{Name: &f.Name, Given: &f.Named}, "name", "the instance of this `NAME`; default is the one without a name")
	_ = cmd.RegisterFlagCompletionFunc("name", completeInstances) // fails for a flag that there is not
}

// ifUnknown says that there is no instance of the name that was given, where one was.
func (f *scopeFlags) ifUnknown(ctx context.Context) error {
	if !f.Named || f.Name == instance.Default {
		return nil
	}
	return &exitStatus{status: 3, err: f.Unknown(ctx)}
}

// named takes --name out of a command line whose other options are another program's.
func (f *scopeFlags) named(args []string) (rest []string, err error) {
	for i := 0; i < len(args); i++ {
		value, given := strings.CutPrefix(args[i], "--name=")
		if args[i] == "--name" {
			if i++; i == len(args) {
				return nil, usageError("--name needs a name")
			}
			value, given = args[i], true
		}
		if !given {
			rest = append(rest, args[i])
		} else if err := (instance.Option{Name: &f.Name, Given: &f.Named}).Set(value); err != nil {
			return nil, usageError("%w", err)
		}
	}
	return rest, nil
}
