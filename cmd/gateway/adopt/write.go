package adopt

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"openclaw-gateway/cmd/gateway/adopt/lines"
	"openclaw-gateway/cmd/gateway/adopt/where"
	"openclaw-gateway/cmd/gateway/dropins"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/units"
)

// DropIn is the name of the drop-ins that hold what the old unit had.
const DropIn = "50-adopted.conf"

// write makes the texts of our files.
func (d *derivation) write(context.Context) error {
	path := d.configPath()
	if path == "" {
		return fmt.Errorf("user %s has no home directory, in which the configuration would lie", d.of.Name)
	}
	d.plan.Configuration = path
	folder := filepath.Dir(path)
	environmentPath := filepath.Join(folder, "environment")
	d.settings(environmentPath)
	content := d.configuration()
	if err := d.valid(path, content); err != nil {
		return err
	}
	d.add(File{Kind: ConfigurationFile, Path: path, Content: content, Mode: 0o600, UID: d.of.UID, GID: d.of.GID})
	if len(d.env.own) > 0 {
		text := environmentFile(d.env.own, d.c.name())
		if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
			return fmt.Errorf("a variable of %s is not UTF-8, which no environment file can hold: take it out of the unit, or put it into a file that only root can read", d.c.described())
		}
		d.add(File{Kind: EnvironmentFile, Path: environmentPath, Content: text, Mode: 0o600, UID: d.of.UID, GID: d.of.GID, Names: d.env.names})
	}
	d.plan.Lost = append(d.plan.Lost, d.env.lost...)
	if err := d.dropIns(); err != nil {
		return err
	}
	d.plan.DotEnv, d.plan.DotEnvUID, d.plan.OwnConfig = filepath.Join(d.Own.StateDir, ".env"), d.of.UID, d.Own.Path
	_, d.plan.Ready, _ = d.ready()
	if d.Version == "" {
		d.note("the version of OpenClaw is not known, so it is taken for a present one")
	}
	if d.NodeIs == "" && d.Needs != "" {
		d.note("whether its Node.js is one that OpenClaw %s runs on (%s) is not known: no file beside it tells its version", d.Version, d.Needs)
	}
	for _, copied := range d.env.copied {
		d.note("the variables of %s are copied: from now on edit %s instead, which is noticed", copied, environmentPath)
	}
	return nil
}

func (d *derivation) add(file File) { d.plan.Files = append(d.plan.Files, file) }

// settings are the keys of the configuration, each with its reason.
func (d *derivation) settings(environmentPath string) {
	addresses := say.Texts(d.Listen)
	d.set("listen", list(addresses), say.List(addresses), d.Why)
	why := "as its unit has it"
	switch {
	case d.Changed != "":
		why = d.Changed
	case !d.Passes:
		why = "as its unit has it; the port and the address are said in what it starts"
	}
	if d.Passes {
		why += fmt.Sprintf("; port %d is %s", d.port, d.portWhy)
	}
	d.set("worker.command", list(d.worker()), say.WholeCommand("", d.worker()), why)
	if directory := d.directory(); directory != "" {
		why := "WorkingDirectory= of its unit"
		if d.p["WorkingDirectory"] == "" {
			why = "its unit has no WorkingDirectory=, and systemd starts it there"
		}
		d.set("worker.directory", quoted(directory), directory, why)
	}
	prefix := strings.ToUpper(d.Product)
	own := []string{prefix + "_SUPERVISOR_MODE=external", prefix + "_SERVICE_REPAIR_POLICY=external", fmt.Sprintf("%s_GATEWAY_PORT=%d", prefix, d.port)}
	why = "it ends for a restart and is started by the launcher, its doctor leaves the units alone, its own commands find the port"
	if unit := d.plan.Instance.Service(); unit != ownUnit(d.Product, where.Profile(d.Said, d.env.all)) {
		own = append(own, prefix+"_SYSTEMD_UNIT="+unit)
		why += " and the unit, which they would look for under another name"
	}
	if d.Again != "" {
		own = append(own, d.Again+"=1")
		why += "; with the last one it does not start itself a second time, which loses the sockets"
	}
	d.set("worker.environment", list(own), strings.Join(own, " "), why)
	if len(d.env.own) > 0 {
		d.set("worker.environment_file", quoted(environmentPath), environmentPath, fmt.Sprintf("%s of its unit, in a file that only its user can read", say.Count(len(d.env.own), "variable")))
	}
	if d.OnWay {
		d.set("worker.cache", "off", "off", "its command goes through OpenClaw's own, which starts itself a second time where there is one, and loses the sockets")
	}
	d.set("worker.start", "at-once", "at-once", "it has run while nobody was connected, for chat channels and scheduled jobs")
	path, _, why := d.ready()
	d.set("ready.path", quoted(path), path, why)
	if signal := d.signal(); signal != "" {
		d.set("stop.signal", signal, signal, "KillSignal= of its unit")
	}
	why = fmt.Sprintf("TimeoutStopSec= of its unit, %s, less the %s in which the launcher ends what is left", duration(d.p["TimeoutStopUSec"]), say.Duration(units.NeededStopLimit(0)))
	if d.stop == longestStop {
		why = "TimeoutStopSec= of its unit is longer, or has no end"
	}
	d.set("stop.timeout", d.stop.String(), say.Duration(d.stop).String(), why)
	if codes := d.fatal(); len(codes) > 0 && (len(codes) != 1 || codes[0] != 78) {
		list := strings.ReplaceAll(fmt.Sprint(codes), " ", ", ")
		d.set("restart.fatal_exit_codes", list, list, "RestartPreventExitStatus= of its unit")
	}
}

