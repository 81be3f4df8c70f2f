package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"openclaw-gateway/units"
)

func newStatusCommand() *cobra.Command {
	var scope scopeFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "say what holds the port, what serves it, since when",
		Long: `Says what holds the port, what serves it, since when, and what is wrong.

Exit status: 0 serving, starting, or waiting for a first client; 1 something is wrong; 3 not running. systemctl
is-active is no substitute: it exits with 0 while the worker does not answer.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			targets := scope.targets(cmd.Context())
			if len(targets) == 0 {
				targets = []target{{unit: UnitStatus{Scope: "none"}}}
			}
			var all []Status
			exit := 0
			for _, t := range targets {
				s := t.status(cmd.Context())
				all = append(all, s)
				exit = max(exit, s.exit())
			}
			if err := printStatus(cmd, all, asJSON); err != nil {
				return err
			}
			if exit != 0 {
				return &exitStatus{status: exit}
			}
			return nil
		},
	}
	scope.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: an object, or an array of them where two scopes have a launcher")
	return cmd
}

func printStatus(cmd *cobra.Command, all []Status, asJSON bool) error {
	if !asJSON {
		for i, s := range all {
			if i > 0 {
				fmt.Fprintln(cmd.OutOrStdout())
			}
			if _, err := fmt.Fprint(cmd.OutOrStdout(), s.text()); err != nil {
				return err
			}
		}
		return nil
	}
	var value any = all
	if len(all) == 1 {
		value = all[0]
	}
	encoder := json.NewEncoder(cmd.OutOrStdout())
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// status asks the launcher, and fills in what it cannot know: what the service
// manager says, and what only root can see.
func (t target) status(ctx context.Context) Status {
	var s Status
	err := errNowhere
	if t.control != "" {
		err = t.call(ctx, http.MethodGet, "/status", nil, &s)
	}
	if err != nil {
		return t.withoutLauncher(err)
	}
	if s.Launcher.Holder == bySystemd {
		manager := 1
		if t.unit.ActiveState != "" {
			s.Unit = t.unit
		}
		if t.scope == units.User {
			manager = 0 // already in the launcher's own answer
		}
		if os.Geteuid() == 0 && manager != 0 {
			if err := s.findHolders(ctx, manager); err != nil {
				s.Problems = append(s.Problems, err.Error())
			}
		}
		if s.Unit.MainPID != s.Launcher.PID {
			s.Problems = append(s.Problems, fmt.Sprintf("the main process of %s is %d, but the launcher that answers is %d",
				s.Unit.Name, s.Unit.MainPID, s.Launcher.PID))
			s.judge()
		}
	}
	return s
}

// withoutLauncher is the status when no launcher answers.
func (t target) withoutLauncher(err error) Status {
	s := Status{
		Version: programVersion(), Verdict: VerdictDown, Problems: []string{}, Unit: t.unit, Sockets: []SocketStatus{},
		Launcher: LauncherStatus{PID: t.unit.MainPID}, Worker: WorkerStatus{State: "waiting"},
	}
	switch {
	case !errors.Is(err, errNotRunning):
		s.Verdict = VerdictDegraded
		s.Problems = append(s.Problems, err.Error())
	case t.socket == "active" && t.unit.ActiveState == "inactive":
		// The port is open and the first client starts everything.
		s.Verdict = VerdictWaiting
	default:
		s.Problems = append(s.Problems, err.Error())
	}
	return s
}
