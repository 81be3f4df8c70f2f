package adopt

import (
	"fmt"
	"io"
	"strings"

	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
)

// Show writes the plan for a person. Of secrets it has the names.
func (p *Plan) Show(w io.Writer) {
	t := teller{w, say.Columns(w)}
	whose := "of the system"
	if p.Old.UID != 0 || p.Scope == "user" {
		whose = "of user " + systemd.UserName(p.Old.UID)
	}
	as := ""
	if p.Scope == "system" {
		as = ", as user root"
		if p.RunAs != "" {
			as = ", as user " + p.RunAs
		}
	}
	t.line(0, "%s %s (%s, %s) becomes the instance %s of the launcher%s.", p.Old.Name, whose, p.Old.Enabled, p.Old.Active, p.Instance, as)
	t.units(p)
	for _, file := range p.Files {
		switch file.Kind {
		case ConfigurationFile:
			t.title("Configuration, %s", file.Path)
			for _, setting := range p.Settings {
				t.line(2, "%s: %s", setting.Key, setting.Value)
				t.line(6, "%s", setting.Why)
			}
		case EnvironmentFile:
			t.title("Variables, in %s (only its user can read it)", file.Path)
			t.line(2, "%s", strings.Join(file.Names, ", "))
		case DropInFile:
		}
	}
	t.notes(p.Carried, "Stays as it was, in "+DropIn)
	t.notes(p.Lost, "Is left out")
	if len(p.Notes) > 0 {
		t.title("Note")
		for _, note := range p.Notes {
			t.line(2, "%s", note)
		}
	}
}

type teller struct {
	w       io.Writer
	columns int
}

func (t teller) line(indent int, format string, values ...any) {
	text := say.Wrap(say.Line(fmt.Sprintf(format, values...)), indent, indent+2, t.columns)
	fmt.Fprintf(t.w, "%s%s\n", strings.Repeat(" ", indent), text)
}

func (t teller) title(format string, values ...any) {
	fmt.Fprintln(t.w)
	t.line(0, format, values...)
}

// units says what becomes of the units.
func (t teller) units(p *Plan) {
	t.title("Units")
	for _, u := range append([]Unit{p.Old}, p.Rivals...) {
		verb := "set aside"
		if u.Active != "inactive" && u.Active != "failed" {
			verb = "stopped and set aside"
		}
		why := ""
		if u.Name != p.Old.Name {
			why = ": it wants the same port"
		}
		t.line(2, "%s is %s, and given back by `gateway adopt --undo`%s", u.Name, verb, why)
		for _, path := range u.Aside {
			t.line(6, "%s", path)
		}
		if u.Mask {
			t.line(6, "%s stays where it is and is masked", u.Fragment)
		}
	}
	begin := "is written; like the old one it does not run now"
	if p.Running {
		begin = "is written and opened: systemd holds " + say.List(say.Texts(p.Listen)) + " from then on"
	}
	t.line(2, "%s %s", p.Instance.Socket(), begin)
	boot := "like the old one it is not started at boot"
	if p.AtBoot {
		boot = "at boot it is started, as the old one was"
	}
	t.line(2, "%s is written: the launcher, which starts OpenClaw at once; %s", p.Instance.Service(), boot)
	if p.Linger != "" {
		t.line(2, "the services of user %s go on when that user logs out (loginctl enable-linger)", p.Linger)
	}
	t.line(2, "OPENCLAW_SUPERVISOR_MODE=external is put into %s: OpenClaw's own commands leave the units alone", p.DotEnv)
}

func (t teller) notes(notes []Note, title string) {
	if len(notes) == 0 {
		return
	}
	t.title("%s", title)
	// Those with the same reason stand together.
	var whys []string
	by := map[string][]string{}
	for _, note := range notes {
		if by[note.Why] == nil {
			whys = append(whys, note.Why)
		}
		by[note.Why] = append(by[note.Why], say.Printable(note.What))
	}
	for _, why := range whys {
		t.line(2, "%s", strings.Join(by[why], ", "))
		if why != "" {
			t.line(6, "%s", why)
		}
	}
}
