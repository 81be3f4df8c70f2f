package holders

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/proctree"
)

// Unseen is the role of somebody who cannot be seen from here. It is nobody's who is listed as a holder.
const Unseen api.Role = "unseen"

// Known is what the caller knows for sure; zero where it does not.
type Known struct {
	// Launcher is the pid of whoever has the control socket, as the kernel says it. It counts if it is the caller's own process.
	Launcher int
	// Units says that only units have launchers, and one that was started by hand is a stranger.
	Units bool
}

// Socket is a listening socket with those that have it open.
type Socket struct {
	sockdiag.Socket
	Holders []Holder
	Wanted  []netaddr.Address // of the addresses that were asked for, those that it keeps
}

// Listening returns the sockets that listen on an address, or on one that
// conflicts with it, each once, with their holders. Unseen is how many processes
// could not be looked into: as long as it is not 0 there may be more holders.
func (k Known) Listening(ctx context.Context, addresses ...netaddr.Address) (sockets []Socket, unseen int, err error) {
	return k.newLook().held(ctx, sockdiag.Listening, addresses)
}

// Blocking is Listening for an address that is to be bound: a socket that is only
// bound is in the way too, see sockdiag.Blocking. A manager's socket units are
// named.
func (k Known) Blocking(ctx context.Context, addresses ...netaddr.Address) (sockets []Socket, unseen int, err error) {
	look := k.newLook()
	sockets, unseen, err = look.held(ctx, sockdiag.Blocking, addresses)
	for _, socket := range sockets {
		for i := range socket.Holders {
			if h := &socket.Holders[i]; h.Role == api.RoleSystemd && !h.Forked {
				h.RunBy = look.socketUnit(ctx, h.Manager, socket.Address)
			}
		}
	}
	return sockets, unseen, err
}

// Each returns those who hold the sockets, each once with all its addresses; a manager once for each unit for which it
// holds some. A socket that nobody is seen to hold has an Unseen one.
func Each(sockets []Socket) []Holder {
	var all []Holder
	add := func(h Holder, socket Socket) {
		i := slices.IndexFunc(all, func(other Holder) bool {
			return other.PID == h.PID && other.Role == h.Role && other.RunBy.Unit == h.RunBy.Unit && other.UID == h.UID
		})
		if i < 0 {
			h.Addresses, h.Wanted = nil, nil
			i, all = len(all), append(all, h)
		}
		one := &all[i]
		if !slices.Contains(one.Addresses, socket.Address) {
			one.Addresses = append(one.Addresses, socket.Address)
		}
		for _, wanted := range socket.Wanted {
			if !slices.Contains(one.Wanted, wanted) {
				one.Wanted = append(one.Wanted, wanted)
			}
		}
	}
	for _, socket := range sockets {
		for _, h := range socket.Holders {
			add(h, socket)
		}
		if len(socket.Holders) == 0 {
			add(Holder{UID: socket.UID, Role: Unseen}, socket)
		}
	}
	return all
}

func (l *look) held(
	ctx context.Context, find func(netaddr.Address) ([]sockdiag.Socket, error), addresses []netaddr.Address,
) (sockets []Socket, unseen int, err error) {
	var inodes []uint64
	var owners []uint32
	known := map[uint64]int{} // where an inode is among them
	for _, address := range addresses {
		found, err := find(address)
		if err != nil {
			return nil, 0, err
		}
		for _, socket := range found {
			if i, again := known[socket.Inode]; again {
				sockets[i].Exact = sockets[i].Exact || socket.Exact
				sockets[i].Wanted = append(sockets[i].Wanted, address)
				continue
			}
			known[socket.Inode] = len(inodes)
			inodes, owners = append(inodes, socket.Inode), append(owners, socket.UID)
			sockets = append(sockets, Socket{Socket: socket, Wanted: []netaddr.Address{address}})
		}
	}
	byInode, unseen, err := l.holders(ctx, inodes, owners)
	for i := range sockets {
		sockets[i].Holders = byInode[sockets[i].Inode]
		for j := range sockets[i].Holders {
			if h := &sockets[i].Holders[j]; (h.Role == api.RoleLauncher || h.Role == api.RoleWorker) && h.RunBy.Unit == "" {
				h.RunBy = l.launcherUnit(ctx, h)
			}
		}
	}
	return sockets, unseen, err
}

// Holders returns, for each inode, the processes that have it open; owners are the users who have made the sockets. What
// keeps those running who may hold it is not asked for.
func (k Known) Holders(ctx context.Context, inodes []uint64, owners ...uint32) (byInode map[uint64][]Holder, unseen int, err error) {
	return k.newLook().holders(ctx, inodes, owners)
}

func (k Known) newLook() *look {
	return &look{
		Known: k, known: map[int]Holder{}, said: map[question]answer{}, sockets: map[systemd.Manager][]systemd.Properties{},
		holding: map[int]bool{}, own: -1, spent: map[uint32]time.Duration{},
	}
}

