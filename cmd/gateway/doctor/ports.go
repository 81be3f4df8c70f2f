package doctor

import (
	"cmp"
	"fmt"
	"slices"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/doctor/gather"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/openclaw/commandline"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/netaddr"
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
	if h.Role == api.RoleRival {
		// Of OpenClaw's service in the place of ours another check tells.
		return slices.ContainsFunc(f.Which((*gather.Scope).Replaced), func(s *gather.Scope) bool {
			return s.Manager == h.RunBy.Manager && s.Instance.Service() == h.RunBy.Unit
		})
	}
	return slices.ContainsFunc(f.Which((*gather.Scope).Installed), func(s *gather.Scope) bool {
		return !f.Theirs(s) && s.Service.Exists() && s.Service.MainPID == h.PID && h.Role == api.RoleForeign
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
	finding := Finding{
		Summary: fmt.Sprintf("%s %s held by pid %d: %s; the command %s",
			say.Addresses(h.Addresses), say.Are(len(h.Addresses)), h.PID, h.Because(), remedy.Does),
		Evidence: holding(h), Fix: remedy.Command, about: f.wanters(h.Wanted...),
	}
	for i := range f.Scopes {
		for _, unit := range f.Scopes[i].OpenClaw {
			if h.Role == api.RoleRival && f.Scopes[i].Manager == h.RunBy.Manager && unit.Name == h.RunBy.Unit && f.adoptable(&unit) {
				finding.Summary = fmt.Sprintf("%s %s held by pid %d: %s; the command puts it behind the launcher, and %s",
					say.Addresses(h.Addresses), say.Are(len(h.Addresses)), h.PID, h.Because(), remedy)
				finding.Fix = f.gateway(&f.Scopes[i], "adopt", unit.Name)
			}
		}
	}
	return finding
}

// adoptable reports whether a unit is OpenClaw's own, as it has written it, on a machine where there is nothing of ours: who has that
// has an OpenClaw that serves, and wants it kept from harm, not ended.
func (f *Facts) adoptable(unit *gather.Unit) bool {
	return unit.Marked && commandline.Starts(unit.Argv) && !slices.Contains(undisabled, unit.FileState) &&
		len(f.Which((*gather.Scope).Installed)) == 0 && len(f.Which((*gather.Scope).Answers)) == 0
}

// undisabled are the states of units that cannot be disabled: they are of no file that an administrator, or OpenClaw, has written.
var undisabled = []string{"transient", "static", "generated"}

// wanters are the instances that ask for one of the addresses.
func (f *Facts) wanters(addresses ...netaddr.Address) []*gather.Scope {
	return f.Which(func(s *gather.Scope) bool {
		wanted := slices.Clone(s.Socket.Listen)
		if s.Config.Loaded != nil {
			wanted = append(wanted, s.Config.Loaded.Listen...)
		}
		return slices.ContainsFunc(wanted, func(a netaddr.Address) bool { return slices.Contains(addresses, a) })
	})
}

func heldByForeign(f *Facts) []Finding {
	findings := heldBy(api.RoleForeign)(f)
	// A launcher of another user's that has no socket unit for it has taken it.
	for _, role := range []api.Role{api.RoleLauncher, api.RoleWorker} {
		for _, h := range f.held(role) {
			if _, has := f.SocketUnit(h.Addresses[0], h.Manager); !has && !h.Mine(f.UID) {
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
	address netaddr.Address
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
			unit, ours := f.SocketUnit(address, h.RunBy.Manager)
			if ours || unit == nil && f.Explained(address) {
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
			summary := fmt.Sprintf("%s is held by systemd for another socket unit, %s", socket.Address, s.OfScope(unit.Name))
			other := f.otherUnit(h, socket.Address, unit, summary)
			other.Evidence = inScope(s, map[string]any{
				"addresses": []string{socket.Address.String()}, "inode": socket.Inode, "user": systemd.UserName(int(socket.UID)), "unit": unit.Name,
			})
			others = append(others, other)
		}
	}
	return others
}

// otherUnit is the finding of an address that a manager holds for a unit, nil where it is not known which.
func (f *Facts) otherUnit(h holders.Holder, address netaddr.Address, unit *gather.Unit, summary string) otherUnit {
	h.Addresses = []netaddr.Address{address}
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
	other.Finding = Finding{Summary: summary + "; the command " + remedy.Does, Evidence: holding(h), Fix: remedy.Command, about: f.wanters(address)}
	return other
}

// unseen reports whether nobody can be seen who has the socket open, nor a unit of ours that explains it.
func (f *Facts) unseen(socket holders.Socket) bool {
	return len(socket.Holders) == 0 && !f.Explained(socket.Address)
}

// unseenUnit returns the socket unit that must have a socket open whose holder cannot be seen, and its scope; nil where
// none does. Without root nobody may look into the descriptors of the system's manager, nor, as seen with systemd 257,
// into those of one's own.
func (f *Facts) unseenUnit(socket holders.Socket) (*gather.Scope, *gather.Unit) {
	if !f.unseen(socket) {
		return nil, nil
	}
	for i := range f.Scopes {
		s := &f.Scopes[i]
		if unit, _ := f.SocketUnit(socket.Address, s.Manager); unit != nil && s.Manager.UID == int(socket.UID) {
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
	installed := f.Which((*gather.Scope).Installed)
	for i, one := range installed {
		for _, other := range installed[i+1:] {
			var both []string
			for _, address := range one.Socket.Listen {
				if one.Socket.Wants() && other.Socket.Wants() && other.Socket.Overlaps(address, !one.Socket.IPv6Only) {
					both = append(both, address.String())
				}
			}
			if len(both) == 0 {
				continue
			}
			finding := Finding{
				about:    []*gather.Scope{one, other},
				Summary:  fmt.Sprintf("%s and %s want %s, and only one can have it", one.OfScope(one.Instance.Socket()), other.OfScope(other.Instance.Socket()), say.List(both)),
				Evidence: map[string]any{"addresses": both, "one": described(&one.Socket), "other": described(&other.Socket)},
			}
			loser := f.loser(one, other)
			if finding.Fix = f.disable(loser); f.Theirs(loser) {
				finding.theirs, finding.Fix = true, f.move(loser)
				finding.Summary += fmt.Sprintf(": name another port in %s of user %s", loser.Line("listen"), loser.User)
			}
			findings = append(findings, finding)
		}
	}
	return findings
}

// loser is the one of two that has to go: the one that runs stays, or else the first, which is the system's; but no user takes
// anything from root's.
func (f *Facts) loser(one, other *gather.Scope) *gather.Scope {
	if other.Socket.Active() && !one.Socket.Active() && f.Theirs(one) == f.Theirs(other) {
		return one
	}
	return other
}

// stateShared finds instances that run an OpenClaw on the same state directory: it has a lock there, and one of them waits for ever.
// Into a configuration a user can write any directory; that is told where it is about that user's own.
func stateShared(f *Facts) []Finding {
	var findings []Finding
	installed := f.Which((*gather.Scope).Installed)
	for i, one := range installed {
		for _, other := range installed[i+1:] {
			if one.Config.StateDir == "" || one.Config.StateDir != other.Config.StateDir || !one.Socket.Wants() || !other.Socket.Wants() ||
				other.Name == units.User && other.UID() != one.UID() {
				continue
			}
			loser, first := f.loser(one, other), one
			if loser == one {
				first = other
			}
			findings = append(findings, Finding{
				about: []*gather.Scope{one, other},
				Summary: fmt.Sprintf("%s and %s run an OpenClaw on the same state directory, %s, and only one can: give the second one another, by --profile in worker.command "+
					"or OPENCLAW_STATE_DIR in worker.environment, in %s", first.OfScope(first.Instance.Service()), loser.OfScope(loser.Instance.Service()), one.Config.StateDir, loser.Config.Path),
				Evidence: map[string]any{"directory": one.Config.StateDir, "one": first.Config.Path, "other": loser.Config.Path},
				Fix:      f.edit(loser),
			})
		}
	}
	return findings
}

func described(u *gather.Unit) string {
	return fmt.Sprintf("%s, %s, %s", u.Path, u.FileState, u.ActiveState)
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
	addresses := f.Granted()
	for _, w := range f.Wishes() {
		if w.UID == int(uid) {
			addresses = append(addresses, w.Addresses...)
		}
	}
	return slices.ContainsFunc(addresses, func(a netaddr.Address) bool { return int(a.Port()) == port })
}

func openclawUnit(f *Facts) []Finding {
	var findings []Finding
	for i := range f.Scopes {
		s := &f.Scopes[i]
		wanted := f.Granted()
		if f.Theirs(s) {
			wanted = f.Wanted // it is this user's in any case
		}
		for _, unit := range s.OpenClaw {
			// Of the service's name, it is what our own socket would start.
			triggered := unit.Name == s.Instance.Service() && s.Socket.Exists()
			if triggered && unit.Ours {
				continue // a drop-in has it start OpenClaw, which is a finding of its own
			}
			// With a port of its own, as another profile has, it is nobody's rival.
			elsewhere := unit.Port != 0 && !slices.ContainsFunc(wanted, func(a netaddr.Address) bool { return int(a.Port()) == unit.Port })
			if !triggered && (elsewhere || !unit.Enabled() && !unit.Running()) {
				continue
			}
			fix := f.systemctl(s.Manager, "disable", "--now", unit.Name)
			switch {
			case triggered:
				fix = f.comeBack(s)
			case f.adoptable(&unit):
				fix = f.gateway(s, "adopt", unit.Name)
			case slices.Contains(undisabled, unit.FileState):
				fix = f.systemctl(s.Manager, "stop", unit.Name)
			}
			summary := fmt.Sprintf("OpenClaw's own %s starts OpenClaw beside the launcher, and competes with it for the port", s.OfScope(unit.Name))
			if len(f.Which((*gather.Scope).Installed)) == 0 && len(f.Which((*gather.Scope).Answers)) == 0 {
				summary = fmt.Sprintf("OpenClaw's own %s starts OpenClaw without a launcher: `gateway adopt` puts it behind one, or the fix ends it", s.OfScope(unit.Name))
			}
			if f.adoptable(&unit) {
				summary = fmt.Sprintf("OpenClaw's own %s starts OpenClaw without a launcher: the command puts it behind one, and with --dry-run it says how; `%s` ends it",
					s.OfScope(unit.Name), f.systemctl(s.Manager, "disable", "--now", unit.Name))
			}
			if triggered {
				summary = fmt.Sprintf("%s is OpenClaw's own, in the place of ours: it starts OpenClaw without the launcher, which cannot bind the port that the "+
					"socket unit has, and clients hang", s.OfScope(unit.Name))
			}
			findings = append(findings, Finding{
				about:   []*gather.Scope{s},
				Summary: summary,
				Evidence: inScope(s, map[string]any{
					"unit": unit.Name, "file": unit.Path, "unit_file_state": unit.FileState, "active_state": unit.ActiveState, "main_pid": unit.MainPID,
				}),
				Fix: fix,
			})
		}
	}
	return findings
}
