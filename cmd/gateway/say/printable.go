package say

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Printable shows escaped, as in a string of Go's, what could disturb a terminal or mislead whoever reads it: control characters
// (a line break is one), format characters such as those that turn the direction of writing, what no character stands for, and
// bytes that are no UTF-8. Others can choose it at will: a name, an argument, an answer.
func Printable(text string) string { return escape(text, "", escapeRune) }

// Lines is Printable for a text that has lines.
func Lines(text string) string { return escape(text, "\n", escapeRune) }

// Line is Printable for a text of several lines that is a part of a sentence: they are separated as sentences are.
func Line(text string) string {
	return Printable(strings.ReplaceAll(strings.TrimSpace(text), "\n", "; "))
}

// escape replaces what is not printable, but for the characters in except.
func escape(text, except string, with func(r rune, bytes string) string) string {
	var b strings.Builder
	done := 0
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		// The replacement character itself is printable: here it stands for a byte.
		if invalid := r == utf8.RuneError && size == 1; invalid || !unicode.IsPrint(r) && !strings.ContainsRune(except, r) {
			b.WriteString(text[done:i])
			b.WriteString(with(r, text[i:i+size]))
			done = i + size
		}
		i += size
	}
	if done == 0 {
		return text
	}
	b.WriteString(text[done:])
	return b.String()
}

func escapeRune(_ rune, bytes string) string {
	quoted := strconv.Quote(bytes)
	return quoted[1 : len(quoted)-1]
}

// escapeJSON is for what encoding/json leaves as it is within a string.
func escapeJSON(r rune, _ string) string {
	if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
		return fmt.Sprintf(`\u%04x\u%04x`, high, low)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// Writer is what a command prints to. Whatever comes out escaped that is not printable, whoever has chosen it; only line breaks
// pass, and the control sequences of a [Painter].
type Writer struct {
	out    io.Writer
	escape func(r rune, bytes string) string
}

// NewWriter writes text.
func NewWriter(out io.Writer) *Writer { return &Writer{out, escapeRune} }

// NewJSONWriter writes JSON, in whose strings the same is escaped as JSON has it.
func NewJSONWriter(out io.Writer) *Writer { return &Writer{out, escapeJSON} }

// Write takes no part of a character: it would be escaped.
func (w *Writer) Write(text []byte) (int, error) {
	parts := strings.Split(string(text), mark)
	for i := range parts {
		parts[i] = escape(parts[i], "\n", w.escape)
	}
	if _, err := io.WriteString(w.out, strings.Join(parts, "\x1b")); err != nil {
		return 0, err
	}
	return len(text), nil
}

// completionWriter leaves lines out.
type completionWriter struct{ out io.Writer }

// NewCompletionWriter writes what a shell offers to complete, a line each, and what it is behind a tab. The shell puts it on the terminal,
// and into the command line, as it is: escaped it would be another word, so a line with what is not printable is left out.
func NewCompletionWriter(out io.Writer) io.Writer { return completionWriter{out} }

func (w completionWriter) Write(text []byte) (int, error) {
	for line := range strings.Lines(string(text)) {
		if escape(line, "\t\n", escapeRune) != line {
			continue
		}
		if _, err := io.WriteString(w.out, line); err != nil {
			return 0, err
		}
	}
	return len(text), nil
}

// mark stands for ESC in our own control sequences, until they are written: nobody else knows it.
var mark = "\x1b" + rand.Text()

// JSON writes a value, with an indent unless that is "".
func JSON(w io.Writer, value any, indent string) error {
	encoder := json.NewEncoder(NewJSONWriter(w))
	encoder.SetIndent("", indent)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}
