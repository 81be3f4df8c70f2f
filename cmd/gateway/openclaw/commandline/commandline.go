// Package commandline reads command lines as they stand in units, in shells and in scripts: where in them an OpenClaw gateway is
// started, and with what.
package commandline

import (
	"path/filepath"
	"slices"
	"strings"

	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/lazy"
)

// GatewayAt is where in a command line an OpenClaw gateway is started, whatever stands before that: env(1), nice(1), npx; -1
// where none is. That it is written so does not mean that it is OpenClaw's.
func GatewayAt(words []string) int {
	for i := range words {
		if openclaw.Named(withoutVersion(words[i:])) {
			return i
		}
	}
	return -1
}

// withoutVersion takes what npx understands from the first word: openclaw@latest.
func withoutVersion(words []string) []string {
	if name, _, ok := strings.Cut(words[0], "@"); ok && name != "" {
		words = slices.Clone(words)
		words[0] = name
	}
	return words
}

// InShell splits what a shell gets behind its -c, and returns nil for every other command.
func InShell(argv []string) []string {
	if !IsShell(argv[0]) {
		return nil
	}
	for i, word := range argv[1:] {
		if strings.HasPrefix(word, "-") && strings.HasSuffix(word, "c") && i+2 < len(argv) {
			return Split(argv[i+2])
		}
	}
	return nil
}

var shells = lazy.Regexp(`^(sh|bash|dash|ash|ksh|mksh|zsh|fish)$`)

// IsShell reports whether a program is a shell, going by its name.
func IsShell(program string) bool { return shells().MatchString(filepath.Base(program)) }

// Split splits a line roughly as a shell does: quotes group and go, variables stay, and a comment ends it.
func Split(line string) (words []string) {
	var b strings.Builder
	var quote rune
	some := false
	end := func() {
		if some {
			words = append(words, b.String())
		}
		b.Reset()
		some = false
	}
	escaped := false
	for _, c := range line {
		switch {
		case escaped:
			b.WriteRune(c)
			escaped = false
		case c == '\\' && quote != '\'':
			escaped, some = true, true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			b.WriteRune(c)
		case c == '\'' || c == '"':
			quote, some = c, true
		case c == '#' && !some:
			return words
		case strings.ContainsRune(" \t\r\n", c):
			end()
		case strings.ContainsRune(";&|()", c):
			end()
			words = append(words, string(c))
		default:
			b.WriteRune(c)
			some = true
		}
	}
	end()
	return words
}

// Words splits a command line of a unit as systemd does (systemd.syntax(7), "Quoting"): quotes group and go, and a shell's signs
// are letters like all others.
func Words(line string) (words []string) {
	var b strings.Builder
	var quote rune
	some, escaped := false, false
	for _, c := range line {
		switch {
		case escaped:
			if !strings.ContainsRune(`\\"' `, c) {
				b.WriteRune('\\') // one of its escapes, \n say
			}
			b.WriteRune(c)
			escaped = false
		case c == '\\':
			escaped, some = true, true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			b.WriteRune(c)
		case c == '\'' || c == '"':
			quote, some = c, true
		case strings.ContainsRune(" \t\r\n", c):
			if some {
				words = append(words, b.String())
			}
			b.Reset()
			some = false
		default:
			b.WriteRune(c)
			some = true
		}
	}
	if some {
		words = append(words, b.String())
	}
	return words
}

// Script is what is known of a program for a shell that starts a gateway.
type Script struct {
	Words  []string // of the command that does, its own arguments put in, and its variables as far as they are known
	Passes bool     // it passes on what it is called with
	Set    []string // the variables that it has set by then
	Unread bool     // where OpenClaw has its state may be said in what is not read here
}

// ReadScript looks for the command in the text of a script that is called with arguments.
func ReadScript(text string, arguments, environment []string) (found Script, ok bool) {
	state := newState(environment)
	text = strings.ReplaceAll(text, "\\\n", " ")
	for line := range strings.Lines(text) {
		line := Split(line)
		found.Words, found.Passes = nil, false
		for _, word := range line {
			if word == "$@" || word == "$*" || word == "${@}" {
				found.Words, found.Passes = append(found.Words, arguments...), true
				continue
			}
			found.Words = append(found.Words, ExpandShell(word, state.known))
		}
		if at := GatewayAt(found.Words); at >= 0 && len(assignments(line)) == 0 {
			state.begin(line[:min(at, len(line))])
			found.Set, found.Unread = state.set, state.unread()
			return found, true
		}
		state.pass(line)
	}
	return Script{}, false
}

