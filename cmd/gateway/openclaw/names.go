package openclaw

import (
	"slices"
	"strconv"
	"strings"
)

// names are what OpenClaw is called and was called before: its command, its npm package, and with -gateway behind it the unit
// that it installs and the title of its gateway's process. An installation of then still runs as it did.
var names = []string{"openclaw", "moltbot", "clawdbot"}

// Names are what OpenClaw is called and was called before, the present name first.
func Names() []string { return slices.Clone(names) }

// DefaultPort is the one that it listens on where nobody says another.
const DefaultPort = 18789

// isTitle reports whether a process calls itself by what OpenClaw writes over the whole argv of its gateway, process.title of
// Node.js.
func isTitle(word string) bool {
	name, ok := strings.CutSuffix(word, "-gateway")
	return ok && slices.Contains(names, name)
}

// Marked reports whether an environment is that of a unit which OpenClaw has written (service-env of 2026.9.6).
func Marked(environment []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		return slices.Contains(environment, strings.ToUpper(name)+"_SERVICE_MARKER="+name)
	})
}

// PortOf returns the port that a command line and its environment ask for, 0 where neither does, and whether it is the command
// line that does.
func PortOf(argv, environment []string) (port int, byOption bool) {
	if port, err := strconv.Atoi(Option(argv, "--port")); err == nil {
		return port, true
	}
	for _, entry := range environment {
		for _, name := range names {
			if value, ok := strings.CutPrefix(entry, strings.ToUpper(name)+"_GATEWAY_PORT="); ok {
				port, _ = strconv.Atoi(value)
			}
		}
	}
	return port, false
}

// Option returns the value of an option of a command line, where it stands last, as OpenClaw and our own commands take it; ""
// without it.
func Option(argv []string, name string) (value string) {
	for i, argument := range argv {
		if argument == name && i+1 < len(argv) {
			value = argv[i+1]
		}
		if said, ok := strings.CutPrefix(argument, name+"="); ok {
			value = said
		}
	}
	return value
}
