package doctor

import (
	"fmt"
	"net/netip"
	"slices"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
)

// wish is what another user than root and the caller asks for, and nobody else. Into a configuration any address can be
// written, one of root's services too: that it is held is that user's affair, and no reason to end who holds it.
type wish struct {
	by        *Scope
	uid       int
	addresses []netip.AddrPort
}

func (f *Facts) wishes() []wish {
	var all []wish
	var granted []netip.AddrPort
	for i := range f.Scopes {
		s := &f.Scopes[i]
		add := func(uid int, addresses []netip.AddrPort) {
			if uid == 0 || uid == f.UID {
				granted = append(granted, addresses...)
			} else {
				all = append(all, wish{s, uid, slices.Clone(addresses)})
			}
		}
		add(s.Manager.UID, s.Socket.Listen) // the system's are in root's folder
		if s.Config.Loaded != nil {
			add(s.author(), s.Config.Loaded.Listen)
		}
		if s.Launcher != nil {
			add(s.Listener.UID, addressesOf(s.Launcher))
		}
	}
	for i := range all {
		all[i].addresses = slices.DeleteFunc(all[i].addresses, func(a netip.AddrPort) bool { return slices.Contains(granted, a) })
	}
	return slices.DeleteFunc(all, func(w wish) bool { return len(w.addresses) == 0 })
}

// launches reports whether a holder is the launcher that this user has started by hand, or its worker.
func (w wish) launches(h holders.Holder) bool {
	return w.by.answers() && w.uid == int(h.UID) && (h.PID == w.by.Listener.PID || h.PPID == w.by.Listener.PID)
}

// addressesOf are those on which a launcher says that it listens.
func addressesOf(l *api.Status) []netip.AddrPort {
	var addresses []netip.AddrPort
	for _, socket := range l.Sockets {
		// One that is no address is no answer of a launcher's.
		if address, err := socket.At(); err == nil {
			addresses = append(addresses, address)
		}
	}
	return addresses
}

// granted is what root's word or the caller's asks for.
func (f *Facts) granted() []netip.AddrPort {
	granted := slices.Clone(f.Wanted)
	for _, w := range f.wishes() {
		granted = slices.DeleteFunc(granted, func(a netip.AddrPort) bool { return slices.Contains(w.addresses, a) })
	}
	return granted
}

// sockets are those on, or in conflict with, what is granted.
func (f *Facts) sockets() []holders.Socket {
	granted := f.granted()
	if len(granted) == len(f.Wanted) {
		return f.Sockets
	}
	return wanting(f.Sockets, granted)
}

// wanting returns the sockets that keep one of the addresses from being bound.
func wanting(sockets []holders.Socket, addresses []netip.AddrPort) []holders.Socket {
	var some []holders.Socket
	for _, socket := range sockets {
		socket.Wanted = slices.DeleteFunc(slices.Clone(socket.Wanted), func(a netip.AddrPort) bool { return !slices.Contains(addresses, a) })
		if len(socket.Wanted) > 0 {
			some = append(some, socket)
		}
	}
	return some
}

// wished finds who has, in a role, what another user wishes for.
func (f *Facts) wished(role api.Role) []Finding {
	var findings []Finding
	for _, w := range f.wishes() {
		for _, h := range holders.Each(wanting(f.Sockets, w.addresses)) {
			if h.Role != role || f.isMain(h) || f.isUnit(h) || w.launches(h) {
				continue
			}
			finding := Finding{Evidence: w.by.evidence(holding(h))}
			if w.holds(h) {
				finding.Summary, finding.Fix = f.heldByHolder(h).Summary, f.remedy(h, w.uid)
			} else {
				finding.theirs = true
				finding.Summary = fmt.Sprintf("%s, which user %s asks for, %s held by a process of user %s: name another one in %s",
					say.Addresses(h.Wanted), systemd.UserName(w.uid), say.Are(len(h.Wanted)), systemd.UserName(int(h.UID)), w.by.line("listen"))
				finding.Fix = f.edit(w.by)
				if w.by.Config.Path == "" {
					finding.Fix = f.disable(w.by)
				}
			}
			findings = append(findings, finding)
		}
	}
	return findings
}

// wishOf is what a user's unit asks for.
func wishOf(s *Scope) wish { return wish{s, s.Manager.UID, s.Socket.Listen} }

// isUnit reports whether a manager holds an address for a socket unit of ours.
func (f *Facts) isUnit(h holders.Holder) bool {
	return h.Role == api.RoleSystemd && !slices.ContainsFunc(h.Addresses, func(a netip.AddrPort) bool {
		_, ours := f.socketUnit(a, h.Manager)
		return !ours
	})
}

// holds reports whether a holder is that user's own, with all that keeps it running.
func (w wish) holds(h holders.Holder) bool {
	own := h.RunBy.Unit == "" || h.RunBy.Manager == systemd.Manager{User: true, UID: w.uid}
	return int(h.UID) == w.uid && own && h.RunBy.Container == nil && h.Role != holders.Unseen && h.Role != api.RoleSystemd
}

// remedy is the holder's remedy, as its user.
func (f *Facts) remedy(h holders.Holder, uid int) string {
	switch {
	case h.RunBy.Unit != "", h.Role == api.RoleLauncher, h.Role == api.RoleWorker:
		return h.Remedy(f.Asker).Command
	case h.Role == api.RoleForeign:
		return systemd.As(f.UID, uid, h.Reclaim(f.Asker, "--force")...)
	default:
		return systemd.As(f.UID, uid, h.Reclaim(f.Asker)...)
	}
}

// move lets a scope have another address than the one that it asks for.
func (f *Facts) move(s *Scope) string { return then(f.edit(s), f.install(s, f.Program)) }
