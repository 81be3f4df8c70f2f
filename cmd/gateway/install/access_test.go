package install

import (
	"bytes"
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNoteAccess(t *testing.T) {
	// Nobody has this uid, nor these groups.
	account := &user.User{Uid: "4000000001", Gid: "4000000001", Username: "alice"}
	tests := map[string]struct {
		dir, file os.FileMode
		blame     string // what the note names, below the directory of the test
	}{
		"open":              {0o755, 0o644, ""},
		"the owner's file":  {0o755, 0o600, "closed/config.yaml"},
		"a closed way":      {0o700, 0o644, "closed"},
		"a way without x":   {0o744, 0o644, "closed"},
		"for a group alone": {0o755, 0o640, "closed/config.yaml"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			path := filepath.Join(base, "closed/config.yaml")
			if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			// The testing package makes the directory above for its owner alone.
			if err := errors.Join(os.Chmod(path, test.file), os.Chmod(filepath.Dir(path), test.dir), os.Chmod(filepath.Dir(base), 0o755)); err != nil {
				t.Fatal(err)
			}
			var notes bytes.Buffer
			in := &Installer{Advice: &notes}
			in.noteAccess(account, path, unix.R_OK, "read the configuration")
			want := ""
			if test.blame != "" {
				want = "the user alice cannot read the configuration: change the owner or the mode of " + filepath.Join(base, test.blame) + "\n"
			}
			if notes.String() != want {
				t.Errorf("notes %q, want %q", notes.String(), want)
			}
		})
	}
}
