package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/doctor/gather"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/units/instance"
)

// Report is what is shown.
type Report struct {
	Findings []Finding `json:"findings"`
	// Unknown is what could not be looked at.
	Unknown []string `json:"unknown"`

	essential bool
	looked    string
	// instances are a line for each, and shown the findings that are not told of in these; none where there are not several.
	instances []string
	shown     []Finding
}

// About says what a report is about.
type About struct {
	Name  instance.Name
	Named bool // that instance alone, and the machine
	Full  bool // for a person: everything also where there are several
}

// Unknown reports whether there is no instance of the name, in whichever scope was looked.
func (a About) Unknown(facts *gather.Facts) bool {
	return a.Named && a.Name != instance.Default && !slices.ContainsFunc(facts.Scopes, func(s gather.Scope) bool { return s.Instance == a.Name })
}

// NewReport examines the facts.
func NewReport(gathered *gather.Facts, about About) Report {
	facts := &Facts{gathered}
	report := Report{Findings: Examine(facts), Unknown: []string{}, looked: facts.looked(about)}
	if about.Named {
		report.Findings = slices.DeleteFunc(report.Findings, func(f Finding) bool { return len(f.about) > 0 && !f.isOf(about.Name) })
	} else if !about.Full {
		report.instances, report.shown = facts.instances(report.Findings)
	}
	for _, unknown := range facts.Unknown {
		report.Unknown = append(report.Unknown, unknown.What)
		report.essential = report.essential || unknown.Essential
	}
	return report
}

// Exit is the exit status: 0 nothing was found, 1 something was, 2 nothing was, and
// what ought to be looked at could not be. What another user merely asks for does not count: everybody could have root's
// doctor fail by it.
func (r Report) Exit() int {
	switch {
	case slices.ContainsFunc(r.Findings, func(f Finding) bool { return !f.theirs }):
		return 1
	case r.essential:
		return 2
	default:
		return 0
	}
}

// isOf reports whether it is a matter of an instance, in whichever scope.
func (f *Finding) isOf(name instance.Name) bool {
	return slices.ContainsFunc(f.about, func(s *gather.Scope) bool { return s.Instance == name })
}

// there reports whether there is an instance.
func there(s *gather.Scope) bool { return s.Installed() || s.Answers() }

// instances is a line for each where there are several, and the findings that are not a matter of one alone.
func (f *Facts) instances(findings []Finding) (all []string, others []Finding) {
	several := f.Which(there)
	if len(several) < 2 {
		return nil, nil
	}
	of := map[*gather.Scope][]string{}
	for _, finding := range findings {
		if len(finding.about) == 1 && slices.Contains(several, finding.about[0]) {
			of[finding.about[0]] = append(of[finding.about[0]], finding.ID)
		} else {
			others = append(others, finding)
		}
	}
	for _, s := range several {
		line := s.OfScope(s.Instance.String()) + ": nothing found"
		if ids := of[s]; len(ids) > 0 {
			line = fmt.Sprintf("%s: %s; `%s` says more", s.OfScope(s.Instance.String()), say.List(ids), f.doctor(s))
		}
		all = append(all, line)
	}
	return all, others
}

// doctor is the command that tells of one of several.
func (f *Facts) doctor(s *gather.Scope) string {
	if f.Theirs(s) {
		return say.Shell(f.Program, "doctor", "--full") // a user who asks sees less
	}
	return say.Shell(append([]string{f.Program, "doctor", "--" + string(s.Name), "--name"}, s.Instance.String())...)
}

// looked says in a sentence what it is that is healthy.
func (f *Facts) looked(about About) string {
	installed := f.Which((*gather.Scope).Installed)
	if about.Named {
		installed = slices.DeleteFunc(installed, func(s *gather.Scope) bool { return s.Instance != about.Name })
	}
	if len(installed) == 0 {
		// One of another's is a finding.
		if byHand := f.held(api.RoleLauncher); len(byHand) > 0 {
			h, how := byHand[0], "was started by hand"
			if h.RunBy.Unit != "" {
				how = "runs in " + h.RunBy.Unit
			}
			return fmt.Sprintf("%s is not installed, and the launcher that %s (pid %d) has %s: to install it, stop that first, with `%s`",
				about.Name.Service(), how, h.PID, say.Addresses(h.Addresses), h.Remedy(f.Asker).Command)
		}
		return fmt.Sprintf("%s is not installed, and nobody is in its way on %s", about.Name.Service(), say.Addresses(f.Wanted))
	}
	var services []string
	wanted := f.Wanted
	if about.Named {
		wanted = nil
	}
	for _, s := range installed {
		services = append(services, s.OfScope(s.Instance.Service()))
		if about.Named {
			wanted = append(wanted, s.Socket.Listen...)
		}
	}
	return say.List(services) + " on " + say.Addresses(wanted)
}

// tones are the colours of the severities.
var tones = map[Severity]say.Colour{Error: say.Red, Warning: say.Yellow}

// Text is the report for a person, in so many columns; 0 is without an end.
func (r Report) Text(p say.Painter, columns int) string {
	var b strings.Builder
	in := func(indent int, text string) string { return say.Wrap(say.Printable(text), indent, indent, columns) }
	findings := r.Findings
	if len(r.instances) > 0 {
		findings = r.shown
	}
	for _, finding := range findings {
		fmt.Fprintf(&b, "%s %s\n", p.Paint(tones[finding.Severity], string(finding.Severity)+":"), p.Paint(say.Bold, finding.ID))
		fmt.Fprintf(&b, "  %s\n", in(2, finding.Summary))
		for _, key := range slices.Sorted(maps.Keys(finding.Evidence)) {
			if finding.Evidence[key] == "" {
				continue // the name of the default instance
			}
			for i, line := range lines(finding.Evidence[key]) {
				name := ""
				if i == 0 {
					name = strings.ReplaceAll(key, "_", " ")
				}
				fmt.Fprintf(&b, "  %14s  %s\n", name, in(18, line))
			}
		}
		fix := say.Printable(finding.Fix)
		if !strings.Contains(fix, "`") { // it is broken as a command, so that it can be pasted
			fix = strings.Trim(in(6, "`"+fix+"`"), "`")
		} else {
			fix = say.Wrap(fix, 7, 6, columns)
		}
		fmt.Fprintf(&b, "  fix: %s\n\n", fix)
	}
	for _, line := range r.instances {
		fmt.Fprintf(&b, "%s\n", say.Wrap(say.Printable(line), 0, 2, columns))
	}
	for _, unknown := range r.Unknown {
		fmt.Fprintf(&b, "%s\n", say.Wrap("not looked at: "+say.Printable(unknown), 0, 2, columns))
	}
	end := ""
	switch {
	case len(r.Findings) > 0 && r.Exit() == 1:
		end = say.Count(len(r.Findings), "finding")
	case len(r.Findings) > 0:
		end = fmt.Sprintf("%s, and nothing of the machine's: another user asks for what they cannot have", say.Count(len(r.Findings), "finding"))
	case r.essential:
		end = fmt.Sprintf("nothing found, as far as could be looked: %s", r.looked)
	default:
		end = fmt.Sprintf("nothing found: %s", r.looked)
	}
	b.WriteString(say.Wrap(end, 0, 2, columns) + "\n")
	return b.String()
}

func lines(value any) []string {
	if several, ok := value.([]string); ok {
		return several
	}
	return strings.Split(fmt.Sprint(value), "\n")
}
