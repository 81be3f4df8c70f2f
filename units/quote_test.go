package units

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// oddWords are what systemd is asked about on a real machine too (TestQuoting in test/).
var oddWords = []string{
	"", "a", " ", "a b", "\ta", "a\u00a0b", `"`, `'`, `\`, `\\`, `a\`, `a"b'c`, `"a"`, `'a b'`, ";", "a;b", "; b", "#a", "$", "$HOME", "${HOME}", "$$", "a$",
	"%", "%%", "%h", "100%", "%$", `\x41`, `\n`, `\s`, "-", "--", "@x", "+x", "!x", ":x", "|x", "é", "日本", "\u202e", "\ufeff", "=", "a=b", "{}", "[a]", "*",
	"\ufdd0", "\ufffe", "\U0001ffff", "\xff", "a\nb", "\r", "\x00", "\x7f", "\u0085",
}

// FuzzQuote: systemd reads each word as what it was, whatever that is, and so do we; what a unit cannot hold is refused.
func FuzzQuote(f *testing.F) {
	for _, word := range oddWords {
		f.Add(word)
	}
	f.Fuzz(func(t *testing.T, word string) {
		quoted, err := quoteArgument(word)
		if err != nil {
			if utf8.ValidString(word) && !strings.ContainsFunc(word, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || nonCharacter(r) }) {
				t.Fatalf("%q is refused: %v", word, err)
			}
			return
		}
		if word == "" {
			return // it is no path
		}
		words, err := systemdWords("run " + quoted + " end")
		if want := []string{"run", word, "end"}; err != nil || !slices.Equal(words, want) {
			t.Errorf("%q is written %s, which systemd reads as %q, %v", word, quoted, words, err)
		}
		if got := unquoteArgument(quoted); got != word {
			t.Errorf("%q is written %s, which we read as %q", word, quoted, got)
		}
	})
}

// nonCharacter is what utf8_is_valid of systemd (src/basic/utf8.c, unichar_is_valid) does not take, besides what is no UTF-8.
func nonCharacter(r rune) bool { return r >= 0xfdd0 && r <= 0xfdef || r&0xfffe == 0xfffe }

// systemdWords splits a line as systemd does (extract_first_word with EXTRACT_UNQUOTE and EXTRACT_CUNESCAPE, then specifiers
// and variables: config_parse_exec in src/core/load-fragment.c, replace_env_argv in src/basic/env-util.c).
func systemdWords(line string) (words []string, err error) {
	if !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return nonCharacter(r) || r == '\n' || r == 0 }) {
		return nil, errors.New("the line is ignored")
	}
	var word strings.Builder
	quote, within := rune(0), false
	runes := []rune(line)
	for i := 0; i < len(runes); i++ {
		r := runes[i]
		switch {
		case quote == '\'' && r != '\'', quote == '"' && r != '"' && r != '\\':
			if r == '\\' { // C escapes hold between single quotes too
				return nil, errors.New("an escape that we do not write")
			}
			word.WriteRune(r)
		case quote != 0 && r == quote:
			quote = 0
		case r == '\\':
			i++
			if i == len(runes) || !strings.ContainsRune(`\"'`, runes[i]) {
				return nil, errors.New("an escape that we do not write")
			}
			word.WriteRune(runes[i])
			within = true
		case r == '"' || r == '\'':
			quote, within = r, true
		case strings.ContainsRune(" \t\n\r", r):
			if within {
				words = append(words, word.String())
			}
			word.Reset()
			within = false
		case r == ';' && !within && (i+1 == len(runes) || runes[i+1] == ' '):
			return nil, errors.New("another command begins")
		default:
			within = true
			word.WriteRune(r)
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote is open")
	}
	if within {
		words = append(words, word.String())
	}
	for i := range words {
		for _, sign := range []string{"%", "$"} {
			parts := strings.Split(words[i], sign+sign)
			for _, part := range parts {
				if strings.Contains(part, sign) {
					return nil, fmt.Errorf("%s is expanded", words[i])
				}
			}
			words[i] = strings.Join(parts, sign)
		}
	}
	return words, nil
}
