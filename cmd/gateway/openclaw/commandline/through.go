package commandline

import (
	"path/filepath"
	"slices"
	"strings"

	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/lazy"
)

// Way is how a command comes to start a gateway.
type Way struct {
	Via    string   // what it goes through; "" where it is the gateway's own
	Script string   // the same, where that is a script
	Words  []string // of the command that does start it
	Set    []string // variables that are set on the way, as far as they are known
	Unread bool     // where OpenClaw has its state may be said in what is not read here
}

// Gateway is Through with the gateway's own words alone, for those who have a command and no unit that says whose it is.
func Gateway(argv, environment []string) (way Way, ok bool) {
	way, ok = Through(argv, environment)
	if !ok || way.Via == "" && !openclaw.Starts(argv) {
		return Way{}, false
	}
	at := GatewayAt(way.Words)
	if way.Script == "" {
		state := newState(environment)
		state.begin(way.Words[:at])
		way.Set, way.Unread = state.set, state.unread()
	}
	way.Words = way.Words[at:]
	return way, true
}

// Starts reports whether a unit's command starts a gateway, whatever it goes through.
func Starts(argv []string) bool {
	_, ok := Gateway(argv, nil)
	return ok
}

var isName = lazy.Regexp(`^[A-Za-z_]\w*$`)

// Through says what a command goes through until it starts a gateway; false where it starts none.
func Through(argv, environment []string) (way Way, ok bool) {
	if len(argv) == 0 {
		return way, false
	}
	at := GatewayAt(argv)
	if openclaw.Starts(argv) || at == 0 {
		return Way{Words: argv}, openclaw.Starts(argv) || openclaw.Marked(environment) || mentions(argv)
	}
	if at > 0 {
		return Way{Via: filepath.Base(argv[0]), Words: argv}, mentions(argv) || openclaw.Marked(environment)
	}
	if words := InShell(argv); GatewayAt(words) >= 0 && words != nil {
		return Way{Via: filepath.Base(argv[0]), Words: words}, mentions(words)
	}
	path, arguments := ScriptOf(argv)
	if !filepath.IsAbs(path) {
		return way, false // where it is looked for, who asks does not know
	}
	text, _, err := read.File(path, read.UnitLimit)
	if err != nil || !IsScript(path, text, argv) {
		return way, false
	}
	s, found := ReadScript(string(text), arguments, environment)
	return Way{Via: path, Script: path, Words: s.Words, Set: s.Set, Unread: s.Unread}, found && (mentions(s.Words) || mentions([]string{string(text)}) || openclaw.Marked(environment))
}

// ScriptOf is the script that a command runs, by its own name or as the argument of a shell, and what it is called with.
func ScriptOf(argv []string) (path string, arguments []string) {
	if !IsShell(argv[0]) {
		return argv[0], argv[1:]
	}
	for i, word := range argv[1:] {
		if !strings.HasPrefix(word, "-") && !strings.HasPrefix(word, "+") {
			return word, argv[i+2:]
		}
	}
	return "", nil
}

// IsScript reports whether a file is one for a shell.
func IsScript(path string, text []byte, argv []string) bool {
	if argv[0] != path {
		return true // a shell is called with it
	}
	line, _, _ := strings.Cut(string(text[:min(len(text), 256)]), "\n")
	interpreter, ok := strings.CutPrefix(line, "#!")
	return ok && slices.ContainsFunc(strings.Fields(interpreter), IsShell)
}

// mentions reports whether a name of OpenClaw's stands in one of the words.
func mentions(words []string) bool {
	return slices.ContainsFunc(words, func(word string) bool {
		word = strings.ToLower(word)
		return slices.ContainsFunc(openclaw.Names(), func(name string) bool { return strings.Contains(word, name) })
	})
}
