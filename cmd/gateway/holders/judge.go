package holders

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/units"
	"openclaw-gateway/worker"
	"openclaw-gateway/worker/proctree"
)

// Role is what a process that has a socket open is to us.
type Role = api.Role

// The roles.
const (
	Systemd  = api.RoleSystemd
	Launcher = api.RoleLauncher
	Worker   = api.RoleWorker
	Orphan   = api.RoleOrphan
	Rival    = api.RoleRival
	Foreign  = api.RoleForeign
)

// Holder is a process that has a socket open.
type Holder struct {
	Process
	Role Role
	// Why is the reason for the role, in words, where it is orphan, rival or foreign.
	Why string
	// Unit is the unit whose main process a rival is, with its manager. (The unit in
	// whose cgroup a process is, is Process.Unit.)
	Unit    string
	Manager systemd.Manager

	contained bool // in a PID namespace below this one
}

// Remedy says what to run so that an orphan, a rival or somebody foreign lets go of the addresses; "" for all others.
func (h Holder) Remedy(addresses ...netip.AddrPort) string {
	caller := os.Geteuid()
	switch {
	case h.Role == Orphan:
		words := []string{"gateway", "reclaim"}
		for _, address := range addresses {
			words = append(words, systemd.Quote(address.String()))
		}
		return fmt.Sprintf("`%s` ends it", strings.Join(words, " "))
	case h.Role == Rival:
		return fmt.Sprintf("`%s` ends it for good", h.Manager.Command(caller, "disable", "--now", h.Unit))
	case h.Role != Foreign:
		return ""
	case h.contained:
		return "stop its container, which would start it again"
	case strings.HasSuffix(h.Process.Unit, ".service"):
		manager := systemd.Manager{User: h.UserUnit}
		if h.UserUnit {
			manager.UID = int(h.UID)
		}
		return fmt.Sprintf("`%s` stops it", manager.Command(caller, "stop", h.Process.Unit))
	default:
		command := fmt.Sprintf("kill %d", h.PID)
		if int(h.UID) != caller {
			command = systemd.AsRoot(caller, command)
		}
		return fmt.Sprintf("`%s` ends it", command)
	}
}

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
}

// Listening returns the sockets that listen on an address, or on one that
// conflicts with it, each once, with their holders. Unseen is how many processes
// could not be looked into: as long as it is not 0 there may be more holders.
func (k Known) Listening(ctx context.Context, addresses ...netip.AddrPort) (sockets []Socket, unseen int, err error) {
	return k.sockets(ctx, sockdiag.Listening, addresses)
}

// Keeping is Listening for an address that is to be bound: a socket that is only
// bound is in the way too, see sockdiag.Keeping.
func (k Known) Keeping(ctx context.Context, addresses ...netip.AddrPort) (sockets []Socket, unseen int, err error) {
	return k.sockets(ctx, sockdiag.Keeping, addresses)
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
				continue
			}
			inodes = append(inodes, socket.Inode)
			sockets = append(sockets, Socket{Socket: socket})
		}
	}
	byInode, unseen, err := k.Holders(ctx, inodes...)
	for i := range sockets {
		sockets[i].Holders = byInode[sockets[i].Inode]
	}
	return sockets, unseen, err
}

// Holders returns, for each inode, the processes that have it open; see Of.
func (k Known) Holders(ctx context.Context, inodes ...uint64) (byInode map[uint64][]Holder, unseen int, err error) {
	processes, unseen, err := Of(inodes...)
	if err != nil {
		return nil, 0, err
	}
	court := &court{Known: k, judged: map[int]Holder{}, mains: map[systemd.Manager]mains{}}
	byInode = map[uint64][]Holder{}
	for inode, having := range processes {
		for _, process := range having {
			byInode[inode] = append(byInode[inode], court.judge(ctx, process))
		}
	}
	return byInode, unseen, nil
}

// managerLimit is how long a service manager has to list its main processes.
const managerLimit = 5 * time.Second

// court remembers what it has asked, for as long as one look at the machine takes.
type court struct {
	Known
	judged map[int]Holder
	mains  map[systemd.Manager]mains
}

// mains is the main processes of a manager's services, or why they are not known.
type mains struct {
	unit map[int]string
	err  error
}

func (c *court) judge(ctx context.Context, process Process) Holder {
	if holder, done := c.judged[process.PID]; done {
		return holder
	}
	holder := Holder{Process: process}
	c.decide(ctx, &holder)
	c.judged[process.PID] = holder
	return holder
}

func (c *court) decide(ctx context.Context, h *Holder) {
	switch {
	case h.PID == c.Manager, h.IsManager():
		h.Role = Systemd
	case h.PID == c.Launcher:
		h.Role = Launcher
	case h.PID == c.Worker, c.Worker != 0 && descends(h.Process, func(pid int) bool { return pid == c.Worker }):
		h.Role = Worker
	case isLauncher(h.PID, h.Argv), becomesLauncher(h.Process), c.launches(h.Process):
		h.Role = Launcher
	case c.belongsToLauncher(h.Process), hasLauncher(h.PID):
		h.Role = Worker
	case !openclaw.IsGateway(h.PID, h.Argv):
		h.Role, h.Why = Foreign, "it is no OpenClaw gateway"
	case !sameNamespace(h.PID):
		// Whoever runs the container starts it again.
		h.Role, h.Why, h.contained = Foreign, "it is an OpenClaw gateway in a container", true
	default:
		c.decideGateway(ctx, h)
	}
}

