package say

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"

	"golang.org/x/text/width"

	"openclaw-gateway/lazy"
)

// Width is how many columns a text takes, without the colours of a [Painter].
func Width(text string) (columns int) {
	for i, part := range strings.Split(text, mark) {
		if i > 0 {
			_, part, _ = strings.Cut(part, "m") // ESC [ … m
		}
		for _, r := range part {
			columns += runeWidth(r)
		}
	}
	return columns
}

// runeWidth is 2 for a character of East Asia (UAX 11), and 0 for one that is written over another.
func runeWidth(r rune) int {
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	default:
		return 1
	}
}

// Fit is a text without colours in so many columns; where it was longer it ends in an ellipsis.
func Fit(text string, columns int) string {
	text = Printable(text)
	if Width(text) <= columns {
		return text
	}
	head, _ := split(text, columns-1)
	return head + "…"
}

// split cuts a text without colours where it is so many columns wide, behind its first character at the earliest.
func split(text string, columns int) (head, rest string) {
	for i, r := range text {
		if columns -= runeWidth(r); columns < 0 && i > 0 {
			return text[:i], text[i:]
		}
	}
	return text, ""
}

// Wrap breaks the lines of a text, which may have colours, so that none is wider than so many columns; 0 is without an end.
// The first line begins in the column first, and all others get an indent. A command between backquotes stands on a line of its
// own rather than be broken; where it has to be, a shell still takes it for one (a backslash at the end of a line).
func Wrap(text string, first, indent, columns int) string {
	var b strings.Builder
	parts := strings.Split(text, mark)
	for i := range parts {
		parts[i] = Lines(parts[i])
	}
	margin := "\n" + strings.Repeat(" ", indent)
	at, limit := first, columns
	for i, line := range strings.Split(strings.Join(parts, mark), "\n") {
		if i > 0 {
			b.WriteString(margin)
			at = indent
		}
		if columns <= indent {
			b.WriteString(line)
			continue
		}
		empty := true // nothing stands in this line yet
		put := func(word string, end string) {
			limit = columns - len(end)
			switch {
			case !empty && at+1+Width(word) <= limit:
				b.WriteString(" ")
				at++
			case !empty:
				b.WriteString(end + margin)
				at = indent
			}
			// Words that are longer than a line are few, and are no parts of commands: a path.
			for end == "" && !strings.Contains(word, mark) && !strings.Contains(word, "`") && at+Width(word) > columns {
				var head string
				head, word = split(word, columns-at)
				b.WriteString(head + margin)
				at = indent
			}
			b.WriteString(word)
			at += Width(word)
			empty = false
		}
		for _, words := range units(line) {
			whole := strings.Join(words, " ")
			if len(words) == 1 && !strings.HasPrefix(whole, "`") || indent+Width(whole) <= columns {
				put(whole, "")
				continue
			}
			if !empty {
				b.WriteString(margin)
				at, empty = indent, true
			}
			for _, word := range words {
				put(word, " \\")
			}
		}
	}
	return b.String()
}

// Tell writes lines for a person. On a terminal none is wider than that: it goes on below.
func Tell(w io.Writer, format string, values ...any) error {
	columns := Columns(w)
	var text strings.Builder
	for line := range strings.SplitSeq(fmt.Sprintf(format, values...), "\n") {
		text.WriteString(Wrap(line, 0, 2, columns) + "\n")
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// Table writes rows whose cells stand below each other, in the way of [Tell].
func Table(w io.Writer, rows [][]string) error {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i := range row {
			row[i] = Printable(row[i])
		}
		fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	_ = table.Flush() // a Builder takes everything
	return Tell(w, "%s", strings.TrimSuffix(b.String(), "\n"))
}

// units are the words of a line; a command between backquotes is one of as many words as it may be broken between, which are
// not those within quotes.
func units(line string) (all [][]string) {
	var command []string
	for word := range strings.SplitSeq(line, " ") {
		open := len(command) > 0
		switch {
		case !open && strings.Count(word, "`")%2 == 0:
			all = append(all, []string{word})
			continue
		case open && quoted(command[len(command)-1]):
			command[len(command)-1] += " " + word
		default:
			command = append(command, word)
		}
		if open && strings.Contains(word, "`") {
			all, command = append(all, command), nil
		}
	}
	for _, word := range command { // it was none
		all = append(all, []string{word})
	}
	return all
}

// quoted reports whether a shell is between quotes behind a text.
func quoted(text string) bool {
	open := rune(0)
	for _, r := range text {
		switch {
		case open == 0 && (r == '\'' || r == '"'):
			open = r
		case r == open:
			open = 0
		}
	}
	return open != 0
}

// beside is a line that says what something does which it begins with.
var beside = lazy.Regexp(`^( +\S.*?)   +(\S.*)$`)

// Below breaks lines that say what something does which they begin with: what it does stands below it.
func Below(text string, columns int) string {
	const indent = 8
	var b strings.Builder
	for line := range strings.Lines(text) {
		if parts := beside().FindStringSubmatch(strings.TrimRight(line, "\n")); parts != nil {
			line = parts[1] + "\n" + strings.Repeat(" ", indent) + Wrap(parts[2], indent, indent, columns) + "\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

// entry is what a line of a table begins with.
var entry = lazy.Regexp(`^ +\S+ +`)

// Paragraphs breaks a text into lines of so many columns. Those that are indented are a table's.
func Paragraphs(text string, columns int) string {
	var lines []string
	open := false
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		table := strings.HasPrefix(line, " ")
		if open && !table && line != "" {
			lines[len(lines)-1] += " " + line
			continue
		}
		lines, open = append(lines, line), !table && line != ""
	}
	for i, line := range lines {
		lines[i] = Wrap(line, 0, len(entry().FindString(line)), columns)
	}
	return strings.Join(lines, "\n")
}
