package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf8"

	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/say"
)

// What an environment file may hold, all files of a pattern together. The kernel takes 6 MiB of arguments and environment
// with 8 bytes for each, and no variable of more than 128 KiB (MAX_ARG_STRLEN, execve(2)).
const (
	variablesLimit = 10_000
	entryLimit     = 128<<10 - 1 // bytes, the NUL byte behind it aside
	odditiesLimit  = 10
)

// Oddity is something in an environment file that is hardly meant, and no mistake.
type Oddity struct {
	File string
	Line int    // 0: the file is empty, as of an editor that is writing or a full disk
	Is   string // what it is, without a name or a value: those may be secrets
}

func (o Oddity) String() string {
	if o.Line == 0 {
		return o.File + " " + o.Is
	}
	return fmt.Sprintf("%s:%d %s", o.File, o.Line, o.Is)
}

// ReadEnvironmentFile reads NAME=value lines as systemd does for EnvironmentFile=, see systemd.exec(5) and, for what that
// leaves open, systemd's src/basic/env-file.c as of version 254. A path that begins with "-" may be missing, and it may be
// a pattern such as /etc/worker.d/*.env. Nothing is expanded; # and ; begin a comment at the start of a line only; of two
// lines for one name the later wins, in the place of the earlier.
//
// Lines that are no assignment are passed over, as systemd does, and are among the oddities; so is an open quote, and a file without
// anything. Unlike systemd, it takes no byte order mark for a part of the first name. A name that is [Reserved] is an error, and
// so are bytes that are not UTF-8, and more than the kernel takes. Values, which are secrets as a rule, are in no message. Where
// owners are named, each file has to belong to one of these uids, or to root.
//
// Why not a library: those for .env files expand $ or strip comments from the ends of lines, so that a password with a
// $ or a # in it would reach the worker mutilated.
func ReadEnvironmentFile(path string, owners ...int) ([]string, []Oddity, error) {
	files, err := EnvironmentFiles(path)
	if err != nil {
		return nil, nil, err
	}
	e := environment{known: map[string]int{}}
	left := read.ConfigLimit
	for _, file := range files {
		content, _, err := read.File(file, read.ConfigLimit, owners...)
		if strings.HasPrefix(path, "-") && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("cannot read the environment file: %w", err)
		}
		if left -= len(content); left < 0 {
			return nil, nil, fmt.Errorf("cannot read the environment file: the files of %s are together bigger than %d MiB", path, read.ConfigLimit>>20)
		}
		if err := e.add(file, content); err != nil {
			return nil, nil, err
		}
	}
	if more := e.odd - odditiesLimit; more > 0 {
		e.oddities[odditiesLimit].Is += fmt.Sprintf(", and is the first of %s like that", say.Count(more, "more line"))
	}
	return e.entries, e.oddities, nil
}

// EnvironmentFiles are the files that worker.environment_file means: that of the path, or those that are there of a pattern.
func EnvironmentFiles(path string) ([]string, error) {
	pattern := strings.TrimPrefix(path, "-")
	if !read.IsPattern(pattern) {
		return []string{pattern}, nil
	}
	files, err := read.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("environment file %w", err)
	}
	if len(files) == 0 {
		files = []string{pattern} // for its error
	}
	return files, nil
}

// environment collects the variables of several files.
type environment struct {
	entries  []string       // NAME=value
	known    map[string]int // where each name is among them
	oddities []Oddity       // with one more than odditiesLimit where there are more
	odd      int            // how many there are
}

// note takes note of an oddity.
func (e *environment) note(file string, line int, is string) {
	if e.odd++; len(e.oddities) <= odditiesLimit {
		e.oddities = append(e.oddities, Oddity{file, line, is})
	}
}

func (e *environment) add(file string, content []byte) error {
	if bytes.IndexByte(content, 0) >= 0 {
		return fmt.Errorf("cannot read the environment file: %s holds a NUL byte", file)
	}
	content = bytes.TrimPrefix(content, []byte("\ufeff"))
	if len(bytes.TrimSpace(content)) == 0 {
		e.note(file, 0, "is empty")
	}
	open := 0
	for a := range func(yield func(assignment) bool) { open = parse(content, yield) } {
		i, again := e.known[a.name]
		switch {
		case !utf8.ValidString(a.name + a.value):
			return fmt.Errorf("environment file %s:%d: not UTF-8", file, a.line)
		case !validName(a.name):
			// Without the name: a line of a secret that was broken in two may look like one.
			is := "is not NAME=value, and is ignored"
			if strings.HasPrefix(a.name, "export ") {
				is = "begins with export, which only a shell knows, and is ignored: leave that word out"
			}
			e.note(file, a.line, is)
		case Reserved(a.name):
			return fmt.Errorf("environment file %s:%d: %s is set by the launcher: remove it", file, a.line, a.name)
		case len(a.name)+1+len(a.value) > entryLimit:
			return fmt.Errorf("environment file %s:%d: longer than 128 KiB, the longest variable that the kernel takes: remove it", file, a.line)
		case again:
			e.entries[i] = a.name + "=" + a.value
		case len(e.entries) == variablesLimit:
			return fmt.Errorf("environment file %s:%d: there are more than %d variables: remove some", file, a.line, variablesLimit)
		default:
			e.known[a.name] = len(e.entries)
			e.entries = append(e.entries, a.name+"="+a.value)
		}
	}
	if open > 0 {
		e.note(file, open, "opens a quote that is not closed: all lines behind it are part of its value")
	}
	return nil
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

// parse is systemd's state machine, which accepts anything. It returns the line of the assignment in which a quote is open at the
// end; 0 where none is.
func parse(content []byte, yield func(assignment) bool) (open int) {
	var (
		state       = preKey
		name, value []byte
		kept        int // how much of an unquoted value is not trailing whitespace
		line, begun = 1, 1
	)
	end := func() bool {
		if state == inValue {
			value = value[:kept]
		}
		found := assignment{strings.TrimRight(string(name), whitespace), string(value), begun}
		name, value, kept, state = name[:0], value[:0], 0, preKey
		return yield(found)
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
				name = name[:0]
				if !end() {
					return 0
				}
			case c == '=':
				state = preValue
			default:
				name = append(name, c)
			}
		case preValue, inValue:
			quoted := state == preValue && (c == '\'' || c == '"')
			switch {
			case isNewline:
				if !end() {
					return 0
				}
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
	switch state {
	case preKey, comment, commentEscape:
		return 0
	case inKey:
		name = nil
	case singleQuote, doubleQuote, doubleQuoteEscape:
		open = begun
	}
	end()
	return open
}
