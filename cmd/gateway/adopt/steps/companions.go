package steps

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"openclaw-gateway/cmd/gateway/adopt"
	"openclaw-gateway/cmd/gateway/adopt/journal"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units"
)

// stopsWith are the properties that name who is stopped with a unit: who has Requires=, BindsTo=, Requisite= or PartOf= it
// (systemd.unit(5)).
var stopsWith = []string{"RequiredBy", "BoundBy", "RequisiteOf", "ConsistsOf"}

// mostCompanions is far above what anybody has.
const mostCompanions = 64

// companions are the units that run and will be stopped with others, those that are stopped with them included.
func companions(ctx context.Context, manager systemd.Manager, names []string) (all []journal.Unit, err error) {
	seen := slices.Clone(names)
	for left := names; len(left) > 0 && len(all) < mostCompanions; {
		found, err := manager.Show(ctx, left, stopsWith...)
		if err != nil {
			return nil, err
		}
		left = nil
		for _, properties := range found {
			for _, kind := range stopsWith {
				for _, name := range properties.List(kind) {
					if !slices.Contains(seen, name) {
						seen, left = append(seen, name), append(left, name)
					}
				}
			}
		}
		if len(left) == 0 {
			break
		}
		states, err := manager.Show(ctx, left, "ActiveState")
		if err != nil {
			return nil, err
		}
		for i, properties := range states {
			if state := properties["ActiveState"]; state != "inactive" && state != "failed" {
				all = append(all, journal.Unit{Name: left[i], Active: state})
			}
		}
	}
	return all, nil
}

// startCompanions starts again what was stopped with the old unit, and depends on a unit that has its name still.
func (a *adoption) startCompanions(ctx context.Context) error {
	switch {
	case len(a.journal.Companions) == 0:
	case a.Old.Name == a.name.Service() && a.Running:
		startAll(ctx, a.Scope, a.journal.Companions, a.options)
	default:
		for _, unit := range a.journal.Companions {
			fmt.Fprintf(a.options.Advice, "%s was stopped with %s, on which it depends: have it depend on %s, and start it again\n",
				unit.Name, a.Old.Name, a.name.Service())
		}
	}
	return nil
}

// startAll starts units again, each of which may not be there any more.
func startAll(ctx context.Context, scope units.Scope, all []journal.Unit, o adopt.Options) {
	for _, unit := range all {
		fmt.Fprintf(o.Out, "starting %s, which ran before\n", unit.Name)
		start := []string{"start"}
		if strings.HasSuffix(unit.Name, ".target") {
			// Alone: what it wants somebody may have stopped.
			start = append(start, "--job-mode=ignore-dependencies")
		}
		if err := systemctl(ctx, scope, append(start, unit.Name)...); err != nil {
			fmt.Fprintf(o.Advice, "it does not start: %v\n", err)
		}
	}
}
