package listener_test

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/listener"
	"openclaw-gateway/test/sockets"
)

func TestAwaitClient(t *testing.T) {
	t.Parallel()
	four, six := listen(t, "127.0.0.1"), listen(t, "::1")
	set := listener.Set{four, six}
	for _, socket := range set {
		for _, first := range []bool{true, false} {
			var client net.Conn
			var done <-chan error
			if first {
				client = dial(t, socket)
				done = awaiting(t.Context(), set)
			} else {
				done = awaiting(t.Context(), set)
				client = dial(t, socket)
			}
			if err := returned(t, done); err != nil {
				t.Fatal(err)
			}
			if queued, err := set.Queued(); err != nil || queued != 1 {
				t.Errorf("%d clients are queued, not 1: %v", queued, err)
			}
			if !sockets.Blocking(t, four.File) || !sockets.Blocking(t, six.File) {
				t.Error("the sockets are not blocking any more")
			}
			answer(t, socket, client)
		}
	}
}

func TestAwaitClientIsCancelled(t *testing.T) {
	t.Parallel()
	set := listener.Set{listen(t, "127.0.0.1")}
	ctx, cancel := context.WithCancel(t.Context())
	done := awaiting(ctx, set)
	select {
	case err := <-done:
		t.Fatalf("AwaitClient returned %v without a client", err)
	default:
	}
	cancel()
	if err := returned(t, done); !errors.Is(err, context.Canceled) {
		t.Errorf("AwaitClient returned %v", err)
	}
	// Already cancelled, and without sockets.
	if err := returned(t, awaiting(ctx, set)); !errors.Is(err, context.Canceled) {
		t.Errorf("AwaitClient returned %v", err)
	}
	if err := returned(t, awaiting(ctx, nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("AwaitClient without sockets returned %v", err)
	}
	expired, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if err := returned(t, awaiting(expired, set)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("AwaitClient returned %v", err)
	}
}

func TestAwaitClientMendsAShutdown(t *testing.T) {
	t.Parallel()
	four, six := listen(t, "127.0.0.1"), listen(t, "::1")
	for _, shutFirst := range []bool{true, false} {
		ctx, cancel := context.WithCancel(t.Context())
		if shutFirst {
			shutdown(t, six)
		}
		done := awaiting(ctx, listener.Set{four, six})
		if !shutFirst {
			sockets.Control(t, six.File, func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RDWR) })
		}
		client := dialMended(t, six)
		if err := returned(t, done); err != nil {
			t.Fatal(err)
		}
		answer(t, six, client)
		if got := sockets.Inode(t, six.File); got != six.Inode {
			t.Errorf("the inode is %d, not %d", got, six.Inode)
		}
		if !sockets.Blocking(t, six.File) {
			t.Error("the socket is not blocking any more")
		}
		cancel()
	}
}

// dialMended connects as soon as clients are not refused any more.
func dialMended(t *testing.T, socket *listener.Socket) net.Conn {
	t.Helper()
	for deadline := time.Now().Add(bound); time.Now().Before(deadline); {
		conn, err := net.Dial("tcp", socket.Address.String())
		if errors.Is(err, unix.ECONNREFUSED) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	t.Fatalf("clients are still refused after %s", bound)
	return nil
}

// Not parallel: it counts what the whole process has.
func TestAwaitClientLeaksNothing(t *testing.T) {
	socket := listen(t, "127.0.0.1")
	set := listener.Set{socket}
	round := func() {
		ctx, cancel := context.WithCancel(t.Context())
		done := awaiting(ctx, set)
		cancel()
		if err := returned(t, done); !errors.Is(err, context.Canceled) {
			t.Fatalf("AwaitClient returned %v", err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
		client := dial(t, socket)
		if err := set.AwaitClient(ctx); err != nil {
			t.Fatal(err)
		}
		answer(t, socket, client)
		if err := client.Close(); err != nil {
			t.Fatal(err)
		}
	}
	round() // what Go makes once
	goroutines, descriptors := runtime.NumGoroutine(), openDescriptors(t)
	for range 100 {
		round()
	}
	if got := openDescriptors(t); got != descriptors {
		t.Errorf("%d descriptors are open, not %d", got, descriptors)
	}
	// A goroutine that has done all may still have to be taken away.
	for deadline := time.Now().Add(bound); runtime.NumGoroutine() > goroutines; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines run, not %d", runtime.NumGoroutine(), goroutines)
		}
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
