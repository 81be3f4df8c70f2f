// Package say is how things are written for people: a command line, with its secrets masked, and nothing that disturbs a terminal.
package say

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	secretName  = `[\w.-]*(?:token|passw|passphrase|secret|api[_-]?key|credential)[\w.-]*`
	longCommand = 200 // characters: what a person still reads in a line of `gateway status`
)

var (
	secretWord = regexp.MustCompile(`(?i)^` + secretName + `$`)
	secretFlag = regexp.MustCompile(`(?i)^--?` + secretName + `$`)
	// A shell's -c has flags within one argument, and a process that sets its title leaves all of them in one.
	secretValue = regexp.MustCompile(`(?i)(` + secretName + `=|--?` + secretName + `\s+)("[^"]*"|'[^']*'|\S+)`)
)

// IsSecret reports whether the name of a variable looks like that of a secret.
func IsSecret(name string) bool { return secretWord.MatchString(name) }

// CommandLine joins argv for people, with secrets masked.
func CommandLine(argv []string) string {
	if len(argv) == 0 {
		return ""
	}
	return Command("", argv)
}

// Command joins argv for people. What stands behind a name that looks like a secret's is masked, what could
// disturb a terminal is quoted, and the end of a long one is cut off. Without argv (a process can erase it) it is the
// kernel's name for the process in brackets, as ps(1) shows it.
func Command(name string, argv []string) string {
	if strings.Join(argv, "") == "" {
		return quote("[" + name + "]")
	}
	words := make([]string, len(argv))
	masked := false
	for i, arg := range argv {
		if masked && !strings.HasPrefix(arg, "--") {
			words[i], masked = "***", false
			continue
		}
		masked = secretFlag.MatchString(arg)
		words[i] = quote(maskValues(arg))
	}
	joined := strings.Join(words, " ")
	if utf8.RuneCountInString(joined) > longCommand {
		joined = string([]rune(joined)[:longCommand]) + "…"
	}
	return joined
}

func maskValues(arg string) string {
	// `--token=two words` is one argument, so all that follows is its value.
	if name, _, ok := strings.Cut(arg, "="); ok && secretFlag.MatchString(name) {
		return name + "=***"
	}
	return secretValue.ReplaceAllString(arg, "${1}***")
}

func harmless(r rune) bool { return unicode.IsPrint(r) && r != utf8.RuneError }

func quote(arg string) string {
	if arg == "" || strings.ContainsFunc(arg, func(r rune) bool { return !harmless(r) || r == ' ' || r == '"' }) {
		return strconv.Quote(arg)
	}
	return arg
}

// URL is a URL without what may be a secret in it: a password, or the query.
func URL(target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return target
	}
	u.RawQuery = ""
	return u.Redacted()
}
