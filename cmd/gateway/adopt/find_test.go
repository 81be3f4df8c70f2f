package adopt

import (
	"slices"
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/systemd"
)

// TestBelieved: of the units that another user says that there are, root takes those that can be units, as that user's, and their
// states begin no line of their own.
func TestBelieved(t *testing.T) {
	unit := func(name, state string) Candidate {
		return Candidate{Properties: systemd.Properties{"Id": name, "UnitFileState": state, "ActiveState": state}}
	}
	got := believed([]Candidate{
		unit("_activeHelp_ \x1b]0;owned\x07", "enabled"), unit("a\nb.service", "enabled"), {}, unit(`open\x20claw@07.service`, "enabled\n  2  claw.service of the system"),
	}, 1002)
	var names []string
	for _, c := range got {
		names = append(names, c.name())
		if state := c.Properties["UnitFileState"] + c.Properties["ActiveState"]; strings.Contains(state, "\n") || c.Manager != (systemd.Manager{User: true, UID: 1002}) {
			t.Errorf("%q of %+v has the states %q", c.name(), c.Manager, state)
		}
	}
	if !slices.Equal(names, []string{`open\x20claw@07.service`}) {
		t.Errorf("believed are %q", names)
	}
}
