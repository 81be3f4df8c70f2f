package systemd

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestUserNames: a user can have thousands of uids, of which none has a name. A directory service that needs a while for each
// is not asked for all of them.
func TestUserNames(t *testing.T) {
	folder := t.TempDir()
	asked := filepath.Join(folder, "asked")
	// With an exit status as of one who is not found (getent(1)).
	if err := os.WriteFile(filepath.Join(folder, "getent"), []byte("#!/bin/sh\necho \"$3\" >>"+asked+"\nsleep 0.4\nexit 2\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", folder+":"+os.Getenv("PATH"))
	strangers.Store(0)
	for uid := 3_000_000; uid < 3_005_000; uid++ {
		if name := UserName(uid); name != strconv.Itoa(uid) {
			t.Fatalf("%d is %s", uid, name)
		}
	}
	if name := UserName(0); name != "root" {
		t.Errorf("0 is %s", name)
	}
	said, err := os.ReadFile(asked)
	if err != nil {
		t.Fatal(err)
	}
	// 0.4 s each are more than strangersLimit after the third.
	if uids := strings.Fields(string(said)); len(uids) < 1 || len(uids) > 3 || uids[0] != "3000000" {
		t.Errorf("asked for %d of 5000: %.100q", len(uids), uids)
	}
}
