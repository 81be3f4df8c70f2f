package sockdiag

import (
	"net/netip"
	"syscall"
	"testing"
)

// sockets opens 4,000 descriptors of this process, or fewer if its limit is lower: pairs of connections to one listener.
func sockets(b *testing.B) (addr netip.AddrPort, inode uint64, pairs int) {
	b.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		b.Fatal(err)
	}
	pairs = min(2000, int(limit.Cur-100)/2)
	l, addr := listen(b, "tcp4", "127.0.0.1:0")
	for range pairs {
		dial(b, addr)
		c, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
	}
	return addr, inodeOf(b, l), pairs
}

func BenchmarkListening(b *testing.B) {
	addr, _, _ := sockets(b)
	for b.Loop() {
		if found, err := Listening(addr); err != nil || len(found) != 1 {
			b.Fatal(found, err)
		}
	}
}

func BenchmarkConnections(b *testing.B) {
	addr, _, pairs := sockets(b)
	b.ReportMetric(float64(pairs), "connections")
	for b.Loop() {
		if n, err := Connections(addr); err != nil || n != pairs {
			b.Fatal(n, err)
		}
	}
}
