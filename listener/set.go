package listener

import (
	"errors"
	"math"
	"net/netip"
	"slices"

	"openclaw-gateway/netaddr"
)

// Set is the sockets that one worker serves.
type Set []*Socket

// Addresses returns the addresses of the sockets, in their order.
func (sockets Set) Addresses() []netaddr.Address {
	addresses := make([]netaddr.Address, 0, len(sockets))
	for _, socket := range sockets {
		addresses = append(addresses, socket.Address)
	}
	return addresses
}

// Select returns the sockets whose addresses are in listen, in that order, the
// addresses that nobody holds, and the held ones that are not in listen. With dualStack
// the IPv6 wildcard is held only by a socket that takes IPv4 clients too.
func (sockets Set) Select(listen []netaddr.Address, dualStack bool) (selected Set, missing, unwanted []netaddr.Address) {
	for _, address := range listen {
		i := slices.Index(sockets.Addresses(), address)
		if i >= 0 && (!dualStack || address.Addr() != netip.IPv6Unspecified() || sockets[i].DualStack) {
			selected = append(selected, sockets[i])
		} else {
			missing = append(missing, address)
		}
	}
	for _, address := range sockets.Addresses() {
		if !slices.Contains(listen, address) {
			unwanted = append(unwanted, address)
		}
	}
	return selected, missing, unwanted
}

// Restore restores each socket; see Socket.Restore.
func (sockets Set) Restore() error { return sockets.each((*Socket).Restore) }

// Listen gives each socket the full backlog; see Socket.Listen.
func (sockets Set) Listen() error { return sockets.each((*Socket).Listen) }

// SetBacklog says how many clients may wait on each socket, from the next Restore or Listen on; 0: as many as before.
func (sockets Set) SetBacklog(backlog int) {
	for _, socket := range sockets {
		if backlog > 0 {
			socket.backlog.Store(int32(min(backlog, math.MaxInt32)))
		}
	}
}

// Queued returns how many clients wait to be accepted, on all sockets together.
func (sockets Set) Queued() (int, error) {
	total := 0
	err := sockets.each(func(s *Socket) error {
		queued, _, err := s.Queue()
		total += queued
		return err
	})
	return total, err
}

func (sockets Set) each(do func(*Socket) error) error {
	var errs []error
	for _, socket := range sockets {
		errs = append(errs, do(socket))
	}
	return errors.Join(errs...)
}
