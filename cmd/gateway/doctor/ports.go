package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units"
)

// holding is a process with the wanted addresses that it keeps from us.
type holding struct {
	holders.Holder
	addresses []netip.AddrPort
}

// held returns the processes with that role, each once.
func (f *Facts) held(role holders.Role) []holding {
	var all []holding
	for _, socket := range f.Sockets {
		for _, holder := range socket.Holders {
			if holder.Role != role || f.isMain(holder) {
				continue
			}
			i := slices.IndexFunc(all, func(h holding) bool { return h.PID == holder.PID })
			if i < 0 {
				i, all = len(all), append(all, holding{Holder: holder})
			}
			all[i].addresses = append(all[i].addresses, socket.Address)
		}
	}
	return all
}

// isMain reports whether a holder is the main process of our own service, which got
// the sockets from systemd; whether it is a launcher is another check's question.
func (f *Facts) isMain(h holders.Holder) bool {
	return slices.ContainsFunc(f.installed(), func(s *Scope) bool {
		return s.Service.runsMain(h.PID) && h.Role == holders.Foreign
	})
}

func (u *Unit) runsMain(pid int) bool { return u.exists() && u.running() && u.MainPID == pid }

func (h holding) summary() string {
	return fmt.Sprintf("%s %s held by pid %d: %s", addresses(h.addresses), h.are(), h.PID, h.Why)
}

func (h holding) are() string {
	if len(h.addresses) > 1 {
		return "are"
	}
	return "is"
}

func (h holding) evidence() map[string]any {
	words := []string{}
	for _, address := range h.addresses {
		words = append(words, address.String())
	}
	return map[string]any{
		"addresses": words, "pid": h.PID, "command": h.Command, "user": systemd.UserName(int(h.UID)), "cgroup": h.Cgroup,
	}
}

func heldByOrphan(f *Facts) []Finding {
	var findings []Finding
	for _, h := range f.held(holders.Orphan) {
		findings = append(findings, Finding{Summary: h.summary(), Evidence: h.evidence(), Fix: f.free(h)})
	}
	return findings
}

func heldByRival(f *Facts) []Finding {
	var findings []Finding
	for _, h := range f.held(holders.Rival) {
		evidence := h.evidence()
		evidence["unit"] = h.Unit
		findings = append(findings, Finding{Summary: h.summary(), Evidence: evidence, Fix: f.free(h)})
	}
	return findings
}

func heldByForeign(f *Facts) []Finding {
	var findings []Finding
	for _, h := range f.held(holders.Foreign) {
		findings = append(findings, Finding{Summary: h.summary(), Evidence: h.evidence(), Fix: f.free(h)})
	}
	for _, o := range f.otherUnits() {
		findings = append(findings, o.Finding)
	}
	return findings
}

// otherUnit is a socket unit that is not ours and has the port.
type otherUnit struct {
	Finding
	address netip.AddrPort
	name    string // "" where that is not known; then the fix only tells how to find it
}

func (f *Facts) otherUnits() []otherUnit {
	var others []otherUnit
	for _, h := range f.held(holders.Systemd) {
		manager := managerOf(h.Holder)
		for _, address := range h.addresses {
			unit, ours := f.socketUnit(address, manager)
			if ours || unit == nil && f.explained(address) {
				continue
			}
			other := otherUnit{address: address, Finding: Finding{
				Summary:  fmt.Sprintf("%s is held by systemd, pid %d, for another socket unit", address, h.PID),
				Evidence: h.evidence(),
				Fix:      f.systemctl(manager, "list-sockets") + "  # stop the unit that it shows for " + address.String(),
			}}
			if unit != nil {
				other.name = unit.Name
				other.Evidence["unit"] = unit.Name
				other.Summary += ", " + unit.Name
				other.Fix = f.systemctl(manager, "disable", "--now", unit.Name)
			}
			others = append(others, other)
		}
	}
	for _, socket := range f.Sockets {
		s, unit := f.unseenUnit(socket)
		if unit == nil {
			continue
		}
		others = append(others, otherUnit{address: socket.Address, name: unit.Name, Finding: Finding{
			Summary: fmt.Sprintf("%s is held by systemd for another socket unit, %s", socket.Address, s.ofScope(unit.Name)),
			Evidence: s.evidence(map[string]any{
				"addresses": []string{socket.Address.String()}, "inode": socket.Inode, "user": systemd.UserName(int(socket.UID)), "unit": unit.Name,
			}),
			Fix: f.systemctl(s.Manager, "disable", "--now", unit.Name),
		}})
	}
	return others
}

// unseen reports whether nobody can be seen who has the socket open, nor a unit of ours that explains it.
func (f *Facts) unseen(socket holders.Socket) bool {
	return len(socket.Holders) == 0 && !f.explained(socket.Address)
}

// unseenUnit returns the socket unit that must have a socket open whose holder cannot be seen, and its scope; nil where
// none does. Without root nobody may look into the descriptors of the system's manager, nor, as seen with systemd 257,
// into those of one's own.
func (f *Facts) unseenUnit(socket holders.Socket) (*Scope, *Unit) {
	if !f.unseen(socket) {
		return nil, nil
	}
	for i := range f.Scopes {
		s := &f.Scopes[i]
		if unit, _ := f.socketUnit(socket.Address, s.Manager); unit != nil && s.Manager.UID == int(socket.UID) {
			return s, unit
		}
	}
	return nil, nil
}

// managerOf is the manager that a process is.
func managerOf(h holders.Holder) systemd.Manager {
	if h.PID == 1 {
		return systemd.Manager{}
	}
	return systemd.Manager{User: true, UID: int(h.UID)}
}

