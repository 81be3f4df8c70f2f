package hello

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// stopTimeout bounds how long Run waits for requests once it is to stop.
const stopTimeout = 5 * time.Second

// Run serves on the passed sockets until ctx is done, then finishes the requests within 5 s and returns nil. It fails if no
// sockets were passed, if one of them is no listening stream socket, or if serving on one of them ends by itself. It takes
// LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES out of the environment.
func Run(ctx context.Context) error {
	listeners, err := inherit()
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           newHandler(),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
	}
	defer server.Close()
	var connections sync.WaitGroup
	server.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			connections.Add(1)
		case http.StateClosed:
			connections.Done()
		}
	}

	failed := make(chan error, len(listeners))
	for _, listener := range listeners {
		go func() { failed <- fmt.Errorf("serving on %s ended: %w", listener.Addr(), server.Serve(listener)) }()
	}
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		return fmt.Errorf("cannot say READY=1 on NOTIFY_SOCKET: %w", err)
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}

	// Shutdown alone would close a connection that was accepted before it and whose request is read after it, unanswered
	// (conn.serve in net/http). So: no more connections, then the end of those that are there, and only then the rest.
	for _, listener := range listeners {
		listener.Close()
	}
	for range listeners {
		<-failed
	}
	server.SetKeepAlivesEnabled(false)
	answered := make(chan struct{})
	go func() {
		connections.Wait()
		close(answered)
	}()
	bounded, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	select {
	case <-answered:
	case <-bounded.Done():
	}
	if err := server.Shutdown(bounded); err != nil {
		// No failure of this server: a client that does not end must not make a stop that was asked for look like a crash.
		slog.Warn("clients were cut off", "after", stopTimeout, "error", err)
	}
	return nil
}

// inherit returns the passed sockets.
func inherit() ([]net.Listener, error) {
	files := activation.Files(true)
	if len(files) == 0 {
		return nil, errors.New("no sockets were passed (LISTEN_PID and LISTEN_FDS): " +
			"this server never binds itself, start it by gateway run")
	}
	var listeners []net.Listener
	for _, file := range files {
		listener, err := net.FileListener(file)
		if err != nil {
			return nil, fmt.Errorf("the passed descriptor %d (%s) is not a listening socket: %w", file.Fd(), file.Name(), err)
		}
		file.Close() // the listener has a descriptor of its own
		listeners = append(listeners, listener)
	}
	return listeners, nil
}
