package units

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestSystemctl(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\necho \"$@\" >>" + dir + "/calls\necho 'Failed: no such thing.' >&2\ncase \"$*\" in *bad*) exit 3;; esac\n"
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))

	if err := Systemctl(t.Context(), System, "daemon-reload"); err != nil {
		t.Errorf("what is said beside success is no error: %v", err)
	}
	err := Systemctl(t.Context(), User, "start", "bad.socket")
	exit, isExit := errors.AsType[*exec.ExitError](err)
	if !isExit || exit.ExitCode() != 3 {
		t.Errorf("%v does not hold the exit code 3", err)
	}
	for _, want := range []string{"systemctl --user start bad.socket", "Failed: no such thing"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if err != nil && !strings.HasSuffix(err.Error(), "Failed: no such thing") {
		t.Errorf("%v: a sentence cannot go on behind it", err)
	}
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	if want := "daemon-reload\n--user start bad.socket\n"; err != nil || string(calls) != want {
		t.Errorf("calls %q, %v; want %q", calls, err, want)
	}

	t.Setenv("PATH", t.TempDir())
	if err := Systemctl(t.Context(), System, "daemon-reload"); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("without systemctl: %v", err)
	}
}
