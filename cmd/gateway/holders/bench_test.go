package holders

import (
	"net/netip"
	"syscall"
	"testing"

	"openclaw-gateway/test/sockets"
)

// manySockets opens 4,000 descriptors of this process, or fewer if its limit is lower: pairs of connections to one listener.
func manySockets(b *testing.B) (addr netip.AddrPort, inode uint64, pairs int) {
	b.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		b.Fatal(err)
	}
	pairs = min(2000, int(limit.Cur-100)/2)
	l, addr := listen(b, "tcp4", "127.0.0.1:0")
	for range pairs {
		sockets.Dial(b, addr)
		c, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
	}
	return addr, sockets.Inode(b, l), pairs
}

// The worst case: an inode that nobody has, so that every descriptor of every process is read.
func BenchmarkOpen(b *testing.B) {
	manySockets(b)
	for b.Loop() {
		if found, _, err := open(1); err != nil || len(found) != 0 {
			b.Fatal(found, err)
		}
	}
}

func BenchmarkInUse(b *testing.B) {
	addr, _, _ := manySockets(b)
	for b.Loop() {
		InUse(b.Context(), addr)
	}
}
