package dotenv

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"openclaw-gateway/test/fixtures"
)

// files are contents of a .env, and the value that the variable has in it; "-" where it is not set.
var files = []struct{ content, value string }{
	{"", "-"},
	{"OPENCLAW_SUPERVISOR_MODE=external", "external"},
	{"OPENCLAW_SUPERVISOR_MODE=external\n", "external"},
	{"A=1\r\nOPENCLAW_SUPERVISOR_MODE=External\r\nB=2\r\n", "External"},
	{"A=1\rOPENCLAW_SUPERVISOR_MODE=external\rB=2", "external"},
	{"  export   OPENCLAW_SUPERVISOR_MODE = external   # why\nB=2", "external"},
	{"OPENCLAW_SUPERVISOR_MODE: external\n", "external"},
	{"OPENCLAW_SUPERVISOR_MODE:external\n", "-"},
	{"OPENCLAW_SUPERVISOR_MODE='external' # why\n", "external"},
	{"OPENCLAW_SUPERVISOR_MODE=\"external\\n\"\n", "external\n"},
	{"OPENCLAW_SUPERVISOR_MODE=`external`\n", "external"},
	{"OPENCLAW_SUPERVISOR_MODE=\"external'\n", "\"external'"},
	{"OPENCLAW_SUPERVISOR_MODE=ext#ernal\n", "ext"},
	{"OPENCLAW_SUPERVISOR_MODE=\n", ""},
	{"OPENCLAW_SUPERVISOR_MODE=\nA=1\n", ""},
	{"OPENCLAW_SUPERVISOR_MODE\n=none\nA=1\n", "none"},
	{"OPENCLAW_SUPERVISOR_MODE= # nothing\nA=1\n", ""},
	{"OPENCLAW_SUPERVISOR_MODE\nA=1\n", "-"},
	{"# OPENCLAW_SUPERVISOR_MODE=external\n", "-"},
	{"openclaw_supervisor_mode=external\n", "-"},
	{"A.OPENCLAW_SUPERVISOR_MODE=external\nOPENCLAW_SUPERVISOR_MODE.B=external\n", "-"},
	{"OPENCLAW_SUPERVISOR_MODE=external\nOPENCLAW_SUPERVISOR_MODE=none\n", "none"},
	{"OPENCLAW_SUPERVISOR_MODE=none\nOPENCLAW_SUPERVISOR_MODE=external", "external"},
	{"KEY=\"-----BEGIN\nOPENCLAW_SUPERVISOR_MODE=external\n-----END\"\n", "-"},
	{"KEY='\nOPENCLAW_SUPERVISOR_MODE=external\n'\nOPENCLAW_SUPERVISOR_MODE=none # x\n", "none"},
	{"KEY=\"open\nOPENCLAW_SUPERVISOR_MODE=external\n", "external"},
	{"export\nOPENCLAW_SUPERVISOR_MODE=none\n", "none"},
	{"\ufeffOPENCLAW_SUPERVISOR_MODE=none\nA=\xff\xfe", "none"},
	{"\u00a0OPENCLAW_SUPERVISOR_MODE=\u2003none\u00a0\n", "none"},
	{"OPENCLAW_SUPERVISOR_MODE='a\nb\n' # c\nA=1", "a\nb\n"},
	{"OPENCLAW_SUPERVISOR_MODE=none \t\n\n\nA=1", "none"},
	{"junk\n===\nOPENCLAW_SUPERVISOR_MODE=none=more\n", "none=more"},
}

func TestAssigned(t *testing.T) {
	t.Parallel()
	for _, test := range files {
		found, ok := assigned([]byte(test.content), Variable)
		if ok != (test.value != "-") || ok && found.value != test.value {
			t.Errorf("%q: %q, %t, want %q", test.content, found.value, ok, test.value)
		}
	}
}

