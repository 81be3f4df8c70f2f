package holders

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/dropins"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/lazy"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/units/instance"
	"openclaw-gateway/worker/proctree"
)

// RunBy is what keeps a holder running; the zero value is nothing.
type RunBy struct {
	// Unit is the service that consists of the holder, or the socket unit for which a manager holds an address.
	Unit    string
	Manager systemd.Manager
	// With are the units that are stopped with it, because they hold the address as well: the sockets of a service, the
	// service of a socket.
	With []string
	// Enabled says that it is started at boot. A unit that is transient, static or generated cannot be disabled.
	Enabled bool
	// Ours says that it is one of the units that "gateway install" writes.
	Ours bool
	// Triggered says that our socket starts it again for the next client, whatever stops it.
	Triggered bool
	// Overrides are what drop-ins change in our units, so that ours runs something else.
	Overrides []dropins.Override
	// Restarter is what starts it again where no unit does; nil for nothing.
	Restarter *Restarter
	// Container is the container that it is in; nil for none.
	Container *Container
	// Besides is where else it serves, or a socket unit listens: what would be stopped with it.
	Besides []netaddr.Address
	Main    int // the unit's main process; 0 where that is not known
}

// command stops the unit, for good where that is asked for.
func (r RunBy) command(caller int, forGood bool) string {
	verb := []string{"stop"}
	if forGood {
		verb = []string{"disable", "--now"}
	}
	names := append([]string{r.Unit}, r.With...)
	if slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, "-") }) {
		verb = append(verb, "--")
	}
	return r.Manager.Command(caller, append(verb, names...)...)
}

// What is below a unit, whoever has been given that (Delegate=, systemd.resource-control(5)) names at will: only what stands
// above the first one, and that one itself, root has named.
var (
	firstUnit   = lazy.Regexp(`(?s)^.*?/[^/]+\.(?:service|scope)(?:/|$)`)
	userManager = lazy.Regexp(`/user@(\d+)\.service/$`)
)

// rootsPart is as much of a control group's path as root has named.
func rootsPart(cgroup string) string {
	if part := firstUnit().FindString(cgroup); part != "" {
		return part
	}
	return cgroup
}

// managerOf is the manager in whose care a control group is, as far as its path tells.
func managerOf(cgroup string) systemd.Manager {
	if match := userManager().FindStringSubmatch(rootsPart(cgroup)); match != nil {
		if uid, err := strconv.Atoi(match[1]); err == nil {
			return systemd.Manager{User: true, UID: uid}
		}
	}
	return systemd.Manager{}
}

// service says what keeps a process running that is in a service: that service, if there is nothing else in it.
func (l *look) service(ctx context.Context, h *Holder) RunBy {
	unit, in := l.unitOf(ctx, h)
	if !in {
		return RunBy{} // also where the manager cannot be asked
	}
	return l.serviceOf(ctx, h.Manager, unit, h)
}

// serviceOf is a service if a process is all that is in it, or shares with its main process what it holds. Who was started
// by a cron job, a login or a supervisor of many is not kept by that alone.
func (l *look) serviceOf(ctx context.Context, manager systemd.Manager, unit systemd.Service, h *Holder) RunBy {
	if strings.HasPrefix(unit.Name, "user@") { // all that a user runs
		return RunBy{}
	}
	if unit.Main == 0 || h.PID != unit.Main && !l.holding[unit.Main] && !Alone(h.PID, unit.Main) {
		return RunBy{}
	}
	r := l.unit(ctx, manager, unit.Name)
	r.Main = unit.Main
	return r
}

// serves returns where a foreign process listens, or the service that it is in.
func (l *look) serves(ctx context.Context, h *Holder) []netaddr.Address {
	pids := []int{h.PID}
	if h.RunBy.Main != 0 {
		pids = proctree.Tree(h.RunBy.Main)
	}
	ctx, cancel := l.closer(ctx)
	defer cancel()
	addresses, _ := sockdiag.OpenBy(ctx, pids...)
	return addresses
}

