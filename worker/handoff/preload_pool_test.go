package handoff

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPooled: many addresses share what there is, and too many are told, with a number.
func TestPooled(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Max < 4*mostPooled {
		t.Fatalf("the limit of descriptors is %d here", limit.Max)
	}
	for sockets, want := range map[int]int{0: poolSize, 1: poolSize, 2: poolSize, 8: poolSize, 9: 56, 64: 8} {
		if size, err := pooled(sockets); err != nil || size != want {
			t.Errorf("%d duplicates for each of %d sockets, %v, want %d", size, sockets, err, want)
		}
	}
	if _, err := pooled(1000); err == nil || !strings.Contains(err.Error(), "LimitNOFILE=4000 is the least") {
		t.Errorf("%v", err)
	}
}
