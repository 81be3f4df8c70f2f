package sockdiag

import (
	"os"
	"os/exec"
	"testing"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/sockets"
)

// TestAnyAccepted: a connection in the queue, one of another address, and one of another process are none.
func TestAnyAccepted(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		server, address := sockets.Server(t, "tcp", at)
		_, other := sockets.Server(t, "tcp", at)
		child := exec.Command("sleep", "100")
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = child.Process.Kill(), child.Wait() })
		check := func(when string, want bool, of netaddr.Address, pids ...int) {
			t.Helper()
			if got, err := AnyAccepted(t.Context(), []netaddr.Address{of}, pids...); err != nil || got != want {
				t.Errorf("%s, %s: %t, %v; want %t", at, when, got, err, want)
			}
		}
		sockets.Dial(t, address)
		check("in the queue", false, address, os.Getpid())
		conn, err := server.Accept()
		if err != nil {
			t.Fatal(err)
		}
		check("accepted", true, address, child.Process.Pid, os.Getpid())
		check("of another process", false, address, child.Process.Pid)
		check("of another address", false, other, os.Getpid())
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		check("closed", false, address, os.Getpid())
	}
}
