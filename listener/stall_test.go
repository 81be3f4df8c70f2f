package listener_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/listener"
	"openclaw-gateway/netaddr"
)

// stallLimit is what the tests below take for too long.
const stallLimit = 300 * time.Millisecond

// stall is what AwaitStall has returned.
type stall struct {
	address netaddr.Address
	since   time.Time
	err     error
}

func stalling(t *testing.T, set listener.Set) <-chan stall {
	t.Helper()
	returned := make(chan stall, 1)
	go func() {
		var s stall
		s.address, s.since, s.err = set.AwaitStall(t.Context(), stallLimit)
		returned <- s
	}()
	return returned
}

func wantStall(t *testing.T, returned <-chan stall, address netaddr.Address, connected time.Time) {
	t.Helper()
	select {
	case s := <-returned:
		// A jiffy is at most 10 ms; and on a busy machine time passes between the kernel's word and a look at the clock.
		waited, early := time.Since(s.since), connected.Sub(s.since)
		if s.err != nil || s.address != address || waited < stallLimit || early > stallLimit {
			t.Errorf("AwaitStall returned %s, which waits for %s and %s before it was dialled (%v), want %s", s.address, waited, early, s.err, address)
		}
	case <-time.After(bound):
		t.Fatalf("AwaitStall has not returned within %s", bound)
	}
}

func wantNoStall(t *testing.T, returned <-chan stall, why string) {
	t.Helper()
	select {
	case s := <-returned:
		t.Errorf("AwaitStall returned %+v, although %s", s, why)
	case <-time.After(2 * stallLimit):
	}
}

// TestAwaitStall: one that came just after the edge is told of as exactly as the first, whichever socket it is on, and
// also one that was there before.
func TestAwaitStall(t *testing.T) {
	t.Parallel()
	four, six := listen(t, "127.0.0.1"), listen(t, "::1")
	returned := stalling(t, listener.Set{four, six})
	wantNoStall(t, returned, "nobody has come")
	dial(t, four)
	accept(t, four)
	before := time.Now()
	dial(t, six)
	wantStall(t, returned, six.Address, before)
	wantStall(t, stalling(t, listener.Set{four, six}), six.Address, before)
}

// accept takes the client from the queue, as a worker does, and has done with it.
func accept(t *testing.T, socket *listener.Socket) {
	t.Helper()
	fd, _, err := socket.Accept()
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
}

// TestAwaitStallOfServed: clients that are accepted in time, one after the other.
func TestAwaitStallOfServed(t *testing.T) {
	t.Parallel()
	socket := listen(t, "127.0.0.1")
	returned := stalling(t, listener.Set{socket})
	late := false // one was not accepted at once, on a busy machine
	for end := time.Now().Add(3 * stallLimit); time.Now().Before(end); {
		came := time.Now()
		client := dial(t, socket)
		accept(t, socket)
		client.Close()
		late = late || time.Since(came) >= stallLimit
		select {
		case s := <-returned:
			if !late {
				t.Fatalf("AwaitStall returned %+v, although each client was accepted at once", s)
			}
			returned, late = stalling(t, listener.Set{socket}), false
		default:
		}
	}
	before := time.Now()
	dial(t, socket)
	wantStall(t, returned, socket.Address, before)
}

// TestAwaitStallOfReset: a client that was reset stands in the queue, and waits no more; half-closed ones do wait.
func TestAwaitStallOfReset(t *testing.T) {
	t.Parallel()
	socket := listen(t, "127.0.0.1")
	returned := stalling(t, listener.Set{socket})
	gone := dial(t, socket).(*net.TCPConn)
	if err := errors.Join(gone.SetLinger(0), gone.Close()); err != nil {
		t.Fatal(err)
	}
	if queued, _, err := socket.Queue(); queued != 1 || err != nil {
		t.Fatalf("%d clients wait (%v), want the one that was reset", queued, err)
	}
	wantNoStall(t, returned, "the client has gone")
	before := time.Now()
	if err := dial(t, socket).(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	wantStall(t, returned, socket.Address, before)
}

func TestAwaitRelief(t *testing.T) {
	t.Parallel()
	socket := listen(t, "127.0.0.1")
	set := listener.Set{socket}
	before := time.Now()
	dial(t, socket)
	wantStall(t, stalling(t, set), socket.Address, before)
	relieved := make(chan error, 1)
	go func() { relieved <- set.AwaitRelief(t.Context(), stallLimit) }()
	select {
	case err := <-relieved:
		t.Errorf("AwaitRelief returned %v, although nobody was accepted", err)
	case <-time.After(1500 * time.Millisecond): // it looks each second
	}
	accept(t, socket)
	select {
	case err := <-relieved:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(bound):
		t.Fatalf("AwaitRelief has not returned within %s", bound)
	}
}
