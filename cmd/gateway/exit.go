package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// exitUsage is EX_USAGE of sysexits.h: the command line is wrong.
const exitUsage = 64

// exitStatus is an error with an exit status other than 1; err may be nil when everything has been said.
type exitStatus struct {
	status int
	err    error
}

// usageError is a mistake of the command line that a command finds itself.
func usageError(format string, values ...any) error {
	return &exitStatus{status: exitUsage, err: fmt.Errorf(format, values...)}
}

func (e *exitStatus) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

func (e *exitStatus) Unwrap() error { return e.err }

// helpOrUnknown is what a command does that only has others below it.
func helpOrUnknown(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	hint := ""
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
		hint = fmt.Sprintf(", did you mean %s?", strings.Join(similar, " or "))
	}
	return usageError("unknown command %q%s (%s --help lists them)", args[0], hint, cmd.CommandPath())
}
