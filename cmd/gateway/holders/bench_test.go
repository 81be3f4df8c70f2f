package holders

import (
	"testing"

	"openclaw-gateway/test/sockets"
)

// The worst case: an inode that nobody has, so that every descriptor of every process is read.
func BenchmarkOpen(b *testing.B) {
	sockets.Crowd(b)
	for b.Loop() {
		if found, _, err := open(b.Context(), []uint64{1}); err != nil || len(found) != 0 {
			b.Fatal(found, err)
		}
	}
}

func BenchmarkInUse(b *testing.B) {
	addr, _ := sockets.Crowd(b)
	for b.Loop() {
		InUse(b.Context(), addr)
	}
}
