package listener

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// AwaitClient blocks until a client waits in the queue of one of the sockets,
// without accepting it, or until the context is done, whose error it returns
// then. It uses poll(2) on descriptors that stay as they are: Go's netpoller
// would make the shared sockets non-blocking for everybody. A socket that
// somebody shut down shows as POLLHUP; it listens again at once.
func (sockets Set) AwaitClient(ctx context.Context) error {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("wait for a client: eventfd: %w", err)
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		// The counter is at zero, so the write cannot block or fail.
		_, _ = unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	})
	defer func() {
		if !stop() {
			<-woken
		}
		_ = unix.Close(wake)
	}()

	polled := make([]unix.PollFd, len(sockets), len(sockets)+1)
	for i, socket := range sockets {
		err := socket.control(func(fd int) error {
			polled[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
			return nil
		})
		if err != nil {
			return fmt.Errorf("wait for a client on %s: %w", socket.Address, err)
		}
	}
	polled = append(polled, unix.PollFd{Fd: int32(wake), Events: unix.POLLIN})
	for {
		_, err := unix.Poll(polled, -1)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("wait for a client: poll: %w", err)
		case ctx.Err() != nil:
			return ctx.Err()
		}
		for i, socket := range sockets {
			switch events := polled[i].Revents; {
			case events&unix.POLLHUP != 0:
				if err := socket.Listen(); err != nil {
					return err
				}
			case events&unix.POLLIN != 0:
				return nil
			case events != 0:
				return fmt.Errorf("wait for a client on %s: poll tells of an error (events %#x): is the descriptor closed?", socket.Address, events)
			}
		}
	}
}