// ownUnit is what OpenClaw takes for the name of its service (resolveGatewaySystemdServiceName of 2026.9.6).
func ownUnit(product, profile string) string {
	if profile != "" {
		profile = "-" + profile
	}
	return product + "-gateway" + profile + ".service"
}

func duration(microsecondsText string) string {
	limit := microseconds(microsecondsText)
	if limit == 0 {
		return "no end"
	}
	return say.Duration(limit).String()
}

// configuration is the text of the configuration.
func (d *derivation) configuration() []byte {
	var b strings.Builder
	b.WriteString("# yaml-language-server: $schema=config.schema.json\n")
	fmt.Fprintf(&b, "# Written by \"gateway adopt\" from %s. \"gateway config show\" has every key.\n", d.c.name())
	section := ""
	for i, setting := range d.plan.Settings {
		key, indent := setting.Key, ""
		if group, below, ok := strings.Cut(setting.Key, "."); ok {
			if group != section {
				fmt.Fprintf(&b, "\n%s:\n", group)
			}
			section, key, indent = group, below, "  "
		}
		for _, line := range strings.Split(say.Wrap(setting.Why, 0, 0, 110), "\n") {
			fmt.Fprintf(&b, "%s# %s\n", indent, line)
		}
		fmt.Fprintf(&b, "%s%s: %s\n", indent, key, d.values[i])
	}
	return []byte(b.String())
}

// list is a list of words in YAML.
func list(words []string) string {
	texts := make([]string, len(words))
	for i, word := range words {
		texts[i] = quoted(word)
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

// quoted is a word in YAML: in double quotes it has what JSON has.
func quoted(word string) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(word) // a string
	return strings.TrimSpace(b.String())
}

// dropIns makes those of our service and of our socket.
func (d *derivation) dropIns() error {
	own := d.lines
	if d.moved() {
		own = slices.DeleteFunc(slices.Clone(own), func(a dropins.Assignment) bool { return a.Name == "Group" || a.Name == "SupplementaryGroups" })
	}
	c := lines.Carry(own, d.c.name())
	for _, exec := range d.c.Before {
		d.plan.Lost = append(d.plan.Lost, Note{What: "ExecStart=" + say.CommandLine(exec.Argv), Why: "a service has one main process: put it into an ExecStartPre= of " + d.plan.Instance.Service() + " if it is needed"})
	}
	for _, exec := range d.c.After {
		d.plan.Lost = append(d.plan.Lost, Note{What: "ExecStart=" + say.CommandLine(exec.Argv), Why: "it was to run when OpenClaw has ended"})
	}
	for _, path := range d.env.denied {
		c.Service = append(c.Service, "# Only root can read it, and systemd does. The launcher hands its variables on.", "EnvironmentFile="+strings.ReplaceAll(path, "%", "%%"))
		c.Kept = append(c.Kept, Note{What: "EnvironmentFile=" + path, Why: fmt.Sprintf("only root can read it: systemd goes on doing so (%s)", say.List(d.env.theirs))})
	}
	if len(d.env.unset) > 0 {
		c.Service = append(c.Service, "UnsetEnvironment="+strings.Join(d.env.unset, " "))
	}
	d.plan.Carried, d.plan.Lost = append(d.plan.Carried, c.Kept...), append(d.plan.Lost, c.Lost...)
	folder, err := units.Dir(d.c.scope())
	if err != nil {
		return err
	}
	for _, one := range []struct {
		unit  string
		parts []section
	}{
		{d.plan.Instance.Service(), []section{{"Unit", c.Unit}, {"Service", c.Service}}},
		{d.plan.Instance.Socket(), []section{{"Socket", c.Socket}}},
	} {
		text := unitText(d.c.name(), one.parts)
		if text == "" {
			continue
		}
		file := File{Kind: DropInFile, Path: filepath.Join(folder, one.unit+".d", DropIn), Content: []byte(text), Mode: 0o644}
		if d.private || strings.Contains(text, "\nSetCredential") {
			file.Mode = 0o600
		}
		if d.c.scope() == units.User {
			file.UID, file.GID = d.of.UID, d.of.GID
		}
		d.add(file)
	}
	return nil
}

type section struct {
	name  string
	lines []string
}

// unitText is a drop-in; "" for nothing.
func unitText(unit string, sections []section) string {
	var b strings.Builder
	for _, s := range sections {
		if len(s.lines) > 0 {
			fmt.Fprintf(&b, "\n[%s]\n%s\n", s.name, strings.Join(s.lines, "\n"))
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return fmt.Sprintf("# Written by \"gateway adopt\": what %s had.\n", unit) + b.String()
}
