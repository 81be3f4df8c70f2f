package notify

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/passed"
)

// TestResume: what is said while the socket is passed on is heard by the next program, once and in its order; by this one if it stays.
func TestResume(t *testing.T) {
	t.Parallel()
	socket, err := New(t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unixgram", socket.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	say := func(text string) {
		t.Helper()
		if _, err := conn.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	watch := func(s *Socket) <-chan string {
		heard := make(chan string, 10)
		go s.Watch(func(pid int) bool { return pid == os.Getpid() }, func(_ int, line string) { heard <- line })
		return heard
	}
	hears := func(heard <-chan string, want string) {
		t.Helper()
		select {
		case line := <-heard:
			if line != want {
				t.Fatalf("heard %q, want %q", line, want)
			}
		case <-time.After(bound):
			t.Fatalf("%q is not heard", want)
		}
	}
	heard := watch(socket)
	say("one")
	hears(heard, "one")
	for range 2 { // it stays
		resume, err := socket.Suspend(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		say("two")
		if len(heard) > 0 {
			t.Errorf("it hears %q although it stands still", <-heard)
		}
		resume()
		hears(heard, "two")
	}
	if _, err := socket.Suspend(t.Context()); err != nil {
		t.Fatal(err)
	}
	say("three")
	saved, err := socket.Save(new(passed.Files))
	if err == nil {
		saved.FD, err = unix.Dup(saved.FD) // which is not closed with the program, as one that was passed
	}
	if err != nil {
		t.Fatal(err)
	}
	next, err := Resume(saved)
	if err != nil {
		t.Fatal(err)
	}
	say("four")
	again := watch(next)
	hears(again, "three")
	hears(again, "four")
	next.Flush()
	if err := next.Close(); err != nil {
		t.Error(err)
	}
	<-next.ended
	if _, err := os.Stat(next.Path); !os.IsNotExist(err) {
		t.Errorf("the socket's file is left: %v", err)
	}
	if _, err := Resume(Saved{Path: socket.Path, FD: 1 << 20}); err == nil {
		t.Error("a number that is none is taken")
	}
	_ = socket.conn.Close()
}

// TestSuspendInVain: one that cannot be read on does not stand still, and goes on when nobody waits any more.
func TestSuspendInVain(t *testing.T) {
	t.Parallel()
	socket, err := New(t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unixgram", socket.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in, out := make(chan struct{}, 2), make(chan struct{})
	go socket.Watch(func(int) bool { return true }, func(int, string) {
		in <- struct{}{}
		<-out
	})
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	<-in // somebody takes what was said, and is not through with it
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := socket.Suspend(ctx); err == nil {
		t.Error("it stands still in the midst of a message")
	}
	close(out)
	if _, err := conn.Write([]byte("y")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-in:
	case <-time.After(bound):
		t.Error("it does not go on")
	}
	if err := socket.Close(); err != nil {
		t.Error(err)
	}
	<-socket.ended
}
