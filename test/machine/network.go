package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"

	"openclaw-gateway/netaddr"

	"golang.org/x/sys/unix"
)

// InNet calls f in the machine's network namespace, on a thread of its own: a socket that f makes belongs to the machine for
// good. f must not start goroutines that make sockets; those would be the host's.
func (m *Machine) InNet(f func() error) error {
	done := make(chan error)
	go func() {
		// A goroutine that ends locked takes its thread along: so none that is still in the machine is used again.
		runtime.LockOSThread()
		host, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		defer host.Close()
		if err := unix.Setns(int(m.netns.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("enter the machine's network: %w", err)
			return
		}
		err = f()
		if back := unix.Setns(int(host.Fd()), unix.CLONE_NEWNET); back != nil {
			done <- errors.Join(err, fmt.Errorf("leave the machine's network: %w", back))
			return
		}
		runtime.UnlockOSThread()
		done <- err
	}()
	return <-done
}

// DialContext connects, like net.Dialer's, from inside the machine. The address's host must be an IP address: looking up a
// name would happen on other threads, on the host.
func (m *Machine) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if _, err := netaddr.Parse(address); err != nil {
		return nil, fmt.Errorf("dial %s in the machine: %w", address, err)
	}
	var conn net.Conn
	err := m.InNet(func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// HTTP is a client in the machine that opens a connection for each request, as a client that has just started does.
func (m *Machine) HTTP() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: m.DialContext, DisableKeepAlives: true}}
}