func (l *look) holders(ctx context.Context, inodes []uint64, owners []uint32) (byInode map[uint64][]Holder, unseen int, err error) {
	byInode, unseen, err = open(ctx, inodes, owners...)
	for _, having := range byInode {
		for _, h := range having {
			l.holding[h.PID] = true
		}
	}
	undecided := l.decideAll(ctx, byInode)
	for inode, having := range byInode {
		var staying []Holder
		for _, h := range having {
			if undecided[h.PID] {
				continue
			}
			if l.decide(ctx, &h); l.stays(ctx, &h, inode) {
				staying = append(staying, h)
			}
		}
		byInode[inode] = staying
	}
	return byInode, unseen + len(undecided), err
}

// stays reports whether a process still holds a socket now that it was decided that it should not. A manager's child holds
// it until it is executed or ends, and who looks at it in that very moment sees somebody else: it is decided anew what that is.
func (l *look) stays(ctx context.Context, h *Holder, inode uint64) bool {
	ctx, cancel := l.closer(ctx)
	defer cancel()
	link := fmt.Sprintf("socket:[%d]", inode)
	// When time is up, each look would cost its share still: one process can have 65,536 sockets on a port (SO_REUSEPORT).
	for again := 0; again < 2 && ctx.Err() == nil && slices.Contains(api.Intruders, h.Role); again++ {
		now, err := describe(h.PID)
		if err != nil || now.Start != h.Start {
			return false
		}
		held, err := sockdiag.Descriptors(ctx, h.PID, map[string]uint64{link: inode})
		switch {
		case err == nil && len(held) == 0, errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH):
			return false
		case slices.Equal(now.Argv, h.Argv) && now.Name == h.Name:
			return true
		}
		delete(l.known, h.PID)
		*h = now
		l.decide(ctx, h)
	}
	return true
}

// decide says what a process is to us.
func (l *look) decide(ctx context.Context, h *Holder) {
	if known, done := l.known[h.PID]; done {
		*h = known
		return
	}
	h.Manager = l.managerOf(ctx, h.Cgroup)
	container := contained(h, proctree.Cgroup(os.Getpid()))
	manager, manages := l.manages(ctx, h)
	switch {
	case manages:
		h.Role, h.Manager = api.RoleSystemd, manager
	case l.ofUnit(ctx, h):
	case l.becomes(ctx, h):
	case l.byHand(h):
	case container != nil:
		// Whoever runs the container starts it again.
		h.Role, h.Why = api.RoleForeign, container.why(openclaw.IsGateway(h.PID, h.Argv))
		if container.Engine == "" {
			h.RunBy = l.service(ctx, h) // with PrivatePIDs=, systemd.exec(5)
		}
		h.RunBy.Container = container
	case !openclaw.IsGateway(h.PID, h.Argv):
		h.Role, h.Why, h.RunBy = api.RoleForeign, "it is no OpenClaw gateway", l.service(ctx, h)
		if runs(h.PID) && sameFile(h.PID, os.Getpid()) {
			h.Why = "it is a launcher that user " + systemd.UserName(int(h.UID)) + " has started by hand"
		}
	default:
		l.decideGateway(ctx, h)
	}
	if h.Role == api.RoleForeign {
		h.RunBy.Besides = l.serves(ctx, h)
	}
	l.restarted(h)
	l.known[h.PID] = *h
}

// becomes reports whether a process is a manager's child that has not been executed yet, and still is the manager.
func (l *look) becomes(ctx context.Context, h *Holder) bool {
	manager, forked := l.forked(ctx, h)
	if forked {
		h.Role, h.Manager, h.Forked = api.RoleSystemd, manager, true
	}
	return forked
}

// isIn reports whether a process is in the control group of a unit of that name, which nobody but its manager can have made.
func (h *Holder) isIn(manager systemd.Manager, unit string) bool {
	return manager == h.Manager && unit == h.InUnit &&
		(manager.User || strings.HasSuffix(strings.TrimSuffix(rootsPart(h.Cgroup), "/"), "/"+unit))
}

// decideGateway tells an orphan from a rival.
func (l *look) decideGateway(ctx context.Context, h *Holder) {
	for _, manager := range l.asked(ctx, h) {
		if unit, kept := l.keeper(ctx, manager, h); kept {
			h.Role, h.RunBy = api.RoleRival, l.serviceOf(ctx, manager, unit, h)
			h.Why = fmt.Sprintf("it is an OpenClaw gateway that %s keeps running", say.Printable(unit.Name))
			return
		}
		if l.ask(ctx, question{of: manager, all: true}).err != nil && strings.HasSuffix(h.InUnit, ".service") && h.isIn(manager, h.InUnit) {
			h.Role, h.RunBy = api.RoleRival, l.unit(ctx, manager, h.InUnit)
			h.Why = fmt.Sprintf("it is an OpenClaw gateway in %s, and whether that keeps it running could not be asked", h.InUnit)
			return
		}
	}
	h.Role = api.RoleOrphan
	h.Why = "it is an OpenClaw gateway that no unit keeps running"
	if h.InUnit != "" {
		h.Why += ", left in " + h.InUnit
	}
}
