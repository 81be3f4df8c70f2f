package openclaw

import (
	"regexp"
	"slices"
	"strings"
)

// names are what OpenClaw is called and was called before: its command, its npm package, and with -gateway behind it the unit
// that it installs and the title of its gateway's process. An installation of then still runs as it did.
var names = []string{"openclaw", "moltbot", "clawdbot"}

// DefaultPort is the one that it listens on where nobody says another.
const DefaultPort = 18789

// Mentioned finds one of the names in a text, such as that of a unit.
var Mentioned = regexp.MustCompile("(?i)" + strings.Join(names, "|"))

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

// Port is the port that an environment has it listen on; "" where that does not say.
func Port(environment []string) (port string) {
	for _, entry := range environment {
		for _, name := range names {
			if value, ok := strings.CutPrefix(entry, strings.ToUpper(name)+"_GATEWAY_PORT="); ok {
				port = value
			}
		}
	}
	return port
}