// TestSameAsOpenClaws: the values are those that the dotenv of the real OpenClaw finds, also when ours is in the file.
func TestSameAsOpenClaws(t *testing.T) {
	t.Parallel()
	node, entry := os.Getenv("NODE"), os.Getenv("OPENCLAW_ENTRY")
	if node == "" || entry == "" {
		t.Fatal("NODE and OPENCLAW_ENTRY do not name the real ones: make test")
	}
	var contents [][]byte
	for _, test := range files {
		contents = append(contents, []byte(test.content), with([]byte(test.content), addedLine))
	}
	input, err := json.Marshal(contents)
	if err != nil {
		t.Fatal(err)
	}
	// …/node_modules/openclaw/dist/index.js
	script := `const { parse } = require(process.argv[1]);
const all = JSON.parse(require('fs').readFileSync(0)).map((content) => parse(Buffer.from(content ?? '', 'base64'))['` + Variable + `'] ?? '-');
console.log(JSON.stringify(all));`
	cmd := exec.Command(node, "-e", script, filepath.Join(filepath.Dir(entry), "../../dotenv"))
	cmd.Stdin, cmd.Stderr = strings.NewReader(string(input)), os.Stderr
	output, err := cmd.Output()
	var values []string
	if err := errors.Join(err, json.Unmarshal(output, &values)); err != nil || len(values) != len(contents) {
		t.Fatalf("%v, %d of %d values", err, len(values), len(contents))
	}
	for i, test := range files {
		if values[2*i] != test.value {
			t.Errorf("%q: OpenClaw's dotenv finds %q, the test says %q", test.content, values[2*i], test.value)
		}
		if values[2*i+1] != "external" {
			t.Errorf("OpenClaw's dotenv finds %q in\n%q", values[2*i+1], contents[2*i+1])
		}
	}
}

// FuzzThereAndBack: whatever is in a file, the variable has its value when ours is in it, and afterwards it is as before.
func FuzzThereAndBack(f *testing.F) {
	for _, test := range files {
		f.Add([]byte(test.content))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		if _, ours := without(content); ours {
			return // it says so itself
		}
		set := with(content, addedLine)
		if found, ok := assigned(set, Variable); !ok || found.value != "external" {
			t.Errorf("%q becomes %q, in which the value is %q", content, set, found.value)
		}
		if back, ours := without(set); !ours || string(back) != string(content) {
			t.Errorf("%q becomes %q and then %q", content, set, back)
		}
	})
}

// TestFile: what a file and its folder are like when ours is in it, and afterwards.
func TestFile(t *testing.T) {
	ctx := context.Background()
	for name, test := range map[string]struct {
		content *string
		mode    fs.FileMode
		folder  bool
	}{
		"no folder": {nil, 0o600, false},
		"no file":   {nil, 0o600, true},
		"empty":     {new(string), 0o640, true},
		"others":    {text("A=1\nB='two"), 0o604, true},
		"set":       {text("A=1\nOPENCLAW_SUPERVISOR_MODE=none # mine\nB=2"), 0o600, true},
	} {
		t.Run(name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), ".openclaw")
			file := File{Path: filepath.Join(folder, ".env"), UID: os.Geteuid()}
			if test.folder {
				must(t, os.Mkdir(folder, 0o755))
			}
			if test.content != nil {
				must(t, errors.Join(os.WriteFile(file.Path, []byte(*test.content), test.mode), os.Chmod(file.Path, test.mode)))
			}
			before, err := file.Look(ctx)
			must(t, err)
			if before.External() || before.Ours {
				t.Errorf("before: %+v", before)
			}
			for range 2 { // the second time it changes nothing
				state, err := file.Set(ctx)
				must(t, err)
				if !state.External() || !state.Ours || state.Path != file.Path || state.Line == 0 {
					t.Errorf("set: %+v", state)
				}
			}
			info, err := os.Stat(file.Path)
			must(t, err)
			if info.Mode().Perm() != test.mode {
				t.Errorf("the mode is %v, want %v", info.Mode(), test.mode)
			}
			after, err := file.TakeOut(ctx)
			must(t, err)
			if after != before {
				t.Errorf("taken out: %+v, before it was %+v", after, before)
			}
			content, err := os.ReadFile(file.Path)
			if test.content == nil {
				if _, there := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) || (there == nil) != test.folder {
					t.Errorf("the file: %q, %v, the folder: %v", content, err, there)
				}
			} else if string(content) != *test.content {
				t.Errorf("the file is %q, was %q", content, *test.content)
			}
			if _, err := file.TakeOut(ctx); err != nil {
				t.Errorf("taken out twice: %v", err)
			}
		})
	}
}

