package listener

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/clock"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
)

// AwaitStall blocks until a client has stood in the queue of one of the sockets for so long, and returns the address and
// since when it waits; or until the context is done, whose error it returns then. See sockdiag.Oldest for what makes it
// fail, and for what it cannot see.
//
// Nothing wakes it while no client comes. The first that does is the one edge for which it was armed; then it sleeps until
// that client could have waited too long, however many come meanwhile: to be armed again at once would cost the worker a
// third of its accepts. Never with EPOLLEXCLUSIVE: it would take the wake-up of a worker that blocks in accept(2).
func (sockets Set) AwaitStall(ctx context.Context, limit time.Duration) (address netaddr.Address, since time.Time, err error) {
	address, since, err = sockets.awaitStall(ctx, limit)
	switch {
	case ctx.Err() != nil:
		return netaddr.Address{}, time.Time{}, ctx.Err()
	case err != nil:
		return netaddr.Address{}, time.Time{}, fmt.Errorf("see who waits to be accepted: %w", err)
	}
	return address, since, nil
}

func (sockets Set) awaitStall(ctx context.Context, limit time.Duration) (address netaddr.Address, since time.Time, err error) {
	if _, _, err := sockdiag.Oldest(sockets.named()); err != nil {
		return netaddr.Address{}, time.Time{}, err // now, and not when it is too late
	}
	edges, err := newEdges(sockets)
	if err != nil {
		return netaddr.Address{}, time.Time{}, err
	}
	defer edges.file.Close()
	defer context.AfterFunc(ctx, func() { _ = edges.file.Close() })()
	for {
		if err := edges.next(); err != nil {
			return netaddr.Address{}, time.Time{}, err
		}
		// Since when the client of a unix socket waits is known from this look on.
		for wait := sockets.look(limit, limit); wait > 0; {
			if err := clock.Sleep(ctx, wait); err != nil {
				return netaddr.Address{}, time.Time{}, err
			}
			oldest, waits, err := sockets.Oldest()
			if err != nil {
				return netaddr.Address{}, time.Time{}, err
			}
			if waits >= limit {
				return oldest, time.Now().Add(-waits), nil
			}
			wait = 0 // nobody waits: until the next one comes
			if oldest.IsValid() {
				wait = sockets.look(max(limit-waits, leastInterval), limit)
			}
		}
		if err := edges.arm(unix.EPOLL_CTL_MOD); err != nil {
			return netaddr.Address{}, time.Time{}, err
		}
	}
}

// look takes note of who waits on the unix sockets, and returns after how long the next look is due, at the latest when left is
// over: who has come just after this one is told so much later than it could be.
func (sockets Set) look(left, limit time.Duration) time.Duration {
	for _, socket := range sockets {
		if socket.Address.IsUnix() {
			socket.Waits()
			left = min(left, max(limit/2, leastInterval))
		}
	}
	return left
}

// leastInterval is the least time between two looks: where the clients of a busy server all wait nearly too long, one after
// the other would be looked at.
const leastInterval = 100 * time.Millisecond

// reliefInterval is how often a stalled queue is looked at: the kernel has no event for "was accepted".
const reliefInterval = time.Second

// AwaitRelief blocks until no client is left that has stood in a queue for so long, or until the context is done, whose
// error it returns then.
func (sockets Set) AwaitRelief(ctx context.Context, limit time.Duration) error {
	for {
		if err := clock.Sleep(ctx, reliefInterval); err != nil {
			return err
		}
		_, waits, err := sockets.Oldest()
		if err != nil {
			return fmt.Errorf("see who waits to be accepted: %w", err)
		}
		if waits < limit {
			return nil
		}
	}
}

// Oldest returns on which of the sockets the client waits that has stood in a queue for longest, and for how long; 0 when
// none is seen to wait. See [sockdiag.Oldest]; the length of the queues comes first, which the kernel tells without looking through all
// connections of a port.
func (sockets Set) Oldest() (address netaddr.Address, waits time.Duration, err error) {
	queued, err := sockets.Queued()
	if err != nil || queued == 0 {
		return netaddr.Address{}, 0, err
	}
	oldest, waits, err := sockdiag.Oldest(sockets.named())
	if err != nil {
		return netaddr.Address{}, 0, err
	}
	if oldest != nil {
		address = oldest.Address
	}
	for _, socket := range sockets {
		if waited, somebody := socket.Waits(); somebody && waited >= waits {
			address, waits = socket.Address, waited
		}
	}
	return address, waits, nil
}

// named is the sockets as sockdiag knows them.
func (sockets Set) named() []sockdiag.Socket {
	named := make([]sockdiag.Socket, 0, len(sockets))
	for _, socket := range sockets {
		named = append(named, sockdiag.Socket{Address: socket.Address, Inode: socket.Inode})
	}
	return named
}

// edges tells of the first client that comes after it was armed, with an epoll(7) descriptor that Go's netpoller waits for.
// The sockets themselves stay out of the netpoller; see Watch.
type edges struct {
	sockets Set
	file    *os.File
}

func newEdges(sockets Set) (*edges, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(epoll, true); err != nil { // without it the netpoller does not take it
		return nil, errors.Join(os.NewSyscallError("fcntl", err), unix.Close(epoll))
	}
	e := &edges{sockets: sockets, file: os.NewFile(uintptr(epoll), "epoll")}
	if err := e.arm(unix.EPOLL_CTL_ADD); err != nil {
		return nil, errors.Join(err, e.file.Close())
	}
	return e, nil
}

// arm has the next client reported, or one that is in a queue already.
func (e *edges) arm(operation int) error {
	return Control(e.file, func(epoll int) error {
		return e.sockets.each(func(s *Socket) error {
			return s.control(func(fd int) error {
				event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET | unix.EPOLLONESHOT, Fd: int32(fd)}
				return os.NewSyscallError("epoll_ctl", unix.EpollCtl(epoll, operation, fd, &event))
			})
		})
	})
}

// next blocks until a client comes, or the file is closed.
func (e *edges) next() error {
	raw, err := e.file.SyscallConn()
	if err != nil {
		return err
	}
	var waitErr error
	err = raw.Read(func(epoll uintptr) bool {
		var events [8]unix.EpollEvent
		n, err := unix.EpollWait(int(epoll), events[:], 0)
		waitErr = os.NewSyscallError("epoll_wait", err)
		return n > 0 || err != nil
	})
	return errors.Join(err, waitErr)
}
