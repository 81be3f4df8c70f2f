package say

import (
	"fmt"
	"strings"

	"openclaw-gateway/lazy"
)

// Shell writes a command for a person to paste: a shell splits it into exactly these arguments, whatever is in them, and it
// is one line without anything that could disturb a terminal. (An argument that ends in a line break is the exception: that
// has to stand there as it is.)
func Shell(argv ...string) string {
	words := make([]string, len(argv))
	for i, word := range argv {
		words[i] = shellWord(word)
	}
	return strings.Join(words, " ")
}

var (
	// zsh takes a word that begins with = for the path of a program.
	plainWord = lazy.Regexp(`^[a-zA-Z0-9_@%+:,./-][a-zA-Z0-9_@%+=:,./-]*$`)
	// What stands between single quotes is the same for every shell, but fish reads \' and \\ there. Between double quotes \\
	// is one backslash for all of them.
	pieces = lazy.Regexp(`(?:[^\\']|\\[^\\'])+|[\\']+`)
)

func shellWord(word string) string {
	if plainWord().MatchString(word) {
		return word
	}
	if strings.ContainsFunc(word, func(r rune) bool { return !printable(r) }) {
		return escapedWord(word)
	}
	if !strings.ContainsAny(word, `\'`) {
		return "'" + word + "'"
	}
	return pieces().ReplaceAllStringFunc(word, func(piece string) string {
		if strings.Trim(piece, `\'`) == "" {
			return `"` + strings.ReplaceAll(piece, `\`, `\\`) + `"`
		}
		return "'" + piece + "'"
	})
}

// escapedWord has printf(1) write a word. Not $'…', which dash does not know. A command substitution loses the line breaks
// at its end.
func escapedWord(word string) string {
	text := strings.TrimRight(word, "\n")
	var b strings.Builder
	for i, c := range []byte(text) {
		option := i == 0 && c == '-'
		if option || c >= 0x80 || c < ' ' || c == 0x7f || strings.IndexByte(`\'"%!$`+"`", c) >= 0 {
			fmt.Fprintf(&b, `\%03o`, c)
		} else {
			b.WriteByte(c)
		}
	}
	breaks := ""
	if rest := word[len(text):]; rest != "" {
		breaks = "'" + rest + "'"
	}
	return `"$(printf '` + b.String() + `')"` + breaks
}
