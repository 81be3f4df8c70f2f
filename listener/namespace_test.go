package listener_test

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"openclaw-gateway/listener"
	"openclaw-gateway/netaddr"
)

// TestElsewhere: a socket knows when whoever asks is in another network namespace.
func TestElsewhere(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, for a network namespace of its own: make test")
	}
	socket, err := listener.Bind(netaddr.MustParse("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.File.Close()
	if elsewhere, err := socket.Elsewhere(); err != nil || elsewhere {
		t.Errorf("in its own namespace: %v, %v", elsewhere, err)
	}
	type answer struct {
		elsewhere bool
		err       error
	}
	answers := make(chan answer)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			answers <- answer{false, err}
			return
		}
		elsewhere, err := socket.Elsewhere()
		answers <- answer{elsewhere, err}
	}()
	if a := <-answers; a.err != nil || !a.elsewhere {
		t.Errorf("in another namespace: %v, %v", a.elsewhere, a.err)
	}
}
