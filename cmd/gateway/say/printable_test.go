package say

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// raw is what must not come out: one of each kind, with how it is shown.
var raw = []struct{ text, shown, json string }{
	{"\x1b]0;x\x07", `\x1b]0;x\a`, `\u001b]0;x\u0007`},
	{"a\tb\r\v\f\x00", `a\tb\r\v\f\x00`, `a\tb\r\u000b\f\u0000`},
	{"\x7f", `\x7f`, `\u007f`},
	{"\u009b31m", `\u009b31m`, `\u009b31m`},
	{"\u202eabc\u2066", `\u202eabc\u2066`, `\u202eabc\u2066`},
	{"\u200b\u200d\ufeff\u00ad", `\u200b\u200d\ufeff\u00ad`, `\u200b\u200d\ufeff\u00ad`},
	{"\u2028\u2029", `\u2028\u2029`, `\u2028\u2029`},
	{"\U000e0041", `\U000e0041`, `\udb40\udc41`},
	{"\ue000\U0010ffff", `\ue000\U0010ffff`, `\ue000\udbff\udfff`},
	{"\x9b\xff", `\x9b\xff`, `\ufffd\ufffd`},
	{"größer … 日本 ✓ �", "größer … 日本 ✓ �", "größer … 日本 ✓ �"},
}

// wantPrintable fails for what is not printable, but for line breaks where a text may have them.
func wantPrintable(t *testing.T, text string, except string) {
	t.Helper()
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) && !strings.ContainsRune(except, r) }) {
		t.Errorf("not printable: %q", text)
	}
}

func TestPrintable(t *testing.T) {
	for _, test := range raw {
		if got := Printable(test.text + "\n"); got != test.shown+`\n` {
			t.Errorf("%q: %s, want %s", test.text, got, test.shown)
		}
		if got := Lines(test.text + "\n"); got != test.shown+"\n" {
			t.Errorf("%q with lines: %s, want %s", test.text, got, test.shown)
		}
		var out bytes.Buffer
		if n, err := NewWriter(&out).Write([]byte(test.text + "\n")); err != nil || n != len(test.text)+1 || out.String() != test.shown+"\n" {
			t.Errorf("%q is written as %s (%d, %v), want %s", test.text, &out, n, err, test.shown)
		}
		out.Reset()
		if err := JSON(&out, []string{test.text}, ""); err != nil || out.String() != `["`+test.json+"\"]\n" {
			t.Errorf("%q as JSON is %s (%v), want %s", test.text, &out, err, test.json)
		}
		var read []string
		if err := json.Unmarshal(out.Bytes(), &read); err != nil || utf8.ValidString(test.text) && read[0] != test.text {
			t.Errorf("%s is read as %q (%v), want %q", &out, read, err, test.text)
		}
	}
}

// TestLine: what becomes a part of a sentence begins no line of its own.
func TestLine(t *testing.T) {
	for text, want := range map[string]string{
		"a\nb\n": "a; b", "\n\na": "a", "a\r\x1b[2Jb": `a\r\x1b[2Jb`, "a\u2028b": `a\u2028b`, "": "",
	} {
		if got := Line(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

// TestCompletionWriter: a shell is told no control character, whoever has chosen it.
func TestCompletionWriter(t *testing.T) {
	var out bytes.Buffer
	for _, line := range []string{"claw.service\tsystem scope\n", "\x1b]0;owned\x07.service\n", "a\u202eb\n", ":4\n"} {
		if n, err := NewCompletionWriter(&out).Write([]byte(line)); n != len(line) || err != nil {
			t.Errorf("%q: %d, %v", line, n, err)
		}
	}
	if want := "claw.service\tsystem scope\n:4\n"; out.String() != want {
		t.Errorf("it is told %q, want %q", &out, want)
	}
}

// TestPainterWriter: only our own control sequences reach a terminal.
func TestPainterWriter(t *testing.T) {
	var out bytes.Buffer
	text := Painter(true).Paint(Red, "a\x1b[0m\x1b[2Jb") + " \x1b[1;31mc\n"
	if _, err := NewWriter(&out).Write([]byte(Redrawn(text))); err != nil {
		t.Fatal(err)
	}
	want := "\x1b[H\x1b[1;31m" + `a\x1b[0m\x1b[2Jb` + "\x1b[0m " + `\x1b[1;31mc` + "\x1b[K\n\x1b[J"
	if out.String() != want {
		t.Errorf("got  %q\nwant %q", &out, want)
	}
}

// FuzzSay: whatever comes in, what is said is printable.
func FuzzSay(f *testing.F) {
	for _, test := range raw {
		f.Add(test.text, "--token="+test.text)
	}
	f.Add("x://u:p@h", "Authorization: Bearer \x1b")
	f.Fuzz(func(t *testing.T, a, b string) {
		wantPrintable(t, Printable(a), "")
		wantPrintable(t, Lines(a), "\n")
		wantPrintable(t, Command(a, []string{b, a}), "")
		wantPrintable(t, Command(a, nil), "")
		wantPrintable(t, CommandLine([]string{a, b}), "")
		wantPrintable(t, Printable(URL(a)), "")
		for _, w := range []func(*bytes.Buffer) *Writer{
			func(out *bytes.Buffer) *Writer { return NewWriter(out) },
			func(out *bytes.Buffer) *Writer { return NewJSONWriter(out) },
		} {
			var out bytes.Buffer
			if _, err := w(&out).Write([]byte(a)); err != nil {
				t.Error(err)
			}
			wantPrintable(t, out.String(), "\n")
		}
		var out bytes.Buffer
		var read map[string]string
		if err := JSON(&out, map[string]string{"a": a, b: b}, " "); err != nil || json.Unmarshal(out.Bytes(), &read) != nil {
			t.Errorf("no JSON: %q (%v)", &out, err)
		}
		wantPrintable(t, out.String(), "\n")
	})
}