// assignments are the variables of a line of a script that does no more than to set some; nil for every other.
func assignments(words []string) (sets []string) {
	declares := len(words) > 0 && slices.Contains([]string{"export", "readonly", "local", "declare"}, words[0])
	for i, word := range words {
		name, _, set := strings.Cut(word, "=")
		switch {
		case set && isName().MatchString(name):
			sets = append(sets, word)
		case !declares, i > 0 && word != "-x" && !isName().MatchString(word):
			return nil
		}
	}
	return sets
}

var variable = lazy.Regexp(`\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?::?-([^}]*))?\})`)

// ExpandShell puts the variables in that are known; of the others it leaves the names.
func ExpandShell(word string, known map[string]string) string {
	return variable().ReplaceAllStringFunc(word, func(whole string) string {
		parts := variable().FindStringSubmatch(whole)
		if value, ok := known[parts[1]+parts[2]]; ok && (value != "" || parts[3] == "") {
			return value
		}
		if parts[3] != "" {
			return ExpandShell(parts[3], known)
		}
		return whole
	})
}

// WithoutOption takes an option out of a command line, with its value if it has one.
func WithoutOption(argv []string, name string, valued bool) (rest []string) {
	for i := 0; i < len(argv); i++ {
		switch {
		case argv[i] == name && valued:
			i++
		case argv[i] == name, strings.HasPrefix(argv[i], name+"="):
		default:
			rest = append(rest, argv[i])
		}
	}
	return rest
}

// valuesOf are the values of the variables in an environment, of two the last.
func valuesOf(environment []string) map[string]string {
	values := map[string]string{}
	for _, entry := range environment {
		name, value, _ := strings.Cut(entry, "=")
		values[name] = value
	}
	return values
}

// Expand puts variables into the words of a command line as systemd does before it executes it (systemd.service(5), "Command
// lines"): a word that is $NAME becomes the words of its value, ${NAME} stands anywhere, $$ is one dollar sign. The program
// itself is no variable.
func Expand(argv, environment []string) (words []string) {
	known := valuesOf(environment)
	for i, word := range argv {
		if name := wholeVariable().FindStringSubmatch(word); name != nil && i > 0 {
			words = append(words, Split(known[name[1]])...)
			continue
		}
		words = append(words, bracedVariable().ReplaceAllStringFunc(word, func(whole string) string {
			if whole == "$$" {
				return "$"
			}
			return known[strings.Trim(whole, "${}")]
		}))
	}
	return words
}

var (
	wholeVariable  = lazy.Regexp(`^\$([A-Za-z_]\w*)$`)
	bracedVariable = lazy.Regexp(`\$\$|\$\{[A-Za-z_]\w*\}`)
)

// Variables are the names of the variables in a command line.
func Variables(argv []string) (names []string) {
	for _, word := range argv {
		for _, found := range anyVariable().FindAllStringSubmatch(word, -1) {
			names = append(names, found[1])
		}
	}
	return names
}

// OfOneStart finds in a command line a variable that only systemd can tell, for one start of one unit (systemd.exec(5)); "" without one.
func OfOneStart(argv, environment []string) string {
	known := map[string]bool{}
	for _, entry := range environment {
		name, _, _ := strings.Cut(entry, "=")
		known[name] = true
	}
	for i, word := range argv {
		found := bracedVariable().FindAllString(word, -1)
		if wholeVariable().MatchString(word) && i > 0 {
			found = append(found, word)
		}
		for _, found := range found {
			if name := strings.Trim(found, "${}"); !known[name] && slices.Contains(ofOneStart, name) {
				return name
			}
		}
	}
	return ""
}

var ofOneStart = []string{
	"CREDENTIALS_DIRECTORY", "STATE_DIRECTORY", "RUNTIME_DIRECTORY", "CACHE_DIRECTORY", "LOGS_DIRECTORY", "CONFIGURATION_DIRECTORY",
	"SHELL", "XDG_RUNTIME_DIR", "INVOCATION_ID", "NOTIFY_SOCKET", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "MANAGERPID", "WATCHDOG_PID", "WATCHDOG_USEC",
}

var anyVariable = lazy.Regexp(`\$\{?([A-Za-z_]\w*)\}?`)
