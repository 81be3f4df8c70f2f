package commandline

import (
	"iter"
	"path/filepath"
	"slices"
	"strings"

	"openclaw-gateway/cmd/gateway/openclaw"
)

// state is what the commands of a shell have made of its variables, as far as these can be told.
type state struct {
	known   map[string]string
	set     []string        // NAME=value of each one that is set, in their order
	unknown map[string]bool // what has another value perhaps, or one that is computed
	sourced bool            // what is not read may have set any that has none
	within  int             // how many conditions and loops this is in
}

func newState(environment []string) *state {
	return &state{known: valuesOf(environment), unknown: map[string]bool{}}
}

// pass takes a line that starts no gateway.
func (s *state) pass(line []string) {
	for command := range commands(line) {
		command = s.enter(command)
		sets := assignments(command)
		for _, set := range sets {
			s.assign(set)
		}
		if len(sets) == 0 {
			for _, word := range command { // for this command alone, or if another one succeeds
				if name, _, set := strings.Cut(word, "="); set {
					s.unknown[name] = true
				}
			}
		}
		s.sourced = s.sourced || sources(command)
	}
}

// begin takes what stands before a gateway in its line; what is set in its own command is set for it.
func (s *state) begin(line []string) {
	last := 0
	for i, word := range line {
		if word == ";" {
			last = i + 1
		}
	}
	s.pass(line[:last])
	s.sourced = s.sourced || sources(line[last:])
	s.within = 0
	for _, word := range line[last:] {
		if name, _, set := strings.Cut(word, "="); set && isName().MatchString(name) {
			s.assign(word)
		}
	}
}

func (s *state) assign(assignment string) {
	name, raw, _ := strings.Cut(assignment, "=")
	value := ExpandShell(raw, s.known)
	s.unknown[name] = s.within > 0 || strings.ContainsAny(value, "$`") || slices.ContainsFunc(Variables([]string{raw}), s.doubted)
	s.known[name] = value
	s.set = append(s.set, name+"="+value)
}

// doubted reports whether a variable may have another value than the known one.
func (s *state) doubted(name string) bool {
	return s.unknown[name] || s.sourced && s.known[name] == ""
}

// unread reports whether it cannot be told where an OpenClaw has its state that is started now ([openclaw.StateDir]).
func (s *state) unread() bool {
	for _, name := range openclaw.Places() {
		if s.doubted(name) {
			return true
		}
		if value := s.known[name]; value != "" && !strings.HasPrefix(value, "~") {
			return false // it needs no other
		}
	}
	return false
}

// enter takes the shell's own words from the beginning of a command, and counts what they begin and end.
func (s *state) enter(command []string) []string {
	for i, word := range command {
		switch word {
		case "if", "case", "for", "while", "until", "select":
			s.within++
		case "fi", "esac", "done":
			s.within--
		case "then", "else", "elif", "do", "!", "{", "}", "(", ")":
		default:
			return command[i:]
		}
	}
	return nil
}

// commands yields what stands between the semicolons of a line.
func commands(line []string) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for len(line) > 0 {
			end := slices.Index(line, ";")
			if end < 0 {
				end = len(line)
			}
			if !yield(line[:end]) {
				return
			}
			line = line[min(end+1, len(line)):]
		}
	}
}

// sources reports whether a command has its shell read another file or text, which may set any variable; that of nvm sets none of
// OpenClaw's.
func sources(words []string) bool {
	for i, word := range words[:max(len(words)-1, 0)] {
		next := words[i+1]
		switch first := i == 0 || slices.Contains([]string{";", "&", "|", "(", "{", "then", "do", "else", "!"}, words[i-1]); {
		case first && (word == "." || word == "source") && filepath.Base(next) != "nvm.sh", first && word == "eval":
			return true
		case (word == "export" || word == "env") && (next == "$" || strings.HasPrefix(next, "`")): // export $(cat FILE)
			return true
		}
	}
	return false
}
