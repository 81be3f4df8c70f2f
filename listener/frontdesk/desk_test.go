package frontdesk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/listener"
)

func TestTheModeStays(t *testing.T) {
	t.Parallel()
	for _, nonblocking := range []bool{false, true} {
		sockets := listener.Set{listen(t, "127.0.0.1"), listen(t, "::1")}
		for _, socket := range sockets {
			control(t, socket.File, func(fd int) error { return unix.SetNonblock(fd, nonblocking) })
		}
		desk := openDesk(t, defaults, sockets...)
		for _, socket := range sockets {
			refused(t, dial(t, socket), get)
		}
		check := func(when string) {
			t.Helper()
			for _, socket := range sockets {
				if blocking(t, socket.File) == nonblocking {
					t.Errorf("%s the mode of %s has changed", when, socket.Address)
				}
			}
		}
		check("with the desk open")
		desk.Close()
		check("with the desk closed")
	}
}

// A socket that is never without a client does not keep the other from its turn.
func TestSocketsTakeTurns(t *testing.T) {
	t.Parallel()
	sockets := listener.Set{listen(t, "127.0.0.1"), listen(t, "::1")}
	var clients []net.Conn
	for range 10 {
		clients = append(clients, dial(t, sockets[0]))
	}
	last := dial(t, sockets[1])
	queued(t, 11, sockets...)
	limits := defaults
	limits.connections = 2
	openDesk(t, limits, sockets...)
	refused(t, last, get)
	for _, client := range clients {
		refused(t, client, get)
	}
}

func TestAShutdownSocketListensAgain(t *testing.T) {
	t.Parallel()
	for _, before := range []bool{true, false} {
		sockets := listener.Set{listen(t, "127.0.0.1"), listen(t, "::1")}
		shutdown := func() {
			control(t, sockets[1].File, func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RDWR) })
		}
		if before {
			shutdown()
		}
		openDesk(t, defaults, sockets...)
		if !before {
			refused(t, dial(t, sockets[1]), get)
			shutdown()
		}
		var client net.Conn
		await(t, "clients are not refused", func() (bool, string) {
			var err error
			client, err = connect(sockets[1])
			return err == nil, fmt.Sprint(err)
		})
		refused(t, client, get)
		refused(t, dial(t, sockets[0]), get)
	}
}

// What the desk may not do even where somebody else takes the client first: wait
// in accept4(2), which nothing can end.
func TestAcceptDoesNotBlock(t *testing.T) {
	t.Parallel()
	socket := listen(t, "127.0.0.1")
	within(t, "accept without a client", func() {
		if fd, _, err := socket.Accept(); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("accept returned %d, %v", fd, err)
		}
	})
	control(t, socket.File, func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RDWR) })
	if fd, _, err := socket.Accept(); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("accept after a shutdown returned %d, %v", fd, err)
	}
}

func TestSilentClients(t *testing.T) {
	t.Parallel()
	sockets := listener.Set{listen(t, "127.0.0.1"), listen(t, "::1")}
	desk := openDesk(t, defaults, sockets...)
	// Half a request is as bad as none. net/http ends it with a 400.
	half := func(i int) bool { return i%3 == 0 }
	var silent []net.Conn
	begin := time.Now()
	for i := range 1000 {
		client := dial(t, sockets[i%2])
		if half(i) {
			if _, err := io.WriteString(client, "GET / HTTP/1.1\r\nHo"); err != nil {
				t.Fatal(err)
			}
		}
		silent = append(silent, client)
	}
	for _, socket := range sockets {
		refused(t, dial(t, socket), get)
	}
	if took := time.Since(begin); took > defaults.header {
		t.Logf("connecting took %s: the others were answered when the first silent ones had gone", took)
	}
	for i, client := range silent {
		if got, err := io.ReadAll(client); err != nil || len(got) > 0 && !half(i) {
			t.Fatalf("silent client %d got %q, %v", i, got, err)
		}
	}
	talking(t, desk, 0)
}

