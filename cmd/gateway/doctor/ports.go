package doctor

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/dropins"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units"
)

// held returns the processes with that role, each once, that have what root's word or the caller's asks for.
func (f *Facts) held(role api.Role) []holders.Holder {
	return slices.DeleteFunc(holders.Each(f.sockets()), func(h holders.Holder) bool { return h.Role != role || f.isMain(h) })
}

// isMain reports whether a holder is the main process of our own service, which got
// the sockets from systemd; whether it is a launcher is another check's question. The
// service of another user may be called so without being one.
func (f *Facts) isMain(h holders.Holder) bool {
	return slices.ContainsFunc(f.which((*Scope).Installed), func(s *Scope) bool {
		return !f.theirs(s) && s.Service.exists() && s.Service.MainPID == h.PID && h.Role == api.RoleForeign
	})
}

// holding is what is known of a holder.
func holding(h holders.Holder) map[string]any {
	evidence := map[string]any{
		"addresses": say.Texts(h.Addresses), "pid": h.PID, "command": h.Command, "user": systemd.UserName(int(h.UID)), "cgroup": h.Cgroup,
	}
	if h.RunBy.Unit != "" {
		evidence["unit"] = h.RunBy.Unit
	}
	return evidence
}

// heldBy finds the processes with a role that should not hold their addresses.
func heldBy(role api.Role) func(*Facts) []Finding {
	return func(f *Facts) []Finding {
		var findings []Finding
		for _, h := range f.held(role) {
			findings = append(findings, f.heldByHolder(h))
		}
		return append(findings, f.wished(role)...)
	}
}

func (f *Facts) heldByHolder(h holders.Holder) Finding {
	remedy := h.Remedy(f.Asker)
	return Finding{
		Summary: fmt.Sprintf("%s %s held by pid %d: %s; the command %s",
			say.Addresses(h.Addresses), say.Are(len(h.Addresses)), h.PID, h.Because(), remedy.Does),
		Evidence: holding(h), Fix: remedy.Command,
	}
}

func heldByForeign(f *Facts) []Finding {
	findings := heldBy(api.RoleForeign)(f)
	// A launcher of another user's that has no socket unit for it has taken it.
	for _, role := range []api.Role{api.RoleLauncher, api.RoleWorker} {
		for _, h := range f.held(role) {
			if _, has := f.socketUnit(h.Addresses[0], h.Manager); !has && !h.Mine(f.UID) {
				findings = append(findings, f.heldByHolder(h))
			}
		}
	}
	for _, o := range f.otherUnits() {
		findings = append(findings, o.Finding)
	}
	return append(findings, f.wished(api.RoleSystemd)...)
}

// otherUnit is a socket unit that is not ours and has the port.
type otherUnit struct {
	Finding
	address netip.AddrPort
	name    string // "" where that is not known; then the fix only tells how to find it
}

func (f *Facts) otherUnits() []otherUnit {
	var others []otherUnit
	for _, h := range f.held(api.RoleSystemd) {
		if h.Forked {
			continue // it lets go by itself
		}
		h.RunBy.Manager = h.Manager
		for _, address := range h.Addresses {
			unit, ours := f.socketUnit(address, h.RunBy.Manager)
			if ours || unit == nil && f.explained(address) {
				continue
			}
			summary := fmt.Sprintf("%s is held by systemd, pid %d, for another socket unit", address, h.PID)
			if unit != nil {
				summary += ", " + unit.Name
			}
			others = append(others, f.otherUnit(h, address, unit, summary))
		}
	}
	for _, socket := range f.sockets() {
		if s, unit := f.unseenUnit(socket); unit != nil {
			h := holders.Holder{UID: socket.UID, Role: api.RoleSystemd, RunBy: holders.RunBy{Manager: s.Manager}}
			summary := fmt.Sprintf("%s is held by systemd for another socket unit, %s", socket.Address, s.ofScope(unit.Name))
			other := f.otherUnit(h, socket.Address, unit, summary)
			other.Evidence = s.evidence(map[string]any{
				"addresses": []string{socket.Address.String()}, "inode": socket.Inode, "user": systemd.UserName(int(socket.UID)), "unit": unit.Name,
			})
			others = append(others, other)
		}
	}
	return others
}

