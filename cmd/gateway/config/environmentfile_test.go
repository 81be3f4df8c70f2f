package config

import (
	"bytes"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What systemd's own load_env_file(), version 252, makes of these and of 400,000 random files was compared with this
// parser by hand; they differ only where the test below names 254.
func TestParseAssignments(t *testing.T) {
	tests := map[string]struct {
		file string
		want []assignment
	}{
		"empty":                   {"", nil},
		"plain":                   {"A=1\nB=2\n", []assignment{{"A", "1", 1}, {"B", "2", 2}}},
		"no last newline":         {"A=1", []assignment{{"A", "1", 1}}},
		"windows lines":           {"A=1\r\nB=2\r\n", []assignment{{"A", "1", 1}, {"B", "2", 2}}},
		"no value":                {"A=\nB=", []assignment{{"A", "", 1}, {"B", "", 2}}},
		"more =":                  {"A=b=c==\n", []assignment{{"A", "b=c==", 1}}},
		"blanks around":           {"  A  =  b c  \n", []assignment{{"A", "b c", 1}}},
		"comments":                {"# A=1\n; B=2\n  # C=3\n\nD=4\n", []assignment{{"D", "4", 5}}},
		"# and ; within a line":   {"A=b # c\nB=d;e\nC=#f\n", []assignment{{"A", "b # c", 1}, {"B", "d;e", 2}, {"C", "#f", 3}}},
		"nothing is expanded":     {"A=$HOME ${B} `c` $(d) %h\n", []assignment{{"A", "$HOME ${B} `c` $(d) %h", 1}}},
		"single quotes":           {`A=' b\n "c" $d '` + "\n", []assignment{{"A", ` b\n "c" $d `, 1}}},
		"double quotes":           {`A=" b 'c' "` + "\n", []assignment{{"A", " b 'c' ", 1}}},
		"escapes in quotes":       {`A="\" \\ \$ \` + "`" + ` \n \t"`, []assignment{{"A", "\" \\ $ ` \\n \\t", 1}}},
		"escapes without quotes":  {`A=\a\ \"\\\n`, []assignment{{"A", `a "\n`, 1}}},
		"an escaped last blank":   {"A=b\\ \nB=c \\  \n", []assignment{{"A", "b ", 1}, {"B", "c  ", 2}}},
		"quotes within a word":    {`A=b"c"'d'`, []assignment{{"A", `b"c"'d'`, 1}}},
		"quotes beside quotes":    {`A="b"'c' "d" e "f"`, []assignment{{"A", `bcde "f"`, 1}}},
		"continued":               {"A=b\\\nc\\\n  d\nB=1\n", []assignment{{"A", "bc  d", 1}, {"B", "1", 4}}},
		"continued in quotes":     {"A=\"b\\\nc\"\nB=1\n", []assignment{{"A", "bc", 1}, {"B", "1", 3}}},
		"a newline in quotes":     {"A=\"b\nc\"\nB='d\ne'\nC=1\n", []assignment{{"A", "b\nc", 1}, {"B", "d\ne", 3}, {"C", "1", 5}}},
		"an open quote":           {"A=\"b\nB=1\n", []assignment{{"A", "b\nB=1\n", 1}}},
		"an open escape":          {"A=b\\", []assignment{{"A", "b", 1}}},
		"a comment is not closed": {"# b\\", nil},
		"since 254 a comment is one line": {
			"# a \\\nB=1\n", []assignment{{"B", "1", 2}},
		},
		"no assignment":             {"words\nA=1\nlast", []assignment{{"", "", 1}, {"A", "1", 2}, {"", "", 3}}},
		"export":                    {"export A=1\n", []assignment{{"export A", "1", 1}}},
		"a name that begins with =": {"=A=1\n", []assignment{{"=A", "1", 1}}},
		"a name that is quoted":     {`"A"=1`, []assignment{{`"A"`, "1", 1}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, slices.Collect(assignments([]byte(test.file))), cmp.AllowUnexported(assignment{})); diff != "" {
				t.Errorf("assignments (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadEnvironmentFile(t *testing.T) {
	directory := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(directory, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	first := write("10.env", "A=1\nB=2\nA=3\n")
	write("20.env", "C=4\nB=5\n")
	odd := write("odd", "export A=hunter2\nhunter2\nA.B=hunter2\n1A=hunter2\nOK=1\nHUNTER: hunter2\nB=\"hunter2\nC=hunter2\n")
	blank := write("blank", "\ufeff \n")
	notepad := write("notepad", "\ufeffA=1\r\nB='2'\r\n")
	reserved := write("reserved", "A=1\nB=2\nNOTIFY_SOCKET=hunter2\n")
	latin := write("latin", "A=1\nB=hunter2\xe9\n")
	null := write("null", "A=hunter2\x00\n")

	tests := map[string]struct {
		path  string
		want  []string
		error string
	}{
		"the later wins":            {first, []string{"A=3", "B=2"}, ""},
		"may be missing but is not": {"-" + first, []string{"A=3", "B=2"}, ""},
		"a pattern":                 {filepath.Join(directory, "*.env"), []string{"A=3", "B=5", "C=4"}, ""},
		"oddities":                  {odd, []string{"OK=1", "B=hunter2\nC=hunter2\n"}, ""},
		"empty":                     {blank, nil, ""},
		"a byte order mark":         {notepad, []string{"A=1", "B=2"}, ""},
		"missing":                   {filepath.Join(directory, "none"), nil, "cannot read the environment file: open " + directory + "/none: no such file or directory"},
		"may be missing":            {"-" + filepath.Join(directory, "none"), nil, ""},
		"a pattern without files":   {filepath.Join(directory, "*.none"), nil, "cannot read the environment file: open " + directory + "/*.none: no such file or directory"},
		"a directory":               {"-" + directory, nil, "cannot read the environment file: " + directory + " is a directory: put a regular file there"},
		"endless":                   {"/dev/zero", nil, "cannot read the environment file: /dev/zero is a device: put a regular file there"},
		"reserved":                  {reserved, nil, "environment file " + reserved + ":3: NOTIFY_SOCKET is set by the launcher: remove it"},
		"not UTF-8":                 {latin, nil, "environment file " + latin + ":2: not UTF-8"},
		"a NUL byte":                {null, nil, "cannot read the environment file: " + null + " holds a NUL byte"},
	}
	ignored := " is not NAME=value, and is ignored"
	oddities := map[string][]string{
		blank: {blank + " is empty"},
		odd: {
			odd + ":1 begins with export, which only a shell knows, and is ignored: leave that word out", odd + ":2" + ignored, odd + ":3" + ignored,
			odd + ":4" + ignored, odd + ":6" + ignored, odd + ":7 opens a quote that is not closed: all lines behind it are part of its value",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, found, err := ReadEnvironmentFile(test.path)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
			switch {
			case test.error == "" && err != nil:
				t.Errorf("error: %v", err)
			case test.error != "" && (err == nil || err.Error() != test.error):
				t.Errorf("error: %v\nwant:  %s", err, test.error)
			}
			var said []string
			for _, oddity := range found {
				said = append(said, oddity.String())
			}
			if diff := cmp.Diff(oddities[test.path], said); diff != "" {
				t.Errorf("oddities (-want +got):\n%s", diff)
			}
		})
	}
}

// TestEnvironmentFileBounds: what no kernel takes is a mistake, and is found at once.
func TestEnvironmentFileBounds(t *testing.T) {
	directory := t.TempDir()
	several := func(n int, line string) string {
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, line, i)
		}
		return text.String()
	}
	tests := map[string]struct {
		content string
		want    int // entries
		error   string
	}{
		"as many as may be":     {several(10_000, "A%d=1\n"), 10_000, ""},
		"more":                  {several(700_000, "A%d=\n"), 0, ":10001: there are more than 10000 variables: remove some"},
		"one, again and again":  {strings.Repeat("A=1\n", 1_000_000), 1, ""},
		"no assignments":        {strings.Repeat("a\n", 2_000_000), 0, ""},
		"a long value":          {"A=" + strings.Repeat("x", 128<<10-3), 1, ""},
		"a longer one":          {"B=1\nA=" + strings.Repeat("x", 128<<10-2), 0, ":2: longer than 128 KiB, the longest variable that the kernel takes: remove it"},
		"an endless name":       {strings.Repeat("A", 8<<20), 0, ""},
		"an endless value":      {"A='" + strings.Repeat("\n", 8<<20-3), 0, ":1: longer than 128 KiB, the longest variable that the kernel takes: remove it"},
		"an open escape in one": {"A=" + strings.Repeat("\\\n", 4<<20-1), 1, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(directory, "environment")
			if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			entries, oddities, err := ReadEnvironmentFile(path)
			if test.error != "" && (err == nil || err.Error() != "environment file "+path+test.error) || test.error == "" && err != nil {
				t.Errorf("error %v\nwant %s", err, test.error)
			}
			if len(entries) != test.want {
				t.Errorf("%d entries, want %d", len(entries), test.want)
			}
			if n := len(oddities); n > 11 || n > 1 && !strings.HasSuffix(oddities[10].String(), ":11 is not NAME=value, and is ignored, and is the first of 1999990 more lines like that") {
				t.Errorf("%d oddities, of %v", n, oddities)
			}
		})
	}
	for _, name := range []string{"1.env", "2.env"} {
		if err := os.WriteFile(filepath.Join(directory, name), bytes.Repeat([]byte("#"), 5<<20), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := ReadEnvironmentFile(directory + "/*.env")
	if want := "cannot read the environment file: the files of " + directory + "/*.env are together bigger than 8 MiB"; err == nil || err.Error() != want {
		t.Errorf("two files: %v\nwant %s", err, want)
	}
}

func assignments(content []byte) iter.Seq[assignment] {
	return func(yield func(assignment) bool) { parse(content, yield) }
}

func FuzzParseAssignments(f *testing.F) {
	f.Add([]byte("A=1\n# b\\\nC='d' \"e\\\n\" f \\"))
	f.Add([]byte("A=\\\n \\ \r\n=\n;"))
	f.Fuzz(func(t *testing.T, content []byte) {
		last := 0
		for a := range assignments(content) {
			if a.line < last || a.line > bytes.Count(content, []byte("\n"))+1 {
				t.Fatalf("%q is on line %d, after one on line %d", a.name, a.line, last)
			}
			last = a.line
			if strings.Contains(a.name, "=") && a.name[0] != '=' {
				t.Fatalf("name %q", a.name)
			}
		}
	})
}