// decideGateway tells an orphan from a rival. A gateway that starts itself a
// second time, as openclaw.mjs can, is the main process's child; the pair is
// supervised.
func (c *court) decideGateway(ctx context.Context, h *Holder) {
	managers := []systemd.Manager{{}}
	if h.UserUnit || h.UID != 0 {
		managers = append(managers, systemd.Manager{User: true, UID: int(h.UID)})
	}
	for _, manager := range managers {
		known := c.mainsOf(ctx, manager)
		for pid := h.PID; pid > 1; {
			unit, main := known.unit[pid]
			process, err := proctree.Find(pid)
			if main && err == nil && (pid == h.PID || openclaw.IsGateway(pid, commandLine(pid))) {
				h.Role, h.Unit, h.Manager = Rival, unit, manager
				h.Why = fmt.Sprintf("it is an OpenClaw gateway that %s keeps running", unit)
				return
			}
			if main || err != nil {
				break
			}
			pid = process.PPID
		}
		if known.err != nil && manager.User == h.UserUnit && strings.HasSuffix(h.Process.Unit, ".service") {
			h.Role, h.Unit, h.Manager = Rival, h.Process.Unit, manager
			h.Why = fmt.Sprintf("it is an OpenClaw gateway in %s, and whether that keeps it running could not be asked", h.Process.Unit)
			return
		}
	}
	h.Role = Orphan
	h.Why = "it is an OpenClaw gateway that is the main process of no unit"
	if h.Process.Unit != "" {
		h.Why += ", left in " + h.Process.Unit
	}
}

func (c *court) mainsOf(ctx context.Context, manager systemd.Manager) mains {
	if known, asked := c.mains[manager]; asked {
		return known
	}
	// One that hangs must not keep the others from being told.
	ctx, cancel := context.WithTimeout(ctx, managerLimit)
	defer cancel()
	var known mains
	known.unit, known.err = manager.MainPIDs(ctx)
	c.mains[manager] = known
	return known
}

// belongsToLauncher reports whether a process is in the cgroup of a generation, or
// descends from a launcher. A launcher run by hand has no cgroups.
func (c *court) belongsToLauncher(p Process) bool {
	if _, below, found := strings.Cut(p.Cgroup, "/"+units.Service+"/"); found && strings.HasPrefix(below, "generation-") {
		return true
	}
	return descends(p, func(pid int) bool { return pid == c.Launcher || isLauncher(pid, commandLine(pid)) })
}

// hasLauncher reports whether a process is the worker of a launcher that lives,
// whatever program that launcher is: an older one, or a copy run by hand.
func hasLauncher(pid int) bool {
	_, ok := worker.LauncherOf(pid)
	return ok
}

// launches reports whether a process is the launcher of a worker: of one of its
// children, as far as those may be looked into.
func (c *court) launches(p Process) bool {
	children, err := proctree.Descendants(p.PID)
	if err != nil {
		return false
	}
	for _, child := range children {
		if child.PPID != p.PID {
			break // children come before grandchildren
		}
		if launcher, ok := worker.LauncherOf(child.PID); ok && launcher.PID == p.PID {
			return true
		}
	}
	return false
}

// descends reports whether one of a process's ancestors is so.
func descends(p Process, is func(pid int) bool) bool {
	for pid := p.PPID; pid > 1; {
		if is(pid) {
			return true
		}
		process, err := proctree.Find(pid)
		if err != nil {
			return false
		}
		pid = process.PPID
	}
	return false
}

// isLauncher reports whether a process is "gateway run": this program, or another
// edition of it that is the main process of our unit.
func isLauncher(pid int, argv []string) bool {
	if len(argv) < 2 || (argv[1] != "run" && argv[1] != "gateway") {
		return false
	}
	folder := filepath.Join("/proc", strconv.Itoa(pid))
	theirs, err := os.Stat(filepath.Join(folder, "exe"))
	if err == nil {
		if own, err := os.Stat("/proc/self/exe"); err == nil && os.SameFile(own, theirs) {
			return true
		}
	}
	// In our unit, or in a cgroup of its own there, where it has moved to make room
	// for the worker. OpenClaw's own unit can have the same name.
	cgroup, err := os.ReadFile(filepath.Join(folder, "cgroup"))
	ours := strings.Contains(string(cgroup), "/"+units.Service+"\n") || strings.Contains(string(cgroup), "/"+units.Service+"/launcher\n")
	return err == nil && ours && !openclaw.IsGateway(pid, argv)
}

// becomesLauncher reports whether a process is what systemd has forked for our
// unit and has not executed yet: it has the sockets already. Its name is in
// parentheses until then.
func becomesLauncher(p Process) bool {
	if p.Unit != units.Service || !strings.HasPrefix(p.Name, "(") {
		return false
	}
	parent, err := Find(p.PPID)
	return err == nil && parent.IsManager()
}

func commandLine(pid int) []string {
	content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(content), "\x00"), "\x00")
}

// sameNamespace reports whether a process is in this PID namespace, and not in a
// container below it. One that may not be asked counts as one that is.
func sameNamespace(pid int) bool {
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return true
	}
	theirs, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "ns/pid"))
	return err != nil || theirs == own
}
