package main

import (
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/metrics"
	"openclaw-gateway/cmd/gateway/status"
)

func newMetricsCommand() *cobra.Command {
	var scope scopeFlags
	var file string
	cmd := &cobra.Command{
		Use:   "metrics",
		Short: "print the status as metrics for Prometheus",
		Long: `Prints what "gateway status" has, once, in the text format of Prometheus. It opens no port. With --textfile it writes a file for node_exporter;
a timer may run it.

If it tells of several launchers (for root those of users too), each sample has the labels scope and user; with --system or
--user it has neither. A named instance has the label name. The counters begin anew with the launcher.

Exit status: 0; 3 if a launcher is not running, which it prints all the same (gateway_up 0). With --textfile that is 0 too: the file
says it.`,
		Example: "gateway metrics --textfile /var/lib/prometheus/node-exporter/gateway.prom",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			targets, others := scope.Targets(cmd.Context()), scope.Others(cmd.Context())
			if len(targets) == 0 {
				targets, others = others, nil // they count where there is nothing else
			}
			if unknown := scope.ifUnknown(cmd.Context()); len(targets) == 0 && unknown != nil && file == "" {
				return unknown
			} else if len(targets) == 0 {
				targets = []client.Target{client.Nowhere(scope.Name)}
			}
			var all []metrics.Launcher
			exit := 0
			asked := slices.Concat(targets, others)
			views, _ := status.All(cmd.Context(), asked)
			for i, t := range asked {
				l := metrics.Launcher{Name: string(t.Instance), User: t.Owner(), Status: views[i].Status}
				if i < len(targets) && !l.Up() {
					exit = 3
				}
				all = append(all, l)
			}
			if file != "" {
				err := metrics.WriteFile(file, metrics.Text(all))
				if errors.Is(err, metrics.ErrExtension) {
					return usageError("%w", err)
				}
				return err
			}
			if _, err := cmd.OutOrStdout().Write(metrics.Text(all)); err != nil {
				return err
			}
			if exit != 0 {
				return &exitStatus{status: exit}
			}
			return nil
		},
	}
	scope.add(cmd)
	cmd.Flags().StringVar(&file, "textfile", "", "write them to this `FILE`, for the textfile collector of node_exporter")
	return cmd
}
