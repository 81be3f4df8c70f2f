package listener_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"openclaw-gateway/listener"
	"openclaw-gateway/netaddr"
)

// idle is what the tests below take for long.
const idle = 400 * time.Millisecond

// idling waits until nobody is connected, and tells when it has returned.
func idling(t *testing.T, set listener.Set, own ...netaddr.Address) <-chan time.Time {
	t.Helper()
	returned := make(chan time.Time, 1)
	go func() {
		if err := set.AwaitIdle(t.Context(), idle, own); err != nil && t.Context().Err() == nil {
			t.Errorf("AwaitIdle returned %v", err)
		}
		returned <- time.Now()
	}()
	return returned
}

// wantIdle fails unless AwaitIdle returns, and not before idle has passed since.
func wantIdle(t *testing.T, returned <-chan time.Time, since time.Time) {
	t.Helper()
	select {
	case at := <-returned:
		if passed := at.Sub(since); passed < idle {
			t.Errorf("AwaitIdle returned after %s, %s is the least", passed, idle)
		}
	case <-time.After(bound):
		t.Fatalf("AwaitIdle has not returned within %s", bound)
	}
}

// wantBusy fails if AwaitIdle returns within a time that would be enough for it.
func wantBusy(t *testing.T, returned <-chan time.Time, why string) {
	t.Helper()
	select {
	case <-returned:
		t.Errorf("AwaitIdle returned, although %s", why)
	case <-time.After(3 * idle):
	}
}

func TestAwaitIdle(t *testing.T) {
	t.Parallel()
	start := time.Now()
	wantIdle(t, idling(t, listener.Set{listen(t, "127.0.0.1"), listen(t, "::1")}), start)
}

// TestAwaitIdleCountsFromTheLast: a client that says nothing is one, in the queue
// too, and the time is counted from its end.
func TestAwaitIdleCountsFromTheLast(t *testing.T) {
	t.Parallel()
	four, six := listen(t, "127.0.0.1"), listen(t, "::1")
	clients := map[*listener.Socket]net.Conn{four: dial(t, four), six: dial(t, six)}
	returned := idling(t, listener.Set{four, six})
	wantBusy(t, returned, "two clients are connected")
	answer(t, four, clients[four])
	clients[four].Close()
	wantBusy(t, returned, "a client waits on the other socket")
	since := time.Now()
	answer(t, six, clients[six])
	clients[six].Close()
	wantIdle(t, returned, since)
}

// TestAwaitIdleSeesShortVisits: clients that come and go, so that none of them is
// there when anybody looks.
func TestAwaitIdleSeesShortVisits(t *testing.T) {
	t.Parallel()
	socket := listen(t, "127.0.0.1")
	returned := idling(t, listener.Set{socket})
	// Each ended between two moments.
	type visit struct{ after, before time.Time }
	visits := []visit{{time.Now(), time.Now()}}
	// Between two of them there may be more time than was meant, on a slow machine.
	check := func(at time.Time) {
		t.Helper()
		for _, visit := range visits {
			// Not before it came: on a slow machine the time may just have been up.
			if passed := at.Sub(visit.after); at.After(visit.before) && passed < idle {
				t.Fatalf("AwaitIdle returned %s after a visit", passed)
			}
		}
	}
	for end := time.Now().Add(4 * idle); time.Now().Before(end); time.Sleep(idle / 4) {
		client := dial(t, socket)
		answer(t, socket, client)
		after := time.Now()
		client.Close()
		visits = append(visits, visit{after, time.Now()})
		select {
		case at := <-returned:
			check(at)
			returned = idling(t, listener.Set{socket})
		default:
		}
	}
	select {
	case at := <-returned:
		check(at)
	case <-time.After(bound):
		t.Fatalf("AwaitIdle has not returned within %s", bound)
	}
}

// TestAwaitIdleIgnoresOwn: a worker that never closes the connection of a probe
// is idle all the same.
func TestAwaitIdleIgnoresOwn(t *testing.T) {
	t.Parallel()
	socket := listen(t, "127.0.0.1")
	probe := dial(t, socket) // stays in the queue
	own := netaddr.Of(probe.LocalAddr())
	probe.Close()
	wantBusy(t, idling(t, listener.Set{socket}), "a connection waits that is not known to be one's own")
	start := time.Now()
	wantIdle(t, idling(t, listener.Set{socket}, own), start)
}

func TestAwaitIdleIsCancelled(t *testing.T) {
	t.Parallel()
	socket := listen(t, "127.0.0.1")
	for _, connected := range []bool{false, true} {
		if connected {
			dial(t, socket)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		// With a client it has found that out by then, perhaps.
		go func() { done <- listener.Set{socket}.AwaitIdle(ctx, time.Hour, nil) }()
		cancel()
		if err := returned(t, done); !errors.Is(err, context.Canceled) {
			t.Errorf("AwaitIdle returned %v", err)
		}
	}
}

func TestAwaitIdleFails(t *testing.T) {
	t.Parallel()
	socket := *listen(t, "127.0.0.1")
	socket.Inode++ // as one of another network namespace looks
	if err := (listener.Set{&socket}).AwaitIdle(t.Context(), time.Hour, nil); err == nil {
		t.Error("AwaitIdle succeeded where nothing can be seen")
	}
}