// otherUnit is the finding of an address that a manager holds for a unit, nil where it is not known which.
func (f *Facts) otherUnit(h holders.Holder, address netip.AddrPort, unit *Unit, summary string) otherUnit {
	h.Addresses = []netip.AddrPort{address}
	other := otherUnit{address: address}
	if unit != nil {
		other.name, h.RunBy.Unit, h.RunBy.Enabled, h.RunBy.Besides = unit.Name, unit.Name, unit.FileState == "enabled", unit.Listen
		for _, started := range holders.Each(f.Sockets) {
			if slices.Contains(started.RunBy.With, unit.Name) {
				h.RunBy.With = append(h.RunBy.With, started.RunBy.Unit)
			}
		}
	}
	remedy := h.Remedy(f.Asker)
	other.Finding = Finding{Summary: summary + "; the command " + remedy.Does, Evidence: holding(h), Fix: remedy.Command}
	return other
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

func heldByUnseen(f *Facts) []Finding {
	var findings []Finding
	for _, socket := range f.sockets() {
		if _, unit := f.unseenUnit(socket); unit != nil || !f.unseen(socket) {
			continue
		}
		summary := fmt.Sprintf("%s is held by a process of user %s that cannot be seen from here", socket.Address, systemd.UserName(int(socket.UID)))
		if f.UID == 0 {
			summary += ", in another PID namespace or by the kernel: look on the host of this container"
		}
		findings = append(findings, Finding{
			Summary: summary, Fix: holders.Each([]holders.Socket{socket})[0].Remedy(f.Asker).Command,
			Evidence: map[string]any{"addresses": []string{socket.Address.String()}, "inode": socket.Inode, "user": systemd.UserName(int(socket.UID))},
		})
	}
	return append(findings, f.wished(holders.Unseen)...)
}

func twoScopes(f *Facts) []Finding {
	var findings []Finding
	installed := f.which((*Scope).Installed)
	for i, one := range installed {
		for _, other := range installed[i+1:] {
			var both []string
			for _, address := range one.Socket.Listen {
				if one.Socket.wants() && other.Socket.wants() && other.Socket.overlaps(address, !one.Socket.IPv6Only) {
					both = append(both, address.String())
				}
			}
			if len(both) == 0 {
				continue
			}
			finding := Finding{
				Summary:  fmt.Sprintf("%s and %s want %s, and only one can have it", one.ofScope(units.Socket), other.ofScope(units.Socket), say.List(both)),
				Evidence: map[string]any{"addresses": both, "one": one.Socket.evidence(), "other": other.Socket.evidence()},
			}
			// The one that has the port stays, or else the first, which is the system's; but no user takes it from root's.
			loser := other
			if other.Socket.active() && !one.Socket.active() && f.theirs(one) == f.theirs(other) {
				loser = one
			}
			if finding.Fix = f.disable(loser); f.theirs(loser) {
				finding.theirs, finding.Fix = true, f.move(loser)
				finding.Summary += fmt.Sprintf(": name another port in %s of user %s", loser.line("listen"), loser.User)
			}
			findings = append(findings, finding)
		}
	}
	return findings
}

func (u *Unit) evidence() string {
	return fmt.Sprintf("%s, %s, %s", u.Path, u.FileState, u.ActiveState)
}

// overlaps reports whether the unit's sockets cannot stand beside one on the address, which takes IPv4 clients too where it is
// the IPv6 wildcard and dual-stack.
func (u *Unit) overlaps(address netip.AddrPort, dualStack bool) bool {
	return slices.ContainsFunc(u.Listen, func(own netip.AddrPort) bool {
		both := dualStack && address.Addr() == netip.IPv6Unspecified() || !u.IPv6Only && own.Addr() == netip.IPv6Unspecified()
		return own == address || config.Clash(own, address) || both && own.Port() == address.Port()
	})
}

// restarted finds who starts an OpenClaw again and again that wants an address of ours, once each.
func restarted(f *Facts) []Finding {
	var findings []Finding
	seen := map[int]bool{}
	for _, h := range f.Waiting {
		again := h.RunBy.Restarter
		if port, _ := openclaw.PortOf(h.Argv, nil); seen[again.PID] || !f.wants(again.UID, cmp.Or(port, openclaw.DefaultPort)) {
			continue
		}
		seen[again.PID] = true
		findings = append(findings, Finding{
			Summary: fmt.Sprintf("%s starts an OpenClaw gateway again and again, at the moment pid %d, which waits for the port and takes it when the socket is closed",
				again, h.PID),
			Evidence: map[string]any{"pid": h.PID, "command": h.Command, "restarter": again.PID, "user": systemd.UserName(int(h.UID))},
			Fix:      again.Stop(f.Asker),
		})
	}
	return findings
}

// wants reports whether a port is asked for by root or the caller, or by the user whose process it is to be taken from.
func (f *Facts) wants(uid uint32, port int) bool {
	addresses := f.granted()
	for _, w := range f.wishes() {
		if w.uid == int(uid) {
			addresses = append(addresses, w.addresses...)
		}
	}
	return slices.ContainsFunc(addresses, func(a netip.AddrPort) bool { return int(a.Port()) == port })
}

func openclawUnit(f *Facts) []Finding {
	var findings []Finding
	for i := range f.Scopes {
		s := &f.Scopes[i]
		wanted := f.granted()
		if f.theirs(s) {
			wanted = f.Wanted // it is this user's in any case
		}
		for _, unit := range s.OpenClaw {
			// Of the service's name, it is what our own socket would start.
			triggered := unit.Name == units.Service && s.Socket.exists()
			if triggered && unit.Ours {
				continue // a drop-in has it start OpenClaw, which is a finding of its own
			}
			// With a port of its own, as another profile has, it is nobody's rival.
			elsewhere := unit.Port != 0 && !slices.ContainsFunc(wanted, func(a netip.AddrPort) bool { return int(a.Port()) == unit.Port })
			if !triggered && (elsewhere || !unit.enabled() && !unit.running()) {
				continue
			}
			fix := f.systemctl(s.Manager, "disable", "--now", unit.Name)
			switch {
			case triggered:
				// "gateway install" leaves alone what it has not written.
				move := s.Manager.As(f.UID, "mv", unit.Path, unit.Path+".bak")
				steps := []string{fix, move}
				if len(s.Overrides) > 0 {
					steps = append(steps, f.mend(s, dropins.Lasting(s.Overrides)))
				}
				fix = then(append(steps, f.install(s, f.Program, "--now"))...)
			case slices.Contains([]string{"transient", "static", "generated"}, unit.FileState): // none can be disabled
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