// TestSecond: what OpenClaw reads later counts where the first file says nothing.
func TestSecond(t *testing.T) {
	home := t.TempDir()
	second := filepath.Join(home, ".config/openclaw/gateway.env")
	must(t, errors.Join(os.MkdirAll(filepath.Dir(second), 0o755), os.WriteFile(second, []byte("A=1\n"+Line+"\n"), 0o600)))
	file, err := Find(t.Context(), Gateway{UID: os.Geteuid(), Home: home})
	must(t, err)
	state, err := file.Look(t.Context())
	if want := (State{Set: true, Value: "external", Path: second, Line: 2}); err != nil || state != want {
		t.Errorf("%+v, %v, want %+v", state, err, want)
	}
	if _, err := file.Set(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(file.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s was written, and need not be", file.Path)
	}
}

// TestTouched: what somebody has changed since stays as it is.
func TestTouched(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ content, want string }{
		{addedLine + "\n" + Line + "\nA=1\nB=2", "A=1\nB=2"},
		{"A=1\n" + addedLine + "\n" + Line + "\n", "A=1\n"},
		{addedFile + "\n" + Variable + "=none\nA=1\n", Variable + "=none\nA=1\n"},
		{addedLine, ""},
		{changedLine + `"` + Variable + `=a"` + "\n" + Line + "2\n", Line + "2\n"},
		{changedLine + `"` + Variable + `=a` + "\n" + Line + "\n", Line + "\n"},
		{changedLine + `"` + Variable + `=a"` + "\n" + Line + "\n", Variable + "=a\n"},
		{changedLine + `"` + Variable + `=a"`, ""},
	} {
		if got, ours := without([]byte(test.content)); !ours || string(got) != test.want {
			t.Errorf("%q: %q, %t, want %q", test.content, got, ours, test.want)
		}
	}
	for _, content := range []string{Line + "\n", "# gateway\n" + Line, ""} {
		if got, ours := without([]byte(content)); ours || string(got) != content {
			t.Errorf("%q is not ours: %q, %t", content, got, ours)
		}
	}
}

// TestUnfinished: what a write has left that was interrupted, secrets and all, goes with the next one.
func TestUnfinished(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), ".env")
	left := filepath.Join(filepath.Dir(path), "..env8735863672918274652")
	must(t, errors.Join(os.WriteFile(path, []byte("SECRET=1\n"), 0o600), os.WriteFile(left, []byte("SECRET=1\n"), 0o600)))
	must(t, File{Path: path}.write(path, []byte("SECRET=2\n"), nil))
	if _, err := os.Lstat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is there still: %v", left, err)
	}
}

// TestLinks: a link of one's own is followed, and none where others can put another one.
func TestLinks(t *testing.T) {
	base := t.TempDir()
	folder, target := filepath.Join(base, "state"), filepath.Join(base, "dotfiles/env")
	must(t, errors.Join(os.Mkdir(folder, 0o700), os.Mkdir(filepath.Dir(target), 0o700), os.WriteFile(target, []byte("A=1\n"), 0o644),
		os.Symlink("../dotfiles/env", filepath.Join(folder, ".env"))))
	file := File{Path: filepath.Join(folder, ".env"), UID: os.Geteuid()}
	if os.Geteuid() != 0 { // root follows what is root's to the last folder, which the test's is not everywhere
		if _, err := file.Set(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	must(t, os.Chmod(folder, 0o777))
	before, err := os.ReadFile(target)
	must(t, err)
	if _, err := file.place(); err == nil {
		t.Error("a link is followed in a folder where everybody can write")
	}
	if after, _ := os.ReadFile(target); string(after) != string(before) {
		t.Errorf("written: %q", after)
	}
}

// TestOwner: root has another user's file written by that user.
func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to be somebody else: make test")
	}
	const nobody = 65534
	base, err := os.MkdirTemp("/tmp", "dotenv")
	must(t, err)
	defer os.RemoveAll(base)
	home := filepath.Join(base, "home")
	must(t, errors.Join(os.Chmod(base, 0o755), os.Mkdir(home, 0o700), os.Chown(home, nobody, nobody)))
	file, err := Find(t.Context(), Gateway{UID: nobody, Home: home, Environment: []string{"SECRET=x", "OPENCLAW_STATE_DIR=" + home + "/state"}})
	must(t, err)
	if want := (File{Path: home + "/state/.env", UID: nobody}); file != want {
		t.Fatalf("the file is %+v, want %+v", file, want)
	}
	if state, err := file.Set(t.Context()); err != nil || !state.External() || !state.Ours {
		t.Fatalf("%+v, %v", state, err)
	}
	info, err := os.Stat(file.Path)
	must(t, err)
	if stat := info.Sys().(*syscall.Stat_t); stat.Uid != nobody || stat.Gid != nobody || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is of %d:%d, mode %v", stat.Uid, stat.Gid, info.Mode())
	}
	// A file of root's in that folder, by a link or by its name, is not for a child of the user's to write.
	secret := filepath.Join(base, "secret")
	must(t, errors.Join(os.WriteFile(secret, []byte("A=1\n"), 0o600), os.Remove(file.Path), os.Symlink(secret, file.Path)))
	if _, err := file.Set(t.Context()); err == nil {
		t.Error("a link to root's file: no error")
	}
	if content, _ := os.ReadFile(secret); string(content) != "A=1\n" {
		t.Errorf("root's file has become %q", content)
	}
	must(t, errors.Join(os.Remove(file.Path), os.WriteFile(file.Path, []byte("A=1\n"), 0o644)))
	if _, err := file.Set(t.Context()); err == nil || !strings.Contains(err.Error(), "belongs to uid 0") {
		t.Errorf("root's file in that folder: %v", err)
	}
	fixtures.As(t, nobody, func() {
		if _, err := (File{Path: file.Path, UID: 0}).Look(t.Context()); err == nil {
			t.Error("somebody else's file is looked at by whoever asks")
		}
	})
	// What its user has closed to itself is that user's to open.
	must(t, errors.Join(os.Remove(file.Path), os.Chmod(filepath.Dir(file.Path), 0o500)))
	if _, err := file.Set(t.Context()); err == nil || !strings.Contains(err.Error(), "may write nothing into "+filepath.Dir(file.Path)+" (chmod u+w)") {
		t.Errorf("a folder that cannot be written to: %v", err)
	}
	// As root itself it writes where only root can have it written.
	if _, err := (File{Path: file.Path, UID: 0}).Set(t.Context()); err == nil || !strings.Contains(err.Error(), "root writes nothing where others") {
		t.Errorf("root in another user's folder: %v", err)
	}
}

