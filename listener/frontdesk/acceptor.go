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
	fd, remote, err := accept(socket)
	if err != nil {
		<-a.places
		return nil, fmt.Errorf("accept a client on %s: %w", socket.Address, err)
	}
	return &conn{
		file:   os.NewFile(uintptr(fd), "client of "+socket.Address.String()),
		local:  net.TCPAddrFromAddrPort(socket.Address),
		remote: tcpAddr(remote),
		leave:  func() { <-a.places },
	}, nil
}

// accept takes one client from the queue; when there is none the error is
// unix.EAGAIN, also where accept4(2) would block. Nobody else accepts while the
// desk is open, so the client that poll(2) tells of is still there after it.
func accept(socket *listener.Socket) (accepted int, remote unix.Sockaddr, err error) {
	raw, err := socket.File.SyscallConn()
	if err != nil {
		return -1, nil, err
	}
	controlErr := raw.Control(func(fd uintptr) {
		polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err = unix.Poll(polled, 0); err != nil {
			return
		}
		if polled[0].Revents != unix.POLLIN {
			err = unix.EAGAIN // with POLLHUP, Waiting makes it listen again
			return
		}
		accepted, remote, err = unix.Accept4(int(fd), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	})
	if controlErr != nil {
		return -1, nil, controlErr
	}
	return accepted, remote, err
}

func tcpAddr(name unix.Sockaddr) net.Addr {
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: name.Addr[:], Port: name.Port}
	case *unix.SockaddrInet6:
		return &net.TCPAddr{IP: name.Addr[:], Port: name.Port}
	default:
		return &net.TCPAddr{}
	}
}
