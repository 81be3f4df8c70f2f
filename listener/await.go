package listener

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Watch notices clients that wait in the queues of sockets, without accepting
// them, until its context is done. It uses poll(2) on descriptors that stay as
// they are: Go's netpoller would make the shared sockets non-blocking for
// everybody.
type Watch struct {
	ctx     context.Context
	sockets Set
	wake    int // an eventfd, readable when the context is done
	stop    func() bool
	woken   chan struct{}
}

// Watch begins to watch. The caller closes what it returns; that does not close
// the sockets. It needs one descriptor for as long.
func (sockets Set) Watch(ctx context.Context) (*Watch, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("wait for a client: eventfd: %w", err)
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		// The counter is at zero, so the write cannot block or fail.
		_, _ = unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	})
	return &Watch{ctx: ctx, sockets: sockets, wake: wake, stop: stop, woken: woken}, nil
}

// Close ends the watch. No call of Waiting may be under way: cancel its context
// first.
func (w *Watch) Close() {
	if !w.stop() {
		<-w.woken
	}
	_ = unix.Close(w.wake)
}

// Waiting blocks until a client waits on one of the sockets or more, and returns
// those, or until the context is done, whose error it returns then. A socket
// that somebody shut down shows as POLLHUP; it listens again at once, but for a unix socket, see Dead. Where that
// fails, the error comes as soon as no client waits on the others.
func (w *Watch) Waiting() (Set, error) {
	for {
		waiting, _, err := w.look(unix.POLLIN)
		if len(waiting) > 0 {
			return waiting, nil
		}
		if err != nil {
			return nil, fmt.Errorf("wait for a client: %w", err)
		}
	}
}

// Mended blocks until somebody shuts down one of the sockets or more, makes
// those listen again at once, and returns them, or until the context is done,
// whose error it returns then. Clients do not wake it.
func (w *Watch) Mended() (Set, error) {
	for {
		_, mended, err := w.look(0)
		if err != nil {
			return nil, fmt.Errorf("watch the sockets: %w", err)
		}
		if len(mended) > 0 {
			return mended, nil
		}
	}
}

// poll waits for the events, or an error or a hang-up, on one of the sockets.
// The last entry of what it returns is not a socket's.
func (w *Watch) poll(events int16) ([]unix.PollFd, error) {
	polled := make([]unix.PollFd, len(w.sockets), len(w.sockets)+1)
	for i, socket := range w.sockets {
		err := socket.control(func(fd int) error {
			polled[i] = unix.PollFd{Fd: int32(fd), Events: events}
			if socket.dead.Load() {
				polled[i].Fd = -1 // poll(2) leaves it out
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", socket.Address, err)
		}
	}
	polled = append(polled, unix.PollFd{Fd: int32(w.wake), Events: unix.POLLIN})
	for {
		_, err := unix.Poll(polled, -1)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, fmt.Errorf("poll: %w", err)
		case w.ctx.Err() != nil:
			return nil, w.ctx.Err()
		}
		return polled, nil
	}
}

// look polls once, and makes the sockets listen again that somebody shut down.
func (w *Watch) look(events int16) (waiting, mended Set, err error) {
	polled, err := w.poll(events)
	if err != nil {
		return nil, nil, err
	}
	var errs []error
	for i, socket := range w.sockets {
		switch events := polled[i].Revents; {
		case events&unix.POLLHUP != 0 && socket.Address.IsUnix():
			socket.dead.Store(true)
		case events&unix.POLLHUP != 0:
			if err := socket.Listen(); err != nil {
				errs = append(errs, err)
			} else {
				mended = append(mended, socket)
			}
		case events&^unix.POLLIN != 0:
			errs = append(errs, fmt.Errorf("poll tells of an error on %s (events %#x): is the descriptor closed?", socket.Address, events))
		}
		if polled[i].Revents&(unix.POLLHUP|unix.POLLIN) == unix.POLLIN {
			waiting = append(waiting, socket)
		}
	}
	return waiting, mended, errors.Join(errs...)
}

// AwaitClient blocks until a client waits in the queue of one of the sockets,
// without accepting it, or until the context is done, whose error it returns
// then; see Watch.Waiting.
func (sockets Set) AwaitClient(ctx context.Context) error {
	watch, err := sockets.Watch(ctx)
	if err != nil {
		return err
	}
	defer watch.Close()
	_, err = watch.Waiting()
	return err
}
