package adopt

import (
	"fmt"
	"slices"
	"strings"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/openclaw"
)

// environment is what becomes of the variables of the old unit.
type environment struct {
	all    []string // as its process had them: NAME=value
	own    []string // those that go into the environment file
	names  []string // of them
	denied []string // EnvironmentFile= that systemd goes on reading as root
	theirs []string // the names that these have
	unset  []string // names that must not reach the worker from there
	copied []string // the files whose variables are copied
	lost   []Note
}

// withdrawn are OpenClaw's variables that must not reach a worker of the launcher's, by their names without OPENCLAW_, and why.
var withdrawn = map[string]string{
	"SERVICE_MARKER":               "with it OpenClaw looks for other gateways on its port, and kills them",
	"SERVICE_KIND":                 "it goes with the marker of OpenClaw's own unit",
	"SERVICE_VERSION":              "it goes with the marker of OpenClaw's own unit",
	"SYSTEMD_UNIT":                 "it names the old unit",
	"NO_RESPAWN":                   "with it a restart does not end the process, and a stop hangs (OpenClaw 140821)",
	"GATEWAY_SERVICE_PID":          "it names a process that is no more",
	"LAUNCHD_LABEL":                "it is for macOS",
	"WINDOWS_TASK_NAME":            "it is for Windows",
	"WINDOWS_TASK_HIDDEN_LAUNCHER": "it is for Windows",
	"SUPERVISOR_MODE":              "",
	"SERVICE_REPAIR_POLICY":        "",
	"GATEWAY_PORT":                 "",
}

// collect puts them together as systemd does: a file wins over Environment=, a later one over an earlier one. Those of files
// that only root may read stay there. UnsetEnvironment= takes out, at last, a name or an assignment. What the command line itself
// adds comes after all that.
func collect(inline []string, files []envFile, unset, added []string) (e environment) {
	from := map[string]string{}
	set := func(entry, path string) {
		name, _, _ := strings.Cut(entry, "=")
		e.all = slices.DeleteFunc(e.all, func(other string) bool { return strings.HasPrefix(other, name+"=") })
		e.all = append(e.all, entry)
		from[name] = path
	}
	for _, entry := range inline {
		set(entry, "")
	}
	for _, file := range files {
		path := ""
		if file.Denied {
			path = file.Path
			e.denied = append(e.denied, file.Path)
		} else if len(file.Entries) > 0 {
			e.copied = append(e.copied, strings.TrimPrefix(file.Path, "-"))
		}
		for _, entry := range file.Entries {
			set(entry, path)
		}
	}
	e.all = slices.DeleteFunc(e.all, func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(unset, name) || slices.Contains(unset, entry)
	})
	for _, entry := range added {
		set(entry, "")
	}
	for _, entry := range e.all {
		name, value, _ := strings.Cut(entry, "=")
		why, out := outOf(name)
		if out && why == "" && value != "" && !strings.HasSuffix(name, "_GATEWAY_PORT") {
			why = "the launcher's configuration sets it"
		}
		switch {
		case out && from[name] != "":
			if config.Reserved(name) {
				break // the launcher takes it away
			}
			e.unset = append(e.unset, name)
			e.lost = append(e.lost, Note{What: name, Why: why})
		case out && why != "":
			e.lost = append(e.lost, Note{What: name, Why: why})
		case out:
		case from[name] != "":
			e.theirs = append(e.theirs, name)
		default:
			e.own, e.names = append(e.own, entry), append(e.names, name)
		}
	}
	return e
}

// drop leaves a variable out.
func (e *environment) drop(name, why string) {
	at := slices.Index(e.names, name)
	switch {
	case at >= 0:
		e.names, e.own = slices.Delete(e.names, at, at+1), slices.Delete(e.own, at, at+1)
	case slices.Contains(e.theirs, name):
		e.unset = append(e.unset, name)
	default:
		return
	}
	e.lost = append(e.lost, Note{What: name, Why: why})
}

// outOf says of a variable whether it does not go on, and why; "" for what the configuration has.
func outOf(name string) (why string, out bool) {
	if config.Reserved(name) {
		return "systemd, or the launcher, sets it anew for each process", true
	}
	for _, product := range openclaw.Names() {
		if rest, ok := strings.CutPrefix(name, strings.ToUpper(product)+"_"); ok {
			why, out = withdrawn[rest]
			return why, out
		}
	}
	return "", false
}

// environmentFile is the text of one with these variables, as systemd and the launcher read it.
func environmentFile(entries []string, unit string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# The variables of %s, written by \"gateway adopt\". An edit is noticed: it is for the next worker.\n", unit)
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", "$", `\$`)
	for _, entry := range entries {
		name, value, _ := strings.Cut(entry, "=")
		fmt.Fprintf(&b, "%s=\"%s\"\n", name, escape.Replace(value))
	}
	return []byte(b.String())
}
