package units

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// quoteArgument quotes a word of an Exec line other than the first: besides specifiers, systemd expands variables in it
// (systemd.service(5), "Command lines").
func quoteArgument(word string) (string, error) {
	return quote(strings.ReplaceAll(word, "$", "$$"))
}

// quote makes one word of a command line out of text, with specifiers escaped (systemd.syntax(7), "Quoting";
// systemd.unit(5), "Specifiers"). A line break would begin another setting, and a line that is not UTF-8 is ignored.
func quote(text string) (string, error) {
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unheld) {
		return "", fmt.Errorf("%q has characters that a unit file cannot hold", text)
	}
	text = strings.ReplaceAll(text, "%", "%%")
	if !strings.ContainsFunc(text, special) {
		return text, nil
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`, nil
}

// unheld tells what makes systemd ignore a line: a line break or the like, and what it does not take for UTF-8 although it is,
// the noncharacters of Unicode (unichar_is_valid in src/basic/utf8.c of 252).
func unheld(r rune) bool {
	return unicode.IsControl(r) || r >= 0xfdd0 && r <= 0xfdef || r&0xfffe == 0xfffe
}

// special tells what makes quotes necessary: what separates or quotes words, and a semicolon, which alone is a separator
// of commands.
func special(r rune) bool {
	return unicode.IsSpace(r) || strings.ContainsRune("\"'\\;", r)
}

// unquoteArgument undoes quoteArgument.
func unquoteArgument(word string) string {
	if inner, ok := strings.CutPrefix(word, `"`); ok {
		word = strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(strings.TrimSuffix(inner, `"`))
	}
	return strings.NewReplacer("%%", "%", "$$", "$").Replace(word)
}
