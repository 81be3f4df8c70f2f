package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/doctor"
	"openclaw-gateway/cmd/gateway/say"
)

func newDoctorCommand() *cobra.Command {
	var scope scopeFlags
	var asJSON bool
	var kinds strings.Builder
	for _, kind := range doctor.Kinds {
		fmt.Fprintf(&kinds, "  %-24s  %s\n", kind.ID, kind.Means)
	}
	cmd := &cobra.Command{
		Use:     "doctor",
		Short:   "look for what has gone wrong, and say what mends it",
		Example: "sudo gateway doctor\ngateway doctor --json",
		Long: `Looks for everything that is known to go wrong around the port, the units, the worker and the machine, and prints for
each finding what it saw and a command that mends it. It changes nothing, and needs no installation: run it before
"gateway install" too. As root it sees who holds the port whoever that is, and the units of all users who have a
service manager; otherwise those of the system and your own.

Exit status: 0 nothing was found; 1 something was; 2 nothing was, and something could not be looked at. What could not
be looked at is listed. That another user asks for an address that somebody else has is a warning of that user's, and does
not count. A command for another user's scope runs as that user, and none for root acts on a user's path or process.

What it finds:
` + kinds.String(),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report := doctor.NewReport(doctor.Gather(cmd.Context(), doctor.Options{System: scope.System, User: scope.User}))
			if err := printReport(cmd, report, asJSON); err != nil {
				return err
			}
			if exit := report.Exit(); exit != 0 {
				return &exitStatus{status: exit}
			}
			return nil
		},
	}
	scope.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: {\"findings\": [{id, severity, summary, evidence, fix}], \"unknown\": [sentences]}")
	return cmd
}

func printReport(cmd *cobra.Command, report doctor.Report, asJSON bool) error {
	if asJSON {
		return say.JSON(cmd.OutOrStdout(), report, "  ")
	}
	_, err := fmt.Fprint(cmd.OutOrStdout(), report.Text(say.PainterFor(cmd.OutOrStdout()), say.Columns(cmd.OutOrStdout())))
	return err
}
