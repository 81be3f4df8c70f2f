package dotenv

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// assignments is how dotenv 17.4.2 finds the variables of a file, which is the one that OpenClaw 2026.9.6 has (its
// lib/main.js, LINE); \s is that of JavaScript, and so is the end of a comment.
var assignments = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(strings.NewReplacer(
		`\s`, `[\t-\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}]`, `#.`, `#[^\n\x{2028}\x{2029}]`,
	).Replace(`(?m)^\s*(?:export\s+)?([\w.-]+)(?:\s*=\s*?|:\s+?)(\s*'(?:\\'|[^'])*'|\s*"(?:\\"|[^"])*"|\s*` + "`(?:\\\\`|[^`])*`" + `|[^#\n]+)?\s*(?:#.*)?$`))
})

// assignment is one of the variable's in a file.
type assignment struct {
	start, end int // of the text from its line's beginning to the end of its value
	line       int // counted from 1
	value      string
}

// assigned returns the assignment of a variable that counts, which is the last one; false where there is none.
func assigned(content []byte, name string) (last assignment, found bool) {
	text, places := normalised(content)
	for _, match := range assignments().FindAllSubmatchIndex(text, -1) {
		key, value := text[match[2]:match[3]], ""
		if string(key) != name {
			continue
		}
		start, end := bytes.LastIndexByte(text[:match[2]], '\n')+1, match[3]
		if match[4] >= 0 {
			value, end = string(text[match[4]:match[5]]), match[5]
		} else if equals := bytes.IndexAny(text[end:match[1]], "=:"); equals >= 0 {
			end += equals + 1
		}
		// White space behind it is the file's, as is the end of the line.
		end = match[2] + len(bytes.TrimRight(text[match[2]:end], " \t\n"))
		last, found = assignment{places(start), places(end), 1 + bytes.Count(text[:start], []byte("\n")), unquoted(value)}, true
	}
	return last, found
}

// normalised has the ends of lines as one byte each, and tells where in the content a place of the text is.
func normalised(content []byte) (text []byte, places func(int) int) {
	var pairs []int // where in the text a "\r\n" has become one byte
	for i := 0; i < len(content); i++ {
		switch {
		case content[i] != '\r':
			text = append(text, content[i])
			continue
		case i+1 < len(content) && content[i+1] == '\n':
			pairs = append(pairs, len(text))
			i++
		}
		text = append(text, '\n')
	}
	return text, func(at int) int {
		before, _ := slices.BinarySearch(pairs, at)
		return at + before
	}
}

// unquoted is what a value means.
func unquoted(value string) string {
	value = strings.TrimFunc(value, func(r rune) bool { return unicode.IsSpace(r) && r != '\u0085' || r == '\ufeff' })
	if value == "" || !strings.ContainsRune("'\"`", rune(value[0])) {
		return value
	}
	quote := value[:1]
	if inner := strings.TrimSuffix(value[1:], quote); len(inner) < len(value)-1 {
		value = inner
	}
	if quote == `"` {
		value = strings.NewReplacer(`\n`, "\n", `\r`, "\r").Replace(value)
	}
	return value
}
