package say

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// longCommand is in characters: what a person still reads in a line of `gateway status`.
const longCommand = 200

// longArgument is in bytes: of a longer one no more is looked at.
const longArgument = 4 << 10

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
func Command(name string, argv []string) string { return command(name, argv, longCommand) }

// WholeCommand is Command without the cut, but for what no person reads.
func WholeCommand(name string, argv []string) string { return command(name, argv, longArgument) }

func command(name string, argv []string, most int) string {
	if strings.Join(argv, "") == "" {
		return quote("[" + name + "]")
	}
	var words []string
	masked, length := false, 0
	for _, arg := range argv {
		if length > most {
			break // of megabytes of them
		}
		arg = Cut(arg, longArgument)
		word := hidden
		if masked && !strings.HasPrefix(arg, "--") {
			// Authorization:, Bearer, and only then the secret.
			masked = scheme().MatchString(arg)
		} else {
			masked = masks(arg)
			word = quote(maskValues(arg))
		}
		words, length = append(words, word), length+utf8.RuneCountInString(word)+1
	}
	joined := strings.Join(words, " ")
	if utf8.RuneCountInString(joined) > most {
		joined = string([]rune(joined)[:most]) + "…"
	}
	return joined
}

func printable(r rune) bool { return unicode.IsPrint(r) && r != utf8.RuneError }

func quote(arg string) string {
	if arg == "" || strings.ContainsFunc(arg, func(r rune) bool { return !printable(r) || r == ' ' || r == '"' }) {
		return strconv.Quote(arg)
	}
	return arg
}
