package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// environmentFileLimit is more than the kernel takes as an environment (a quarter of the stack limit, execve(2)): a
// bigger file is a mistake such as /dev/zero.
const environmentFileLimit = 8 << 20

// ReadEnvironmentFile reads NAME=value lines as systemd does for EnvironmentFile=, see systemd.exec(5) and, for what that
// leaves open, systemd's src/basic/env-file.c as of version 254. A path that begins with "-" may be missing, and it may be
// a pattern such as /etc/worker.d/*.env. Nothing is expanded; # and ; begin a comment at the start of a line only; of two
// lines for one name the later wins, in the place of the earlier.
//
// Lines that are no assignment are passed over with a warning to the log, as systemd does. A name that is
// [Reserved] is an error, and so are bytes that are not UTF-8. Values, which are secrets as a rule, are in no message.
//
// Why not a library: those for .env files expand $ or strip comments from the ends of lines, so that a password with a
// $ or a # in it would reach the worker mutilated.
func ReadEnvironmentFile(path string, log *slog.Logger) ([]string, error) {
	pattern, optional := strings.CutPrefix(path, "-")
	files, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("environment file %s: %w", pattern, err)
	}
	if len(files) == 0 {
		files = []string{pattern} // for its error
	}
	var entries []string
	for _, file := range files {
		content, err := readLimited(file)
		if optional && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the environment file: %w", err)
		}
		for _, a := range parseAssignments(content) {
			switch {
			case !utf8.ValidString(a.name + a.value):
				return nil, fmt.Errorf("environment file %s:%d: not UTF-8", file, a.line)
			case !validName(a.name):
				// Without the name: a line of a secret that was broken in two may look like one.
				log.Warn("line of the environment file is not NAME=value and was ignored", "file", file, "line", a.line)
			case Reserved(a.name):
				return nil, fmt.Errorf("environment file %s:%d: %s is set by the launcher: remove it", file, a.line, a.name)
			default:
				entries = replaceEntry(entries, a.name, a.value)
			}
		}
	}
	return entries, nil
}

func readLimited(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, environmentFileLimit+1))
	switch {
	case err != nil:
		return nil, err
	case len(content) > environmentFileLimit:
		return nil, fmt.Errorf("%s is bigger than %d MiB", path, environmentFileLimit>>20)
	case bytes.IndexByte(content, 0) >= 0:
		return nil, fmt.Errorf("%s holds a NUL byte", path)
	}
	return content, nil
}

func replaceEntry(entries []string, name, value string) []string {
	for i, entry := range entries {
		if strings.HasPrefix(entry, name+"=") {
			entries[i] = name + "=" + value
			return entries
		}
	}
	return append(entries, name+"="+value)
}

// assignment is what one logical line says. A line without = has no name.
type assignment struct {
	name, value string
	line        int // on which it begins
}

// The states of the parser, named as in systemd.
type envState int

const (
	preKey envState = iota
	inKey
	preValue // also after a closing quote: what follows is added to the value
	inValue
	valueEscape
	singleQuote
	doubleQuote
	doubleQuoteEscape
	comment
	commentEscape
)

const (
	whitespace = " \t\n\r"
	newline    = "\n\r"
)

// parseAssignments is systemd's state machine. It accepts anything.
func parseAssignments(content []byte) []assignment {
	var (
		assignments []assignment
		state       = preKey
		name, value []byte
		kept        int // how much of an unquoted value is not trailing whitespace
		line, begun = 1, 1
	)
	end := func() {
		if state == inValue {
			value = value[:kept]
		}
		assignments = append(assignments, assignment{strings.TrimRight(string(name), whitespace), string(value), begun})
		name, value, kept, state = nil, nil, 0, preKey
	}
	for _, c := range content {
		isSpace := strings.IndexByte(whitespace, c) >= 0
		isNewline := strings.IndexByte(newline, c) >= 0
		switch state {
		case preKey:
			switch {
			case c == '#' || c == ';':
				state = comment
			case !isSpace:
				name, begun, state = append(name, c), line, inKey
			}
		case inKey:
			switch {
			case isNewline:
				name = nil
				end()
			case c == '=':
				state = preValue
			default:
				name = append(name, c)
			}
		case preValue, inValue:
			quoted := state == preValue && (c == '\'' || c == '"')
			switch {
			case isNewline:
				end()
			case quoted && c == '\'':
				state = singleQuote
			case quoted:
				state = doubleQuote
			case c == '\\':
				kept, state = len(value), valueEscape
			case state == preValue && isSpace:
			default:
				value, state = append(value, c), inValue
				if !isSpace {
					kept = len(value)
				}
			}
		case valueEscape:
			state = inValue
			if !isNewline {
				value = append(value, c)
			}
			kept = len(value)
		case singleQuote:
			if c == '\'' {
				state = preValue
			} else {
				value = append(value, c)
			}
		case doubleQuote:
			switch c {
			case '"':
				state = preValue
			case '\\':
				state = doubleQuoteEscape
			default:
				value = append(value, c)
			}
		case doubleQuoteEscape:
			state = doubleQuote
			switch {
			case strings.IndexByte("\"\\`$", c) >= 0:
				value = append(value, c)
			case c != '\n':
				value = append(value, '\\', c)
			}
		case comment:
			switch {
			case c == '\\':
				state = commentEscape
			case isNewline:
				state = preKey
			}
		case commentEscape: // before 254 a backslash continued a comment
			state = comment
			if isNewline {
				state = preKey
			}
		}
		if c == '\n' {
			line++
		}
	}
	if state == inKey {
		name = nil
		end()
	} else if state != preKey && state != comment && state != commentEscape {
		end()
	}
	return assignments
}
