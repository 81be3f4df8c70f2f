package say

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"openclaw-gateway/test/fixtures"
)

// TestWrap: no line is wider than it may be, a command is not broken where it need not be, and no word is lost.
func TestWrap(t *testing.T) {
	t.Parallel()
	red := Painter(true).Paint(Red, "one two three four")
	for _, test := range []struct {
		name, text     string
		first, columns int
		want           string
	}{
		{"fits", "one two", 2, 9, "one two"},
		{"no end", "one two three four five", 2, 0, "one two three four five"},
		{"words", "one two three four five", 2, 12, "one two\n  three four\n  five"},
		{"the first line", "one two", 8, 12, "one\n  two"},
		{"lines", "one\ntwo three four", 0, 12, "one\n  two three\n  four"},
		{"a long word", "/a/path/that/is/longer", 2, 12, "/a/path/th\n  at/is/long\n  er"},
		{"a command", "run `a b c` now", 2, 12, "run\n  `a b c`\n  now"},
		{"a long command", "run `aa bb cc dd ee` now", 2, 12, "run\n  `aa bb \\\n  cc dd \\\n  ee` now"},
		{"a path in a command", "run `/a/path/that/is/longer x`", 2, 12, "run\n  `/a/path/that/is/longer \\\n  x`"},
		{"no command", "it is ` alone", 2, 8, "it is\n  `\n  alone"},
		{"wide", "ééééé 世界世界", 0, 8, "ééééé\n  世界世\n  界"},
		{"escaped", "\x1b[2J a", 0, 10, `\x1b[2J a`},
		{"narrow", "one two", 1, 2, "one two"},
		{"colours", red, 0, 10, strings.ReplaceAll(red, " t", "\n  t")},
	} {
		want := test.want
		if test.name == "colours" {
			want = strings.ReplaceAll(strings.ReplaceAll(red, "two three", "two\n  three"), "three four", "three\n  four")
		}
		if got := Wrap(test.text, test.first, 2, test.columns); got != want {
			t.Errorf("%s:\n%q, want\n%q", test.name, got, want)
		}
	}
}

// TestFit: what is cut shows that it is.
func TestFit(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text    string
		columns int
		want    string
	}{
		{"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"世界世界", 5, "世界…"}, {"世界世界", 4, "世…"}, {"e\u0301e\u0301e\u0301", 3, "e\u0301e\u0301e\u0301"}, {"a\nb", 4, `a\nb`},
	} {
		if got := Fit(test.text, test.columns); got != test.want {
			t.Errorf("%q in %d columns is %q, want %q", test.text, test.columns, got, test.want)
		}
	}
}

// FuzzWrap: nothing is wider than it may be but a part of a command, and a shell takes a broken command for the same.
func FuzzWrap(f *testing.F) {
	for _, word := range []string{"", "a", "a b", "/a/long/path/that/does/not/fit/into/a/line", "it's", "\x1b[0m", `\`, "世界", "-o=x y"} {
		f.Add(word, "x", uint8(40))
	}
	f.Fuzz(func(t *testing.T, one, other string, columns uint8) {
		if strings.ContainsAny(one+other, "\x00`\n") {
			return
		}
		command := Shell("printf", `%s\0`, one, other, "third", "and a fourth")
		text := Wrap("do `"+command+"` now, and "+one, 12, 12, int(columns))
		begin, end := strings.Index(text, "`"), strings.LastIndex(text, "`")
		for line := range strings.Lines(text[end:]) {
			if width := Width(strings.TrimSuffix(line, "\n")); columns > 14 && width > max(int(columns), len("third`")+12) && !strings.Contains(line, "`") {
				t.Errorf("%d columns of %d: %q", width, columns, line)
			}
		}
		if columns <= 12 {
			return
		}
		output, err := exec.Command("/bin/sh", "-c", text[begin+1:end]).Output()
		if got, want := strings.Split(string(output), "\x00"), []string{one, other, "third", "and a fourth", ""}; err != nil || !slices.Equal(got, want) {
			t.Errorf("%v: a shell splits\n%s\ninto %q, want %q", err, text[begin:end], got, want)
		}
	})
}

// TestColumns: a terminal says how wide it is, and nothing else does.
func TestColumns(t *testing.T) {
	t.Parallel()
	_, terminal := fixtures.Terminal(t)
	if err := unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 72}); err != nil {
		t.Fatal(err)
	}
	if got := Columns(NewWriter(terminal)); got != 72 {
		t.Errorf("%d columns, want 72", got)
	}
	file, _ := fixtures.Screen(t, false)
	if got := Columns(NewWriter(file)); got != 0 {
		t.Errorf("a pipe has %d columns", got)
	}
}

// TestTell: on a terminal what is told goes on below, and a command stays one; elsewhere a line stays a line.
func TestTell(t *testing.T) {
	t.Parallel()
	rows := func() [][]string {
		return [][]string{{"listen", "[127.0.0.1:18789, [::1]:18789]", "default"}, {"worker.command", "[server, --port, 18789]", "config.yaml:3"}}
	}
	out, fits := fixtures.Narrow(t, 40)
	w := NewWriter(out)
	const sentence = "127.0.0.1:18789 is held by another: `systemctl stop a.service` stops it, and is needed once"
	if err := errors.Join(Tell(w, "%s", sentence), Table(w, rows())); err != nil {
		t.Fatal(err)
	}
	if text := fits("config.yaml:3"); !strings.Contains(text, "\n  `systemctl stop a.service` stops it,") {
		t.Errorf("on a terminal it is\n%s", text)
	}
	var plain strings.Builder
	if err := errors.Join(Tell(&plain, "%s\nand", sentence), Table(&plain, rows())); err != nil {
		t.Fatal(err)
	}
	want := sentence + "\nand\nlisten          [127.0.0.1:18789, [::1]:18789]  default\nworker.command  [server, --port, 18789]         config.yaml:3\n"
	if plain.String() != want {
		t.Errorf("elsewhere it is\n%swant\n%s", plain.String(), want)
	}
}
