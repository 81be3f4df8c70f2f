package say

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestShell: what is printed for a person to paste reads well, too.
func TestShell(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		argv []string
		want string
	}{
		{[]string{"systemctl", "stop", "claw@1.service"}, "systemctl stop claw@1.service"},
		{[]string{"kill", ""}, "kill ''"},
		{[]string{`a\x2db.service`}, `'a\x2db.service'`},
		{[]string{"a;id>pwn;.service"}, "'a;id>pwn;.service'"},
		{[]string{"a'b.service"}, `'a'"'"'b.service'`},
		{[]string{"[::1]:18789"}, "'[::1]:18789'"},
		{[]string{"a=b", "=ls"}, "a=b '=ls'"},
		{[]string{"/home/a b/$HOME"}, "'/home/a b/$HOME'"},
		{[]string{"a\nb"}, `"$(printf 'a\012b')"`},
		{[]string{"\x1b]0;x\a"}, `"$(printf '\033]0;x\007')"`},
		{[]string{"\xff"}, `"$(printf '\377')"`},
		{[]string{"a\u202eb"}, `"$(printf 'a\342\200\256b')"`},
	} {
		if got := Shell(test.argv...); got != test.want {
			t.Errorf("%q: %s, want %s", test.argv, got, test.want)
		}
	}
}

// FuzzShell: a shell splits it into exactly the arguments that were meant.
func FuzzShell(f *testing.F) {
	for _, word := range []string{
		"", "a", "-", "--", "=ls", "~", "~root", "a b", "'", `\`, `\'`, `'\''; id #'`, `\\`, `\\'`, `a\`, `\x2d`, "$HOME", "`id`", "$(id)", `"`,
		"!!", "#x", "*", "?", "[a]", "{a,b}", "\n", "a\n", "\n\n'", "a\nb", "\t", "\r", "\x1b[2J", "\x7f", "\xff\xfe", "é", "\u00a0", "\u202e", "\ufeff",
		"%s%d%%", "-\xbd", "\x01'\\%!", "a=b", "&&", ";", "\\\n", "\xff\n",
	} {
		f.Add(word, "-x")
	}
	f.Fuzz(func(t *testing.T, one, other string) {
		if strings.Contains(one+other, "\x00") {
			return // no argument has one
		}
		line := Shell("printf", `%s\0`, one, other)
		for _, shell := range []string{"/bin/sh", "/bin/bash"} {
			if _, err := exec.LookPath(shell); err != nil {
				continue
			}
			output, err := exec.Command(shell, "-c", line).Output()
			if err != nil {
				t.Fatalf("%s: %s: %v", shell, line, err)
			}
			got := strings.Split(string(output), "\x00")
			if want := []string{one, other, ""}; !slices.Equal(got, want) {
				t.Errorf("%s splits %s into %q, want %q", shell, line, got, want)
			}
		}
		if body := strings.TrimRight(one, "\n") + strings.TrimRight(other, "\n"); body == one+other && Printable(line) != line {
			t.Errorf("%q could disturb a terminal", line)
		}
	})
}
