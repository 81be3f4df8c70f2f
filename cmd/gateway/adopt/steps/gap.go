package steps

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
)

// gap measures for how long clients are refused: from when the kernel has destroyed a listening socket of the addresses, until
// systemd has opened its own.
type gap struct {
	addresses []netaddr.Address
	ends      *sockdiag.Ends

	mu     sync.Mutex
	open   bool          // somebody listened in the beginning
	closed time.Duration // on CLOCK_MONOTONIC, when the first of the addresses had no listener any more; 0: not yet
	stop   time.Duration // when the old one had stopped
}

// watchGap begins to look. Where the kernel does not tell of ends, nothing is measured.
func watchGap(addresses []netaddr.Address) *gap {
	g := &gap{addresses: addresses}
	ends, err := sockdiag.WatchEnds(addresses...)
	if err != nil {
		return g
	}
	listened := make([]bool, len(addresses))
	for i, address := range addresses {
		listened[i] = listens(address)
		g.open = g.open || listened[i]
	}
	if !g.open {
		_ = ends.Close()
		return g
	}
	g.ends = ends
	go func() {
		for {
			ended, err := ends.Next(time.Time{})
			if err != nil {
				return
			}
			at := monotonic()
			for i, address := range addresses {
				if ended && listened[i] && !listens(address) {
					g.mu.Lock()
					g.closed = at
					g.mu.Unlock()
					return
				}
			}
		}
	}()
	return g
}

func listens(address netaddr.Address) bool {
	sockets, err := sockdiag.Listening(address)
	return err == nil && len(sockets) > 0
}

// stopped takes down when the old one had stopped.
func (g *gap) stopped() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stop = monotonic()
}

// told says how long it was, when the socket unit is active.
func (g *gap) told(ctx context.Context, manager systemd.Manager, socket string) string {
	if g.ends != nil {
		defer g.ends.Close()
	}
	unit, err := manager.Unit(ctx, socket, "ActiveEnterTimestampMonotonic")
	opened := monotonic()
	if n, parseErr := strconv.ParseInt(unit["ActiveEnterTimestampMonotonic"], 10, 64); err == nil && parseErr == nil && n > 0 {
		opened = time.Duration(n) * time.Microsecond
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case !g.open:
		return "nobody listened there before"
	case g.closed == 0 || opened < g.closed:
		return "for how long clients were refused could not be measured"
	}
	return fmt.Sprintf("clients were refused for %s, %s of it until the old one had ended",
		say.Duration(opened-g.closed), say.Duration(max(0, min(g.stop, opened)-g.closed)))
}

func monotonic() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return time.Duration(now.Nano())
}
