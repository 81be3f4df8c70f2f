package units

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"openclaw-gateway/units/instance"
)

const unitDir = "/etc/systemd/system"

func TestRoundTrip(t *testing.T) {
	root := t.TempDir()
	params := cases["system"]

	changes := plan(t, root, params)
	if got := kinds(changes); got != "create create" {
		t.Fatalf("the first plan is to %s", got)
	}
	if _, err := os.Stat(filepath.Join(root, "etc")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("planning has made a directory: %v", err)
	}
	for _, change := range changes {
		if diff := change.Diff(); !strings.HasPrefix(diff, "--- /dev/null\n+++ "+change.Path+"\n") {
			t.Errorf("diff of a new file begins with %.80q", diff)
		}
	}
	apply(t, root, changes)
	for _, change := range changes {
		info, err := os.Lstat(filepath.Join(root, change.Path))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o644 {
			t.Errorf("%s has mode %v", change.Path, info.Mode())
		}
		text, err := os.ReadFile(filepath.Join(root, change.Path))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(change.New), string(text)); diff != "" {
			t.Errorf("%s (-planned +written):\n%s", change.Path, diff)
		}
	}

	changes = plan(t, root, params)
	if got := kinds(changes); got != "unchanged unchanged" || changes[0].Diff() != "" {
		t.Errorf("the same units again: %s, diff %q", got, changes[0].Diff())
	}

	// Only the service depends on the stop timeout: the socket, and with it the clients' queue, is left alone.
	params.StopTimeout = 7 * time.Second
	changes = plan(t, root, params)
	if got := kinds(changes); got != "unchanged update" {
		t.Fatalf("another stop timeout: %s", got)
	}
	if diff := changes[1].Diff(); !strings.Contains(diff, "\n-TimeoutStopSec=330\n+TimeoutStopSec=10\n") {
		t.Errorf("the diff does not show the change:\n%s", diff)
	}
	before, err := os.Stat(filepath.Join(root, unitDir, instance.Default.Socket()))
	if err != nil {
		t.Fatal(err)
	}
	apply(t, root, changes)
	after, err := os.Stat(filepath.Join(root, unitDir, instance.Default.Socket()))
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("an unchanged file was written anew")
	}

	want := []string{unitDir + "/" + instance.Default.Socket(), unitDir + "/" + instance.Default.Service()}
	installed, err := Installed(root, unitDir, "")
	if err != nil || !cmp.Equal(installed, want) {
		t.Errorf("installed: %v, %v", installed, err)
	}
	removed, err := Remove(root, unitDir, "")
	if err != nil || !cmp.Equal(removed, want) {
		t.Errorf("removed: %v, %v", removed, err)
	}
	left, err := os.ReadDir(filepath.Join(root, unitDir))
	if err != nil || len(left) != 0 {
		t.Errorf("left after the removal: %v, %v", left, err)
	}
	if removed, err := Remove(root, unitDir, ""); err != nil || removed != nil {
		t.Errorf("removed again: %v, %v", removed, err)
	}
	if removed, err := Remove(root, "/no/such", ""); err != nil || removed != nil {
		t.Errorf("removed from no directory: %v, %v", removed, err)
	}
}

func TestChosen(t *testing.T) {
	for name, params := range cases {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if chosen, err := Chosen(root, unitDir, params.Name); chosen != (Choice{}) || err != nil {
				t.Errorf("before the installation: %+v, %v", chosen, err)
			}
			apply(t, root, plan(t, root, params))
			chosen, err := Chosen(root, unitDir, params.Name)
			if want := (Choice{params.Executable, params.RunAs, params.Config, params.Hardened}); chosen != want || err != nil {
				t.Errorf("%+v, %v; want %+v", chosen, err, want)
			}
		})
	}
}

