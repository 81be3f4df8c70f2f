package status

import (
	"fmt"
	"slices"
	"strings"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
)

// told is what programs are told where no instance is named: the status of one, and all that there are.
type told struct {
	api.Status
	Instances []api.Instance `json:"instances"`
}

// tell is that of the default instance, or of the worst where there is none; of an instance that is named, its status alone.
func tell(all []View, named bool) any {
	if named && len(all) == 1 {
		return all[0].Status
	}
	if named { // in both scopes
		statuses := make([]api.Status, len(all))
		for i := range all {
			statuses[i] = all[i].Status
		}
		return statuses
	}
	first := slices.IndexFunc(all, func(s View) bool { return s.at.Instance == instance.Default && !s.theirs })
	if first < 0 {
		first = 0
		for i := range all {
			if all[i].ExitStatus() > all[first].ExitStatus() {
				first = i
			}
		}
	}
	t := told{Status: all[first].Status, Instances: []api.Instance{}}
	for _, s := range all {
		if s.at.Installed || s.Verdict != api.VerdictDown {
			t.Instances = append(t.Instances, s.instance())
		}
	}
	return t
}

// instance is the status in a line, for programs.
func (s *View) instance() api.Instance {
	i := api.Instance{Instance: string(s.at.Instance), Scope: string(s.at.Scope), Verdict: s.Verdict, Addresses: s.addresses()}
	if s.at.Scope == units.User {
		i.User = systemd.UserName(s.at.Manager().UID)
	}
	return i
}

// addresses are those on which somebody listens for it, each once.
func (s *View) addresses() []string {
	addresses := []string{}
	for _, socket := range s.Sockets {
		if !slices.Contains(addresses, socket.Address) {
			addresses = append(addresses, socket.Address)
		}
	}
	return addresses
}

// linesText is a line for each instance, and how to see more.
func linesText(all []View, look style) string {
	names, scopes := make([]string, len(all)), make([]string, len(all))
	wide, wider := 0, 0
	for i, s := range all {
		names[i], scopes[i] = s.at.Instance.String(), string(s.at.Scope)
		if s.theirs {
			scopes[i] += " " + s.Unit.User
		}
		wide, wider = max(wide, len(names[i])), max(wider, len(scopes[i]))
	}
	var b strings.Builder
	for i := range all {
		s := &all[i]
		verdict := string(s.Verdict)
		line := fmt.Sprintf("%-*s  %-*s  %s: %s", wide, names[i], wider, scopes[i], verdict, say.Printable(s.headline()))
		if n := len(s.Problems); n > 0 {
			line += fmt.Sprintf(" (%s)", say.Count(n, "problem"))
		}
		if look.columns > 0 {
			line = say.Fit(line, look.columns)
		}
		if before, after, found := strings.Cut(line, "  "+verdict+": "); found {
			line = before + "  " + look.Paint(mood(s.Verdict), verdict) + ": " + after
		}
		b.WriteString(line + "\n")
	}
	more := "gateway status --name NAME shows one of them, where two have the same name with --system or --user; gateway status --full shows all"
	b.WriteString(look.Paint(say.Dim, say.Wrap(more, 0, 2, look.columns)) + "\n")
	return b.String()
}
