package systemd

import (
	"strconv"
	"testing"
	"time"
)

// TestUserNames: a user can have thousands of uids, of which none has a name.
func TestUserNames(t *testing.T) {
	start := time.Now()
	for uid := 3_000_000; uid < 3_005_000; uid++ {
		if name := UserName(uid); name != strconv.Itoa(uid) {
			t.Fatalf("%d is %s", uid, name)
		}
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if name := UserName(0); name != "root" {
		t.Errorf("0 is %s", name)
	}
}
