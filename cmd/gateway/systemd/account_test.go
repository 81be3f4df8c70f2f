package systemd

import (
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// TestUserNames: a user can have thousands of uids, of which none has a name.
func TestUserNames(t *testing.T) {
	start := time.Now()
	if err := exec.Command("getent", "passwd", "3000000").Run(); err == nil {
		t.Fatal("there is a user 3000000")
	}
	one := time.Since(start)
	start = time.Now()
	for uid := 3_000_000; uid < 3_005_000; uid++ {
		if name := UserName(uid); name != strconv.Itoa(uid) {
			t.Fatalf("%d is %s", uid, name)
		}
	}
	if took := time.Since(start); took > 1000*one {
		t.Errorf("5000 took %v, as if each were asked for by itself: that takes %v", took, one)
	}
	if name := UserName(0); name != "root" {
		t.Errorf("0 is %s", name)
	}
}