// others are where a holder serves besides: on other ports, because another address of the same one goes with it.
func (h Holder) others() []netaddr.Address {
	var others []netaddr.Address
	for _, address := range h.RunBy.Besides {
		same := func(a netaddr.Address) bool { return a.Port() == address.Port() && a.Path() == address.Path() }
		if address.Port() < sockdiag.Ephemeral && !slices.ContainsFunc(h.Addresses, same) && !slices.ContainsFunc(h.Wanted, same) && !slices.Contains(others, address) {
			others = append(others, address)
		}
	}
	return others
}

// Alone reports whether a process that descends from a service's main process is all that the service does: the main one
// is a shell or npm, and waits for it.
func Alone(pid, main int) bool {
	session, err := unix.Getsid(pid)
	if err != nil || session != main {
		return false
	}
	related := map[int]bool{}
	for ancestor := range proctree.Ancestry(pid) {
		related[ancestor.PID] = true
	}
	below, err := proctree.Descendants(pid)
	all, second := proctree.Descendants(main)
	if err != nil || second != nil {
		return false
	}
	for _, process := range below {
		related[process.PID] = true
	}
	return related[main] && !slices.ContainsFunc(all, func(p proctree.Process) bool { return !related[p.PID] && !p.Zombie })
}

// unit asks for what has to be known of a service to stop it.
func (l *look) unit(ctx context.Context, manager systemd.Manager, name string) RunBy {
	r := RunBy{Unit: name, Manager: manager}
	ctx, cancel := l.limited(ctx, manager)
	defer cancel()
	properties, err := manager.Unit(ctx, name, "UnitFileState", "TriggeredBy")
	if err != nil {
		return r
	}
	if of, named := instance.OfUnit(name); named {
		r.Ours = of == instance.Default
		ours, err := manager.Show(ctx, []string{of.Socket(), of.Service()}, dropins.Properties...)
		if err == nil && len(ours) == 2 && dropins.IsInstance(of, ours[1], ours[0]) {
			r.Ours = true
			if !manager.User || manager.UID == os.Geteuid() { // it reads the drop-ins
				r.Overrides = dropins.In(ours)
			}
		}
	}
	r.Enabled = properties["UnitFileState"] == "enabled"
	for trigger := range strings.FieldsSeq(properties["TriggeredBy"]) {
		// Ours is not to be closed for somebody who has been given it (Sockets=, systemd.service(5)).
		switch of, ours := instance.OfUnit(trigger); {
		case ours && of.Service() == name:
			r.Triggered = r.Ours
		case strings.HasSuffix(trigger, ".socket") && !ours:
			r.With = append(r.With, trigger)
		}
	}
	return r
}

// socketUnit names the unit for which a manager holds an address; the zero value where it cannot be asked, or has none.
func (l *look) socketUnit(ctx context.Context, manager systemd.Manager, address netaddr.Address) RunBy {
	ctx, cancel := l.limited(ctx, manager)
	defer cancel()
	all, asked := l.sockets[manager]
	if !asked {
		all, _ = manager.Show(ctx, []string{"*.socket"}, "Id", "Description", "LoadState", "ActiveState", "UnitFileState", "Listen", "Triggers")
		l.sockets[manager] = all
	}
	for _, socket := range all {
		if socket["ActiveState"] != "active" || !slices.Contains(socket.Listen(), address) {
			continue
		}
		of, named := instance.OfUnit(socket["Id"])
		r := RunBy{
			Unit: socket["Id"], Manager: manager, Enabled: socket["UnitFileState"] == "enabled",
			Ours: named && dropins.IsInstance(of, nil, socket), Besides: socket.Listen(),
		}
		for service := range strings.FieldsSeq(socket["Triggers"]) {
			if state, err := manager.Unit(ctx, service, "ActiveState"); err == nil && state["ActiveState"] != "inactive" {
				r.With = append(r.With, service)
			}
		}
		return r
	}
	return RunBy{}
}