func TestNoMoreConnectionsThanPlaces(t *testing.T) {
	t.Parallel()
	socket := listen(t, "127.0.0.1")
	limits := defaults
	limits.connections, limits.header = 4, time.Hour
	desk := openDesk(t, limits, socket)
	var silent []net.Conn
	for range 4 {
		silent = append(silent, dial(t, socket))
	}
	talking(t, desk, 4)
	client := dial(t, socket)
	queued(t, 1, socket)
	if err := silent[0].Close(); err != nil {
		t.Fatal(err)
	}
	refused(t, client, get)

	talking(t, desk, 3)
	silent = append(silent, dial(t, socket))
	talking(t, desk, 4)
	within(t, "closing a full desk", desk.Close)
	for _, client := range silent[1:] {
		refused(t, client, get)
	}
}

func TestCloseLeavesClientsToTheWorker(t *testing.T) {
	t.Parallel()
	sockets := listener.Set{listen(t, "127.0.0.1"), listen(t, "::1")}
	for i := range 100 {
		desk := openDesk(t, defaults, sockets...)
		if i%2 == 0 {
			refused(t, dial(t, sockets[0]), get)
		}
		desk.Close()
		select {
		case <-desk.served:
		default:
			t.Fatal("Close returned while the desk may still accept")
		}
		desk.Close()
		client := dial(t, sockets[i%2])
		if _, err := io.WriteString(client, get); err != nil {
			t.Fatal(err)
		}
		queued(t, 1, sockets...)
		if err := work(sockets[i%2]); err != nil {
			t.Fatal(err)
		}
		if response, _, err := receive(client, get); err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("the worker's answer was %v, %v", response, err)
		}
	}
}

func TestCloseLeavesNobodyWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	socket := listen(t, "127.0.0.1")
	limits := defaults
	limits.header, limits.request = time.Hour, time.Hour // nobody is cut off, however long it takes here
	desk := openDesk(t, limits, socket)
	early, late := dial(t, socket), dial(t, socket)
	if _, err := io.WriteString(early, get[:10]); err != nil {
		t.Fatal(err)
	}
	talking(t, desk, 2)
	within(t, "closing, which waits for no client", desk.Close)
	refused(t, early, get[10:])
	refused(t, late, get)
}

// TestCloseCutsOffTheSilent: a client that the desk has when it closes is cut off at its time all the same.
func TestCloseCutsOffTheSilent(t *testing.T) {
	t.Parallel()
	socket := listen(t, "127.0.0.1")
	desk := openDesk(t, defaults, socket)
	silent := dial(t, socket)
	queued(t, 0, socket)
	desk.Close()
	if got, err := io.ReadAll(silent); err != nil || len(got) > 0 {
		t.Errorf("the silent client got %q, %v", got, err)
	}
	talking(t, desk, 0)
}

// TestDrain: who ends the process waits for those who were accepted, and not for
// ever.
func TestDrain(t *testing.T) {
	t.Parallel()
	socket := listen(t, "127.0.0.1")
	desk := openDesk(t, defaults, socket)
	late, silent := dial(t, socket), dial(t, socket)
	talking(t, desk, 2)
	desk.Close()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		desk.Drain(t.Context())
	}()
	refused(t, late, get)
	select {
	case <-drained:
		t.Error("a client that was accepted is still there")
	default:
	}
	silent.Close()
	select {
	case <-drained:
	case <-time.After(bound):
		t.Errorf("not drained within %s, though nobody is there", bound)
	}

	desk = openDesk(t, defaults, socket)
	defer dial(t, socket).Close()
	talking(t, desk, 1)
	desk.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	desk.Drain(ctx)
}

