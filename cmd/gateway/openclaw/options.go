package openclaw

import (
	"strconv"
	"strings"
)

// Option returns the value of an option of a command line, "" without it.
func Option(argv []string, name string) string {
	for i, argument := range argv {
		if argument == name && i+1 < len(argv) {
			return argv[i+1]
		}
		if value, ok := strings.CutPrefix(argument, name+"="); ok {
			return value
		}
	}
	return ""
}

// PortOf returns the port that a command line of OpenClaw and its environment ask
// for, 0 where neither does, and whether it is the command line that does.
func PortOf(argv, environment []string) (port int, byOption bool) {
	if port, err := strconv.Atoi(Option(argv, "--port")); err == nil {
		return port, true
	}
	port, _ = strconv.Atoi(Port(environment))
	return port, false
}