// TestConfigured: an OpenClaw's state is found whatever its launcher starts it through, which may say itself where that is.
func TestConfigured(t *testing.T) {
	folder := t.TempDir()
	entry, script, path := fixtures.OpenClaw(t), filepath.Join(folder, "start.sh"), filepath.Join(folder, "config.yaml")
	must(t, os.WriteFile(script, []byte("#!/bin/sh\nexport OPENCLAW_STATE_DIR=\"$HOME/bot\"\nexec node "+entry+" \"$@\"\n"), 0o755))
	unknown := map[string]string{
		"computed.sh":    "export OPENCLAW_STATE_DIR=\"$(realpath /srv/a)\"",
		"of a file.sh":   ". /etc/default/openclaw\nexport OPENCLAW_STATE_DIR=\"$DATA/openclaw\"",
		"unquoted.sh":    "export OPENCLAW_STATE_DIR=$(realpath /srv/a)",
		"backquotes.sh":  "OPENCLAW_STATE_DIR=`cat x`/a; export OPENCLAW_STATE_DIR",
		"in between.sh":  "export OPENCLAW_STATE_DIR=/srv/$(hostname)",
		"sourced.sh":     "set -a; . /etc/openclaw/a.env",
		"conditional.sh": "[ -d /srv/b ] && export OPENCLAW_STATE_DIR=/srv/b",
		"home.sh":        "export HOME=$(getent passwd bot | cut -d: -f6)",
		// What is said afterwards of another variable, or with it, changes nothing.
		"sourced and home.sh":  ". /etc/openclaw.env\nexport HOME=/home/x",
		"computed and home.sh": "export OPENCLAW_STATE_DIR=\"/srv/$(hostname)/state\"\nHOME=/home/x",
		"else.sh":              ". /etc/oc.env\nexport OPENCLAW_STATE_DIR=\"${OPENCLAW_STATE_DIR:-/srv/b}\"",
		"else of another.sh":   ". /etc/oc.env\nexport OPENCLAW_STATE_DIR=\"${DATA-/srv}/b\"",
		"of one computed.sh":   "DATA=$(hostname)\nDATA=${DATA}x; OPENCLAW_STATE_DIR=/srv/$DATA; export OPENCLAW_STATE_DIR",
		"branch.sh":            "if [ -d /mnt/state ]; then\n  export OPENCLAW_STATE_DIR=/mnt/state\nfi",
		"branch of a line.sh":  "if [ -d /mnt/state ]; then export OPENCLAW_STATE_DIR=/mnt/state; fi",
		"case.sh":              "case $(hostname) in\n  a) OPENCLAW_STATE_DIR=/srv/b;;\nesac\nexport OPENCLAW_STATE_DIR",
		"exported.sh":          "export $(grep -v '^#' /etc/oc.env | xargs)",
		"eval.sh":              "eval \"$(cat /etc/oc.env)\"",
		"tilde.sh":             ". /etc/oc.env\nOPENCLAW_STATE_DIR='~/b'\nHOME=$(x)",
	}
	known := map[string]string{
		"two.sh": "export OPENCLAW_STATE_DIR=/srv/a X=1", "nvm.sh": "source ~/.nvm/nvm.sh\nexport OPENCLAW_STATE_DIR=/srv/a",
		"last.sh":   ". /etc/x\nOPENCLAW_STATE_DIR=/srv/a\nexport OPENCLAW_STATE_DIR",
		"a line.sh": "export B=1; export OPENCLAW_STATE_DIR=/srv/a", "else.sh": "OPENCLAW_STATE_DIR=${OPENCLAW_STATE_DIR:-/srv/a}",
		"other.sh": "if true; then\n B=$(date)\nfi\nexport HOME=$(x)\nexport OPENCLAW_STATE_DIR=/srv/a", "of two.sh": "DATA=/srv\nOPENCLAW_STATE_DIR=$DATA/a",
	}
	for name, text := range unknown {
		must(t, os.WriteFile(filepath.Join(folder, name), []byte("#!/bin/sh\n"+text+"\nexec node "+entry+" \"$@\"\n"), 0o755))
		command := "  command: ['" + filepath.Join(folder, name) + "', gateway]\n"
		must(t, os.WriteFile(path, []byte("worker:\n"+command), 0o600))
		if file, err := Configured(t.Context(), path, os.Geteuid()); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %q, %v", text, file.Path, err)
		}
		must(t, os.WriteFile(path, []byte("worker:\n"+command+"  environment: [OPENCLAW_STATE_DIR=/srv/it]\n"), 0o600)) // as that error says
		if file, err := Configured(t.Context(), path, os.Geteuid()); err != nil || file.Path != "/srv/it/.env" {
			t.Errorf("%s, and named besides: %q, %v", text, file.Path, err)
		}
	}
	for name, text := range known {
		must(t, os.WriteFile(filepath.Join(folder, name), []byte("#!/bin/sh\n"+text+"\nexec node "+entry+" \"$@\"\n"), 0o755))
		must(t, os.WriteFile(path, []byte("worker:\n  command: ['"+filepath.Join(folder, name)+"', gateway]\n"), 0o600))
		if file, err := Configured(t.Context(), path, os.Geteuid()); err != nil || file.Path != "/srv/a/.env" {
			t.Errorf("%s: %q, %v", text, file.Path, err)
		}
	}
	for command, want := range map[string]string{
		"[node, " + entry + ", gateway]":                                         "/home/u/.openclaw/.env",
		"[nice, node, " + entry + ", --profile, p, gateway]":                     "/home/u/.openclaw-p/.env",
		"[sh, -c, OPENCLAW_STATE_DIR=/home/u/x exec node " + entry + " gateway]": "/home/u/x/.env",
		"[" + script + ", gateway]":                                              "/home/u/bot/.env",
		"[sh, -c, '. /etc/x; exec node " + entry + " gateway']":                  "",
		"[node, server.js]":                                                      "",
	} {
		must(t, os.WriteFile(path, []byte("worker:\n  command: "+command+"\n"), 0o600))
		if file, err := told((configured{path, os.Geteuid(), "/home/u"}).find()); file.Path != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", command, file.Path, err, want)
		}
	}
}

// TestTooLong: a file that OpenClaw would not read any more is left alone.
func TestTooLong(t *testing.T) {
	file := File{Path: filepath.Join(t.TempDir(), ".env"), UID: os.Geteuid()}
	for size, want := range map[int]string{limit - 10: "longer than OpenClaw reads", limit + 1: "bigger than 1 MiB"} {
		must(t, os.WriteFile(file.Path, []byte(strings.Repeat("#", size)), 0o600))
		if _, err := file.Set(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d bytes: %v", size, err)
		}
		if info, err := os.Stat(file.Path); err != nil || info.Size() != int64(size) {
			t.Errorf("it has %d bytes, %v", info.Size(), err)
		}
	}
}

func text(s string) *string { return &s }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
