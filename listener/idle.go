package listener

import (
	"context"
	"fmt"
	"time"

	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
)

// lull is how long AwaitIdle lets further connections end before it looks again
// after one has, as a part of the time that it waits for, and at the most: a busy
// server would wake the launcher for each client otherwise.
const (
	lullPart = 8
	lullMost = time.Second
)

// AwaitIdle blocks until no client has been connected to any of the sockets for
// so long, or until the context is done, whose error it returns then. The call
// itself counts as a client, so it never returns sooner; and it returns at the
// latest an eighth of that time later, or a second if that is less.
//
// Who is connected is what the kernel says, whoever has accepted: a client in
// the queue, one that says nothing for hours, one that still is being sent the
// end of an answer. One whose host has vanished is connected until the kernel
// gives it up, which without keep-alive (KeepAlive= in systemd.socket(5)) is never. Connections from own addresses
// do not count where they were given up by now. See sockdiag.WatchClients for
// what makes it fail.
func (sockets Set) AwaitIdle(ctx context.Context, idle time.Duration, own []netaddr.Address) error {
	if err := sockets.awaitIdle(ctx, idle, own); err != nil && ctx.Err() == nil {
		return fmt.Errorf("see who is connected: %w", err)
	}
	return ctx.Err()
}

func (sockets Set) awaitIdle(ctx context.Context, idle time.Duration, own []netaddr.Address) error {
	last := time.Now() // at which a client was connected, as far as is known
	clients, err := sockdiag.WatchClients(sockets.named())
	if err != nil {
		return err
	}
	defer clients.Close()
	defer context.AfterFunc(ctx, func() { _ = clients.Close() })()
	if err := clients.Ignore(own); err != nil {
		return err
	}
	for {
		ended, err := clients.Ended(last.Add(idle))
		if err != nil {
			return err
		}
		if !ended {
			connected, err := clients.Connected()
			if err != nil {
				return err
			}
			until := last.Add(idle) // has passed: only one that came and went just now
			if connected > 0 {
				until = time.Time{} // however long they stay
			}
			if ended, err = clients.Ended(until); err != nil {
				return err
			}
		}
		if !ended {
			return nil
		}
		last = time.Now()
		select {
		case <-time.After(min(idle/lullPart, lullMost)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
