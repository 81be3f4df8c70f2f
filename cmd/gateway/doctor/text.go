package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/units"
)

// Report is what is shown.
type Report struct {
	Findings []Finding `json:"findings"`
	// Unknown is what could not be looked at.
	Unknown []string `json:"unknown"`

	essential bool
	looked    string
}

// NewReport examines the facts.
func NewReport(facts *Facts) Report {
	report := Report{Findings: Examine(facts), Unknown: []string{}, looked: facts.looked()}
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

// looked says in a sentence what it is that is healthy.
func (f *Facts) looked() string {
	installed := f.which((*Scope).Installed)
	if len(installed) == 0 {
		return fmt.Sprintf("%s is not installed, and nobody is in its way on %s", units.Service, say.Addresses(f.Wanted))
	}
	var services []string
	for _, s := range installed {
		services = append(services, s.ofScope(units.Service))
	}
	return say.List(services) + " on " + say.Addresses(f.Wanted)
}

// tones are the colours of the severities.
var tones = map[Severity]say.Colour{Error: say.Red, Warning: say.Yellow}

// Text is the report for a person, in so many columns; 0 is without an end.
func (r Report) Text(p say.Painter, columns int) string {
	var b strings.Builder
	in := func(indent int, text string) string { return say.Wrap(say.Printable(text), indent, indent, columns) }
	for _, finding := range r.Findings {
		fmt.Fprintf(&b, "%s %s\n", p.Paint(tones[finding.Severity], string(finding.Severity)+":"), p.Paint(say.Bold, finding.ID))
		fmt.Fprintf(&b, "  %s\n", in(2, finding.Summary))
		for _, key := range slices.Sorted(maps.Keys(finding.Evidence)) {
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
		}
		fmt.Fprintf(&b, "  fix: %s\n\n", fix)
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
