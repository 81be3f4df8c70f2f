package holders

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/units"
	"openclaw-gateway/worker/proctree"
)

// Unseen is the role of somebody who cannot be seen from here. It is nobody's who is listed as a holder.
const Unseen api.Role = "unseen"

// Known is what the caller knows for sure; zero where it does not.
type Known struct {
	Manager  int // pid of the manager that passed the sockets
	Launcher int // pid
	Worker   int // pid of the worker's main process
}

// Socket is a listening socket with those that have it open.
type Socket struct {
	sockdiag.Socket
	Holders []Holder
	Wanted  []netip.AddrPort // of the addresses that were asked for, those that it keeps
}

// Listening returns the sockets that listen on an address, or on one that
// conflicts with it, each once, with their holders. Unseen is how many processes
// could not be looked into: as long as it is not 0 there may be more holders.
func (k Known) Listening(ctx context.Context, addresses ...netip.AddrPort) (sockets []Socket, unseen int, err error) {
	return k.sockets(ctx, sockdiag.Listening, addresses)
}

// Blocking is Listening for an address that is to be bound: a socket that is only
// bound is in the way too, see sockdiag.Blocking. A manager's socket units are
// named.
func (k Known) Blocking(ctx context.Context, addresses ...netip.AddrPort) (sockets []Socket, unseen int, err error) {
	sockets, unseen, err = k.sockets(ctx, sockdiag.Blocking, addresses)
	named := socketUnits{}
	for _, socket := range sockets {
		for i := range socket.Holders {
			if h := &socket.Holders[i]; h.Role == api.RoleSystemd {
				h.RunBy = named.of(ctx, managerOf(*h), socket.Address)
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

func (k Known) sockets(
	ctx context.Context, find func(netip.AddrPort) ([]sockdiag.Socket, error), addresses []netip.AddrPort,
) (sockets []Socket, unseen int, err error) {
	var inodes []uint64
	for _, address := range addresses {
		found, err := find(address)
		if err != nil {
			return nil, 0, err
		}
		for _, socket := range found {
			if i := slices.Index(inodes, socket.Inode); i >= 0 {
				sockets[i].Exact = sockets[i].Exact || socket.Exact
				sockets[i].Wanted = append(sockets[i].Wanted, address)
				continue
			}
			inodes = append(inodes, socket.Inode)
			sockets = append(sockets, Socket{Socket: socket, Wanted: []netip.AddrPort{address}})
		}
	}
	look := k.newLook()
	byInode, unseen, err := look.holders(ctx, inodes)
	for i := range sockets {
		sockets[i].Holders = byInode[sockets[i].Inode]
		for j := range sockets[i].Holders {
			if h := &sockets[i].Holders[j]; h.Role == api.RoleLauncher || h.Role == api.RoleWorker {
				h.RunBy = look.launcherUnit(ctx, h)
			}
		}
	}
	return sockets, unseen, err
}

// Holders returns, for each inode, the processes that have it open. What keeps those running who may hold it is not
// asked for.
func (k Known) Holders(ctx context.Context, inodes ...uint64) (byInode map[uint64][]Holder, unseen int, err error) {
	return k.newLook().holders(ctx, inodes)
}

func (k Known) newLook() *look {
	return &look{Known: k, known: map[int]Holder{}, mains: map[systemd.Manager]mains{}, holding: map[int]bool{}}
}

func (l *look) holders(ctx context.Context, inodes []uint64) (byInode map[uint64][]Holder, unseen int, err error) {
	byInode, unseen, err = open(inodes...)
	for _, having := range byInode {
		for _, h := range having {
			l.holding[h.PID] = true
		}
	}
	for _, having := range byInode {
		for i := range having {
			l.decide(ctx, &having[i])
		}
	}
	return byInode, unseen, err
}

// managerLimit is how long a service manager has to list its main processes.
const managerLimit = 5 * time.Second

// look remembers what it has asked, for as long as one look at the machine takes.
type look struct {
	Known
	known   map[int]Holder
	mains   map[systemd.Manager]mains
	holding map[int]bool // the pids of all holders
}

// mains is the main processes of a manager's services, or why they are not known.
type mains struct {
	unit map[int]string
	err  error
}

// decide says what a process is to us.
func (l *look) decide(ctx context.Context, h *Holder) {
	if known, done := l.known[h.PID]; done {
		*h = known
		return
	}
	container := contained(h, proctree.Cgroup(os.Getpid()))
	switch {
	case h.PID == l.Manager, h.isManager(), forked(h) == api.RoleSystemd:
		h.Role = api.RoleSystemd
	case h.PID == l.Launcher:
		h.Role, h.launcher = api.RoleLauncher, h.PID
	case h.PID == l.Worker, descends(h.PPID, l.Worker):
		h.Role, h.launcher = api.RoleWorker, l.Launcher
	case isLauncher(h.PID, h.Argv), forked(h) == api.RoleLauncher, launches(h):
		h.Role, h.launcher = api.RoleLauncher, h.PID
	case l.belongsToLauncher(h):
		h.Role = api.RoleWorker
	case container != nil:
		// Whoever runs the container starts it again.
		h.Role, h.Why = api.RoleForeign, container.why(openclaw.IsGateway(h.PID, h.Argv))
		if container.Engine == "" {
			h.RunBy = l.service(ctx, h) // with PrivatePIDs=, systemd.exec(5)
		}
		h.RunBy.Container = container
	case !openclaw.IsGateway(h.PID, h.Argv):
		h.Role, h.Why, h.RunBy = api.RoleForeign, "it is no OpenClaw gateway", l.service(ctx, h)
	default:
		l.decideGateway(ctx, h)
	}
	l.known[h.PID] = *h
}

// decideGateway tells an orphan from a rival. A gateway that starts itself a
// second time, as openclaw.mjs can, is the main process's child; the pair is
// supervised.
func (l *look) decideGateway(ctx context.Context, h *Holder) {
	managers := []systemd.Manager{{}}
	if h.UserUnit || h.UID != 0 {
		managers = append(managers, systemd.Manager{User: true, UID: int(h.UID)})
	}
	for _, manager := range managers {
		known := l.mainsOf(ctx, manager)
		for process := range proctree.Ancestry(h.PID) {
			unit, main := known.unit[process.PID]
			if main && (process.PID == h.PID || openclaw.IsGateway(process.PID, proctree.Argv(process.PID))) {
				h.Role, h.RunBy = api.RoleRival, l.unit(ctx, manager, unit)
				h.Why = fmt.Sprintf("it is an OpenClaw gateway that %s keeps running", unit)
				return
			}
			if main {
				break
			}
		}
		if known.err != nil && manager.User == h.UserUnit && strings.HasSuffix(h.InUnit, ".service") {
			h.Role, h.RunBy = api.RoleRival, l.unit(ctx, manager, h.InUnit)
			h.Why = fmt.Sprintf("it is an OpenClaw gateway in %s, and whether that keeps it running could not be asked", h.InUnit)
			return
		}
	}
	h.Role = api.RoleOrphan
	h.Why = "it is an OpenClaw gateway that is the main process of no unit"
	if h.InUnit != "" {
		h.Why += ", left in " + h.InUnit
	}
}

func (l *look) mainsOf(ctx context.Context, manager systemd.Manager) mains {
	if known, asked := l.mains[manager]; asked {
		return known
	}
	// One that hangs must not keep the others from being told.
	ctx, cancel := context.WithTimeout(ctx, managerLimit)
	defer cancel()
	var known mains
	known.unit, known.err = manager.MainPIDs(ctx)
	l.mains[manager] = known
	return known
}

// belongsToLauncher reports whether a process is in the cgroup of a generation, or descends from a launcher, or is the
// worker of one that lives, whatever program that is: an older one, or a copy run by hand. A launcher run by hand has no
// cgroups.
func (l *look) belongsToLauncher(h *Holder) bool {
	for ancestor := range proctree.Ancestry(h.PPID) {
		if ancestor.PID == l.Launcher || isLauncher(ancestor.PID, proctree.Argv(ancestor.PID)) {
			h.launcher = ancestor.PID
			return true
		}
	}
	if launcher, ok := proctree.LauncherOf(h.PID); ok {
		h.launcher = launcher.PID
		return true
	}
	_, below, found := strings.Cut(h.Cgroup, "/"+units.Service+"/")
	return found && strings.HasPrefix(below, "generation-")
}

// launcherUnit says what keeps a launcher running: the unit of which it is the main process.
func (l *look) launcherUnit(ctx context.Context, h *Holder) RunBy {
	launcher := *h
	if h.launcher != 0 && h.launcher != h.PID {
		if described, err := describe(h.launcher); err == nil {
			launcher = described
		}
	}
	manager := managerOf(launcher)
	if launcher.InUnit == units.Service {
		return RunBy{Unit: launcher.InUnit, Manager: manager, Ours: true}
	}
	return l.service(ctx, &launcher)
}

// launches reports whether a process is the launcher of a worker: of one of its
// children, as far as those may be looked into.
func launches(h *Holder) bool {
	children, err := proctree.Descendants(h.PID)
	if err != nil {
		return false
	}
	for _, child := range children {
		if child.PPID != h.PID {
			break // children come before grandchildren
		}
		if launcher, ok := proctree.LauncherOf(child.PID); ok && launcher.PID == h.PID {
			return true
		}
	}
	return false
}

// descends reports whether a process is another, or descends from it.
func descends(pid, from int) bool {
	for ancestor := range proctree.Ancestry(pid) {
		if ancestor.PID == from {
			return true
		}
	}
	return false
}

// isLauncher reports whether a process is "gateway run": this program, or another
// edition of it that is the main process of our unit.
func isLauncher(pid int, argv []string) bool {
	if len(argv) < 2 || (argv[1] != "run" && argv[1] != "gateway") {
		return false
	}
	theirs, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	if err == nil {
		if own, err := os.Stat("/proc/self/exe"); err == nil && os.SameFile(own, theirs) {
			return true
		}
	}
	// In our unit, or in a cgroup of its own there, where it has moved to make room
	// for the worker. OpenClaw's own unit can have the same name.
	cgroup := strings.TrimSuffix(proctree.Cgroup(pid), "/launcher")
	return strings.HasSuffix(cgroup, "/"+units.Service) && !openclaw.IsGateway(pid, argv)
}

// forks says of a process that a manager has forked and has not executed yet what it is: the manager, as long as it is in
// that one's cgroup, and then the launcher that it becomes in our unit; "" for all others. It has the sockets already. Its
// name is in parentheses until then.
func forks(h, parent *Holder) api.Role {
	switch {
	case !strings.HasPrefix(h.Name, "(") || !parent.isManager():
		return ""
	case h.Cgroup == parent.Cgroup:
		return api.RoleSystemd
	case h.InUnit == units.Service:
		return api.RoleLauncher
	default:
		return ""
	}
}

// forked is forks for whoever is its parent.
func forked(h *Holder) api.Role {
	if !strings.HasPrefix(h.Name, "(") {
		return ""
	}
	parent, err := describe(h.PPID)
	if err != nil {
		return ""
	}
	return forks(h, &parent)
}
