package frontdesk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/listener"
)

// acceptor is the net.Listener for all sockets of a desk. Only one goroutine
// calls Accept.
type acceptor struct {
	ctx    context.Context
	cancel context.CancelFunc
	watch  *listener.Watch
	log    *slog.Logger
	limits bounds
	// places holds an entry for each connection that is open.
	places chan struct{}
	// waiting is what is left of the last look at the sockets: each of them
	// gets its turn.
	waiting listener.Set
}

// Accept returns the next client. The only error is net.ErrClosed: a shortage,
// of descriptors for example, is waited out, longer each time, because poll(2)
// would say again at once that a client is there.
func (a *acceptor) Accept() (net.Conn, error) {
	level := slog.LevelWarn
	for delay := a.limits.retryMin; a.ctx.Err() == nil; {
		accepted, err := a.next()
		switch {
		case err == nil:
			return accepted, nil
		case a.ctx.Err() != nil,
			errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
			continue
		}
		a.log.Log(a.ctx, level, "the front desk cannot accept clients", "error", err, "retry_in", delay)
		level = slog.LevelDebug
		select {
		case <-time.After(delay):
		case <-a.ctx.Done():
		}
		delay = min(2*delay, a.limits.retryMax)
	}
	return nil, net.ErrClosed
}

// Close makes Accept return.
func (a *acceptor) Close() error {
	a.cancel()
	return nil
}

// Addr is for net.Listener; there may be several addresses, and nobody asks.
func (a *acceptor) Addr() net.Addr { return &net.TCPAddr{} }

func (a *acceptor) next() (net.Conn, error) {
	if len(a.waiting) == 0 {
		waiting, err := a.watch.Waiting()
		if err != nil {
			return nil, err
		}
		a.waiting = waiting
	}
	select {
	case a.places <- struct{}{}:
	case <-a.ctx.Done():
		return nil, a.ctx.Err()
	}
	socket := a.waiting[0]
	a.waiting = a.waiting[1:]
	fd, client, err := socket.Accept()
	if err != nil {
		<-a.places
		return nil, fmt.Errorf("accept a client on %s: %w", socket.Address, err)
	}
	return &conn{
		file:   os.NewFile(uintptr(fd), "client of "+socket.Address.String()),
		local:  socket.Address.Net(),
		remote: client.Net(),
		leave:  func() { <-a.places },
	}, nil
}
