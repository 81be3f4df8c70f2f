package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/api"
)

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "print the version",
		Example: "gateway version",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return printVersion(cmd) },
	}
}

func printVersion(cmd *cobra.Command) error {
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "gateway %s (%s %s/%s)\n", api.ProgramVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