func TestForeign(t *testing.T) {
	tests := map[string]struct {
		make func(path string) error
		want []string
	}{
		"OpenClaw's own unit": {
			func(path string) error {
				return os.WriteFile(path, []byte("[Unit]\nDescription=OpenClaw Gateway\n"), 0o644)
			},
			[]string{unitDir + "/" + instance.Default.Service(), "openclaw gateway uninstall"},
		},
		"empty file": {
			func(path string) error { return os.WriteFile(path, nil, 0o644) },
			[]string{unitDir + "/" + instance.Default.Service(), "move it away"},
		},
		"masked": {
			func(path string) error { return os.Symlink("/dev/null", path) },
			[]string{unitDir + "/" + instance.Default.Service(), "/dev/null", "unmask"},
		},
		"link to a unit of ours": {
			func(path string) error {
				elsewhere := filepath.Join(filepath.Dir(path), "elsewhere")
				if err := os.WriteFile(elsewhere, []byte(marker+"\n"), 0o644); err != nil {
					return err
				}
				return os.Symlink("elsewhere", path)
			},
			[]string{unitDir + "/" + instance.Default.Service(), "symbolic link"},
		},
		"directory": {
			func(path string) error { return os.Mkdir(path, 0o755) },
			[]string{unitDir + "/" + instance.Default.Service(), "not a regular file"},
		},
		"pipe": {
			func(path string) error { return unix.Mkfifo(path, 0o644) },
			[]string{unitDir + "/" + instance.Default.Service(), "not a regular file"},
		},
		"endless": {
			func(path string) error {
				if err := os.WriteFile(path, []byte(marker+"\n"), 0o644); err != nil {
					return err
				}
				return os.Truncate(path, 8<<40)
			},
			[]string{unitDir + "/" + instance.Default.Service(), "bigger than 1 MiB", "move it away"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			early := plan(t, root, cases["system"])
			if err := os.MkdirAll(filepath.Join(root, unitDir), 0o755); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(root, unitDir, instance.Default.Service())
			if err := test.make(path); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}

			files, err := Render(cases["system"])
			if err != nil {
				t.Fatal(err)
			}
			_, planErr := Plan(root, unitDir, files)
			_, removeErr := Remove(root, unitDir, "")
			_, chosenErr := Chosen(root, unitDir, "")
			for verb, err := range map[string]error{
				"plan":                        planErr,
				"apply a plan made before it": Apply(root, early[1:]),
				"remove":                      removeErr,
				"read what was chosen":        chosenErr,
			} {
				if !errors.Is(err, ErrForeign) {
					t.Errorf("%s: %v, want a refusal", verb, err)
					continue
				}
				for _, want := range test.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%s: %v, want it to name %q", verb, err, want)
					}
				}
			}
			after, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if !os.SameFile(before, after) || before.ModTime() != after.ModTime() {
				t.Error("the file was changed")
			}
		})
	}
}

func TestRemoveLeavesForeign(t *testing.T) {
	root := t.TempDir()
	apply(t, root, plan(t, root, cases["system"]))
	path := filepath.Join(root, unitDir, instance.Default.Service())
	if err := os.WriteFile(path, []byte("[Unit]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	removed, err := Remove(root, unitDir, "")
	if !errors.Is(err, ErrForeign) || !cmp.Equal(removed, []string{unitDir + "/" + instance.Default.Socket()}) {
		t.Errorf("removed %v, %v; want the socket alone and a refusal", removed, err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the foreign unit has gone: %v", err)
	}
}

func TestApplyRefusesLateEdit(t *testing.T) {
	root := t.TempDir()
	changes := plan(t, root, cases["system"])
	apply(t, root, changes)
	if err := Apply(root, changes); err == nil || !strings.Contains(err.Error(), "run the command again") {
		t.Errorf("a plan that has become untrue was applied: %v", err)
	}
}

func TestRootIsNotLeft(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	changes := plan(t, root, cases["system"])
	if err := os.Symlink(outside, filepath.Join(root, "etc")); err != nil {
		t.Fatal(err)
	}
	if err := Apply(root, changes); err == nil {
		t.Error("written through a link that leads out of the root")
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("outside the root: %v, %v", entries, err)
	}
}

// TestLinkedDirectory is the running system, where a home directory is often reached through a link.
func TestLinkedDirectory(t *testing.T) {
	base := t.TempDir()
	if err := os.Mkdir(filepath.Join(base, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(base, "data"), filepath.Join(base, "home")); err != nil {
		t.Fatal(err)
	}
	files, err := Render(cases["user"])
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, "home/systemd/user")
	changes, err := Plan("", dir, files)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, "", changes)
	if _, err := os.Stat(filepath.Join(base, "data/systemd/user", instance.Default.Socket())); err != nil {
		t.Error(err)
	}
}

func TestDir(t *testing.T) {
	t.Setenv("HOME", "/home/alice")
	tests := []struct {
		scope Scope
		xdg   string
		want  string
	}{
		{System, "/xdg", "/etc/systemd/system"},
		{User, "", "/home/alice/.config/systemd/user"},
		{User, "/xdg", "/xdg/systemd/user"},
		{User, "relative", ""},
		{"other", "", ""},
	}
	for _, test := range tests {
		t.Setenv("XDG_CONFIG_HOME", test.xdg)
		got, err := Dir(test.scope)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s scope, XDG_CONFIG_HOME=%q: %q, %v; want %q", test.scope, test.xdg, got, err, test.want)
		}
	}
}

func plan(t *testing.T, root string, params Params) []Change {
	t.Helper()
	files, err := Render(params)
	if err != nil {
		t.Fatal(err)
	}
	changes, err := Plan(root, unitDir, files)
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

func apply(t *testing.T, root string, changes []Change) {
	t.Helper()
	if err := Apply(root, changes); err != nil {
		t.Fatal(err)
	}
}

func kinds(changes []Change) string {
	var list []string
	for _, change := range changes {
		list = append(list, string(change.Kind))
	}
	return strings.Join(list, " ")
}
