package sockdiag

import (
	"net"
	"net/netip"
	"syscall"
	"testing"
)

func listen(t testing.TB, network, address string) (*net.TCPListener, netip.AddrPort) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	return l.(*net.TCPListener), netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
}

// inodeOf is the inode by another way than that of the package: fstat(2).
func inodeOf(t testing.TB, conn syscall.Conn) uint64 {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var stat syscall.Stat_t
	var statErr error
	if err := raw.Control(func(fd uintptr) { statErr = syscall.Fstat(int(fd), &stat) }); err != nil {
		t.Fatal(err)
	}
	if statErr != nil {
		t.Fatal(statErr)
	}
	return stat.Ino
}