func heldByUnseen(f *Facts) []Finding {
	var findings []Finding
	for _, socket := range f.Sockets {
		if _, unit := f.unseenUnit(socket); unit != nil || !f.unseen(socket) {
			continue
		}
		summary := fmt.Sprintf("%s is held by a process of user %s that cannot be seen from here", socket.Address, systemd.UserName(int(socket.UID)))
		fix := f.asRoot(f.Program + " doctor")
		if f.UID == 0 {
			summary += ", in another PID namespace or by the kernel"
			fix = fmt.Sprintf("ss -tlnp 'sport = :%d'  # on the host of this container", socket.Address.Port())
		}
		findings = append(findings, Finding{
			Summary: summary, Fix: fix,
			Evidence: map[string]any{"addresses": []string{socket.Address.String()}, "inode": socket.Inode, "user": systemd.UserName(int(socket.UID))},
		})
	}
	return findings
}

// free is the command that makes a process let go of its addresses, for good.
func (f *Facts) free(h holding) string {
	words := make([]string, len(h.addresses))
	for i, address := range h.addresses {
		words[i] = systemd.Quote(address.String())
	}
	reclaim := func(flags string) string {
		command := fmt.Sprintf("%s reclaim %s%s", f.Program, flags, strings.Join(words, " "))
		if int(h.UID) == f.UID {
			return command
		}
		return f.asRoot(command)
	}
	switch {
	case h.Role == holders.Orphan:
		return reclaim("")
	case h.Role == holders.Rival:
		for _, s := range f.Scopes {
			if slices.ContainsFunc(s.OpenClaw, func(u Unit) bool { return s.Manager == h.Manager && u.Name == h.Unit && u.stopOnly() }) {
				return f.systemctl(h.Manager, "stop", h.Unit)
			}
		}
		return f.systemctl(h.Manager, "disable", "--now", h.Unit)
	case h.Role == holders.Foreign && strings.HasSuffix(h.InUnit, ".service"):
		manager := systemd.Manager{}
		if h.UserUnit {
			manager = systemd.Manager{User: true, UID: int(h.UID)}
		}
		return f.systemctl(manager, "stop", h.InUnit)
	case h.Role == holders.Foreign:
		return reclaim("--force ")
	case int(h.UID) == f.UID:
		return fmt.Sprintf("kill %d", h.PID)
	default:
		return f.asRoot(fmt.Sprintf("kill %d", h.PID))
	}
}

func twoScopes(f *Facts) []Finding {
	var findings []Finding
	installed := f.installed()
	for i, one := range installed {
		for _, other := range installed[i+1:] {
			var both []string
			for _, address := range one.Socket.Listen {
				if one.Socket.wants() && other.Socket.wants() && slices.ContainsFunc(other.Socket.Listen, overlaps(address)) {
					both = append(both, address.String())
				}
			}
			if len(both) == 0 {
				continue
			}
			// The one that has the port stays, or else the first, which is the system's.
			loser := other
			if other.Socket.active() && !one.Socket.active() {
				loser = one
			}
			findings = append(findings, Finding{
				Summary:  fmt.Sprintf("%s and %s want %s, and only one can have it", one.ofScope(units.Socket), other.ofScope(units.Socket), strings.Join(both, " and ")),
				Evidence: map[string]any{"addresses": both, "one": one.Socket.evidence(), "other": other.Socket.evidence()},
				Fix:      f.disable(loser),
			})
		}
	}
	return findings
}

// stopOnly reports whether a unit cannot be disabled.
func (u *Unit) stopOnly() bool {
	return u.FileState == "transient" || u.FileState == "static" || u.FileState == "generated"
}

func (u *Unit) evidence() string {
	return fmt.Sprintf("%s, %s, %s", u.Path, u.FileState, u.ActiveState)
}

// overlaps returns whether two addresses cannot be bound together, by sockets that
// are IPV6_V6ONLY as our unit makes them.
func overlaps(a netip.AddrPort) func(netip.AddrPort) bool {
	return func(b netip.AddrPort) bool {
		return a == b || config.Clash(a, b)
	}
}

func openclawUnit(f *Facts) []Finding {
	var findings []Finding
	for i := range f.Scopes {
		s := &f.Scopes[i]
		for _, unit := range s.OpenClaw {
			// Of the service's name, it is what our own socket would start.
			triggered := unit.Name == units.Service && s.Socket.exists()
			// With a port of its own, as another profile has, it is nobody's rival.
			elsewhere := unit.Port != 0 && !slices.ContainsFunc(f.Wanted, func(a netip.AddrPort) bool { return int(a.Port()) == unit.Port })
			if !triggered && (elsewhere || !unit.enabled() && !unit.running()) {
				continue
			}
			fix := f.systemctl(s.Manager, "disable", "--now", unit.Name)
			switch {
			case triggered:
				// "gateway install" leaves alone what it has not written.
				move := "mv " + systemd.Quote(unit.Path) + " " + systemd.Quote(unit.Path+".bak")
				if s.Name == units.System || s.Manager.UID != f.UID {
					move = f.asRoot(move)
				}
				fix = then(fix, move, f.gateway(s, "install", "--now"))
			case unit.stopOnly():
				fix = f.systemctl(s.Manager, "stop", unit.Name)
			}
			findings = append(findings, Finding{
				Summary: fmt.Sprintf("OpenClaw's own %s starts OpenClaw beside the launcher, and competes with it for the port", s.ofScope(unit.Name)),
				Evidence: s.evidence(map[string]any{
					"unit": unit.Name, "file": unit.Path, "unit_file_state": unit.FileState, "active_state": unit.ActiveState, "main_pid": unit.MainPID,
				}),
				Fix: fix,
			})
		}
	}
	return findings
}
