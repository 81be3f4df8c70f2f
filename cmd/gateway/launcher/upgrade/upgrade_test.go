package upgrade

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/passed"
)

func TestFindProgram(t *testing.T) {
	// It is below a directory that everybody may write to, and where nobody can move what is another's: that is trusted.
	directory := t.TempDir()
	program := filepath.Join(directory, "gateway")
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(directory, "link")
	if err := os.Symlink(program, link); err != nil {
		t.Fatal(err)
	}
	me := os.Geteuid()
	chosen := filepath.Join(t.TempDir(), "theirs") // who owns it can have the link lead elsewhere
	if err := errors.Join(os.Mkdir(chosen, 0o755), os.Symlink(program, filepath.Join(chosen, "gateway")), os.Chown(chosen, 424242, 1000)); err != nil {
		t.Fatal(err)
	}
	circle := filepath.Join(directory, "circle")
	if err := errors.Join(os.Symlink(circle, circle), os.Symlink("../"+filepath.Base(directory)+"/./gateway", filepath.Join(directory, "near")),
		os.Symlink(program, filepath.Join(directory, "theirs")), os.Lchown(filepath.Join(directory, "theirs"), 1000, 1000)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		what, path string
		prepare    func() error
		uids       []int
		want       string
	}{
		{"its own", program, nil, []int{0, me}, ""},
		{"by a link", link, nil, []int{0, me}, ""},
		{"by one from near by", filepath.Join(directory, "near"), nil, []int{0, me}, ""},
		{"by one in another user's directory", filepath.Join(chosen, "gateway"), nil, []int{0, me}, chosen + " belongs to user 424242"},
		{"by another user's, whom the directory lets change nothing", filepath.Join(directory, "theirs"), nil, []int{0, me}, ""},
		{"by one that leads to itself", circle, nil, []int{0, me}, "too many levels"},
		{"below a file", program + "/gateway", nil, []int{0, me}, "not a directory"},
		{"another user's", program, func() error { return os.Chown(program, 424242, 1000) }, []int{0}, "belongs to user 424242"},
		{"the launcher's own user's", program, nil, []int{0, 424242}, ""},
		{"its group's", program, func() error { return errors.Join(os.Chown(program, me, 1000), os.Chmod(program, 0o775)) }, []int{0, me}, program + " can be written to by the group"},
		{"root's own group's", program, func() error { return os.Chown(program, me, 0) }, []int{0, me}, ""},
		{"in a directory of everybody's", program, func() error { return errors.Join(os.Chmod(program, 0o755), os.Chmod(directory, 0o777)) }, []int{0, me}, directory + " can be written to by everybody"},
		{"a directory", directory, func() error { return os.Chmod(directory, 0o755) }, []int{0, me}, "is no program"},
		{"nothing", program + "x", nil, []int{0, me}, "no such file"},
	} {
		if test.prepare != nil {
			if err := test.prepare(); err != nil {
				t.Fatal(err)
			}
		}
		_, err := find(test.path, test.uids...)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.what, err, test.want)
		}
	}
}

// TestSame: a program that was put in its place, or was written to, is another one.
func TestSame(t *testing.T) {
	program := filepath.Join(t.TempDir(), "gateway")
	var before Program
	for i, change := range []func() error{
		func() error { return os.WriteFile(program, []byte("one"), 0o755) },
		func() error { return os.WriteFile(program, []byte("another"), 0o755) },
		func() error {
			return errors.Join(os.WriteFile(program+".new", []byte("another"), 0o755), os.Rename(program+".new", program))
		},
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		for again := range 2 {
			now, err := find(program, 0, os.Geteuid())
			if err != nil {
				t.Fatal(err)
			}
			if i > 0 || again > 0 {
				if got, want := before.same(now), again > 0; got != want {
					t.Errorf("after change %d, look %d: the same: %t", i, again, got)
				}
			}
			before = now
		}
	}
}

func TestDecode(t *testing.T) {
	content, err := Encode(map[string]int{"number": 7})
	if err != nil {
		t.Fatal(err)
	}
	var state map[string]int
	if version, err := Decode(content, &state); err != nil || version != api.ProgramVersion() || state["number"] != 7 {
		t.Errorf("version %q tells %v: %v", version, state, err)
	}
	for text, want := range map[string]string{
		"x":                                     "not understood",
		`{"format":1,"version":"","state":"x"}`: "not understood",
		string(bytes.Replace(content, []byte(`"format":1`), []byte(`"format":2`), 1)): "tells form 2",
	} {
		if _, err := Decode([]byte(text), &state); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestTry(t *testing.T) {
	program := filepath.Join(t.TempDir(), "gateway")
	run := func(_ context.Context, cmd *exec.Cmd) error { return cmd.Run() }
	for script, want := range map[string]string{
		`test "$1" = can-upgrade && test "$(cat)" = "what there is"`: "",
		`echo gateway: it is broken >&2; exit 3`:                     "exit status 3: it is broken",
		`head -c 100000 /dev/zero | tr '\0' x >&2; exit 1`:           "exit status 1: xxx",
	} {
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		err := Try(t.Context(), program, []byte("what there is"), run)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 5000) {
			t.Errorf("%s: %v, want %q", script, err, want)
		}
	}
	tired, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("it takes too long"))
	if err := Try(tired, program, nil, run); err == nil || !strings.Contains(err.Error(), "takes too long") {
		t.Errorf("a program that does not end: %v", err)
	}
}

func TestFind(t *testing.T) {
	if found, err := Find(); found != nil || err != nil {
		t.Errorf("there is %q, %v", found, err)
	}
	var files passed.Files
	environ, left, err := Leave([]byte("what there is"), &files)
	if err != nil {
		t.Fatal(err)
	}
	defer left.Close()
	number, _ := strings.CutPrefix(environ[len(environ)-1], Variable+"=")
	t.Setenv(Variable, number)
	if _, err := Find(); err == nil || !strings.Contains(err.Error(), "not passed") {
		t.Errorf("what this program has left itself was found: %v", err)
	}
	if _, set := os.LookupEnv(Variable); set {
		t.Error("whoever is below is told")
	}
	undo, err := files.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer undo()
	t.Setenv(Variable, number)
	// A duplicate, for Find closes it.
	fd, _ := strconv.Atoi(number)
	duplicate, err := os.Open("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		t.Fatal(err)
	}
	var copied passed.Files
	again, err := copied.Add(duplicate)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := copied.Open(); err != nil {
		t.Fatal(err)
	}
	t.Setenv(Variable, strconv.Itoa(again))
	if found, err := Find(); err != nil || string(found) != "what there is" {
		t.Errorf("found %q, %v", found, err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, wrong := range []string{"x", "0", strconv.Itoa(int(null.Fd()))} {
		t.Setenv(Variable, wrong)
		if _, err := Find(); err == nil || !strings.Contains(err.Error(), "only the launcher") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
