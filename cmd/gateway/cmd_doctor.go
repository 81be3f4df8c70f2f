package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/doctor"
	"openclaw-gateway/cmd/gateway/doctor/gather"
	"openclaw-gateway/cmd/gateway/say"
)

func newDoctorCommand() *cobra.Command {
	var scope scopeFlags
	var asJSON, full bool
	var kinds strings.Builder
	for _, kind := range doctor.Kinds {
		fmt.Fprintf(&kinds, "  %-24s  %s\n", kind.ID, kind.Means)
	}
	cmd := &cobra.Command{
		Use:     "doctor",
		Short:   "look for what is wrong, and say what repairs it",
		Example: "sudo gateway doctor\ngateway doctor --name work\ngateway doctor --json",
		Long: `Looks for what is known to go wrong with the port, the units, the server (called the worker) and the machine. For each finding it prints
what it saw, and a command that repairs it. It changes nothing, and you may run it before anything is installed. As root it sees everybody
who holds the port, and the units of all users who have a service manager; otherwise the units of the system and your own. If there are several instances it prints a line
for each, after what concerns more than one of them; --name shows one instance, --full all.

Exit status: 0 nothing was found; 1 something was found; 2 nothing was found, and something without which nobody can tell that all is well could not be
looked at. Other things that it lists as not looked at leave it 0. One warning does not count: that another user asks for an address that somebody else has.
A command for another user's scope runs as that user, and no command for root acts on a user's path or process.

What it finds:
` + kinds.String(),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			facts := gather.Look(cmd.Context(), gather.Options{System: scope.System, User: scope.User})
			about := doctor.About{Name: scope.Name, Named: scope.Named, Full: full}
			if about.Unknown(facts) {
				return &exitStatus{status: 1, err: scope.Unknown(cmd.Context())}
			}
			report := doctor.NewReport(facts, about)
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
	cmd.Flags().BoolVar(&full, "full", false, "show every finding of several instances, not a line for each")
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
