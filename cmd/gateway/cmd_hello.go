package main

import (
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/hello"
)

// helloArgument is the command that an empty worker.command stands for.
const helloArgument = "hello"

func newHelloCommand() *cobra.Command {
	return &cobra.Command{
		Use:    helloArgument,
		Short:  "run the built-in hello server, which is the worker when worker.command is empty",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGTERM, unix.SIGINT)
			defer stop()
			return hello.Run(ctx)
		},
	}
}