// Clients come all the time, the desk opens and closes, and between two desks
// the worker answers.
func TestNobodyIsLost(t *testing.T) {
	t.Parallel()
	sockets := listener.Set{listen(t, "127.0.0.1"), listen(t, "::1")}
	var stop atomic.Bool
	var unavailable, ok atomic.Int64
	var lost sync.Map
	var clients sync.WaitGroup
	for i := range 6 {
		clients.Go(func() {
			for !stop.Load() {
				if err := visit(sockets[i%2], &unavailable, &ok); err != nil {
					lost.Store(err.Error(), true)
					return
				}
			}
		})
	}
	answered := make(chan struct{}, 1)
	notice := func() Notice {
		select {
		case answered <- struct{}{}:
		default:
		}
		return failed
	}
	lostOnes := func() (list []string) {
		lost.Range(func(key, _ any) bool {
			list = append(list, key.(string))
			return true
		})
		return list
	}
	for range 100 {
		desk, err := Open(sockets, notice, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			select {
			case <-answered:
			case <-time.After(bound):
				t.Fatalf("the desk answered nobody within %s; clients lost: %q", bound, lostOnes())
			}
		}
		desk.Close()
		for range 3 {
			watch, err := sockets.Watch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			waiting, err := watch.Waiting()
			if err != nil {
				t.Fatal(err)
			}
			watch.Close()
			for _, socket := range waiting {
				if err := work(socket); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	desk := openDesk(t, defaults, sockets...) // for those who still wait
	stop.Store(true)
	within(t, "the last answers", clients.Wait)
	desk.Close()
	if list := lostOnes(); len(list) > 0 {
		t.Errorf("of %d clients some were lost: %s", unavailable.Load()+ok.Load(), strings.Join(list, "; "))
	}
	if unavailable.Load() < 100 || ok.Load() < 300 {
		t.Errorf("the desk answered %d clients, the worker %d", unavailable.Load(), ok.Load())
	}
	for _, socket := range sockets {
		if !blocking(t, socket.File) {
			t.Errorf("%s is not blocking any more", socket.Address)
		}
	}
}

func visit(socket *listener.Socket, unavailable, ok *atomic.Int64) error {
	client, err := connect(socket)
	if err != nil {
		return err
	}
	response, _, err := ask(client, get)
	if err != nil {
		return errors.Join(err, client.Close())
	}
	switch response.StatusCode {
	case http.StatusServiceUnavailable:
		unavailable.Add(1)
	case http.StatusOK:
		ok.Add(1)
	default:
		return fmt.Errorf("the answer was %s", response.Status)
	}
	return nil
}

// Not parallel: it counts what the whole process has.
func TestNothingLeaks(t *testing.T) {
	sockets := listener.Set{listen(t, "127.0.0.1"), listen(t, "::1")}
	round := func(header time.Duration, leave func(net.Conn)) {
		limits := defaults
		limits.header = header
		desk, err := open(sockets, func() Notice { return failed }, slog.New(slog.DiscardHandler), limits)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, dial(t, sockets[0]), get)
		talking(t, desk, 0)
		silent, err := connect(sockets[1])
		if err != nil {
			t.Fatal(err)
		}
		queued(t, 0, sockets...) // it has been accepted
		desk.Close()
		leave(silent)
		if err := silent.Close(); err != nil {
			t.Fatal(err)
		}
	}
	goes := func(net.Conn) {}
	round(bound, goes) // what Go makes once
	count := func() (goroutines, descriptors int) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return runtime.NumGoroutine(), len(entries)
	}
	goroutines, descriptors := count()
	for range 10 {
		round(bound, goes)
	}
	round(defaults.header, func(silent net.Conn) {
		if _, err := io.ReadAll(silent); err != nil { // it is cut off
			t.Fatal(err)
		}
	})
	await(t, fmt.Sprintf("%d goroutines and %d descriptors are left", goroutines, descriptors), func() (bool, string) {
		g, d := count()
		return g <= goroutines && d <= descriptors, fmt.Sprintf("%d and %d", g, d)
	})
}
