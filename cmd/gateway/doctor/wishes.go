package doctor

import (
	"fmt"
	"slices"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/doctor/gather"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/netaddr"
)

// sockets are those on, or in conflict with, what is granted.
func (f *Facts) sockets() []holders.Socket {
	granted := f.Granted()
	if len(granted) == len(f.Wanted) {
		return f.Sockets
	}
	return wanting(f.Sockets, granted)
}

// wanting returns the sockets that keep one of the addresses from being bound.
func wanting(sockets []holders.Socket, addresses []netaddr.Address) []holders.Socket {
	var some []holders.Socket
	for _, socket := range sockets {
		socket.Wanted = slices.DeleteFunc(slices.Clone(socket.Wanted), func(a netaddr.Address) bool { return !slices.Contains(addresses, a) })
		if len(socket.Wanted) > 0 {
			some = append(some, socket)
		}
	}
	return some
}

// wished finds who has, in a role, what another user wishes for.
func (f *Facts) wished(role api.Role) []Finding {
	var findings []Finding
	for _, w := range f.Wishes() {
		for _, h := range holders.Each(wanting(f.Sockets, w.Addresses)) {
			if h.Role != role || f.isMain(h) || f.isUnit(h) || w.Launches(h) {
				continue
			}
			finding := Finding{Evidence: inScope(w.By, holding(h)), about: []*gather.Scope{w.By}}
			if w.Holds(h) {
				finding.Summary, finding.Fix = f.heldByHolder(h).Summary, f.remedy(h, w.UID)
			} else {
				finding.theirs = true
				finding.Summary = fmt.Sprintf("%s, which user %s asks for, %s held by a process of user %s: name another one in %s",
					say.Addresses(h.Wanted), systemd.UserName(w.UID), say.Are(len(h.Wanted)), systemd.UserName(int(h.UID)), w.By.Line("listen"))
				finding.Fix = f.edit(w.By)
				if w.By.Config.Path == "" {
					finding.Fix = f.disable(w.By)
				}
			}
			findings = append(findings, finding)
		}
	}
	return findings
}

// isUnit reports whether a manager holds an address for a socket unit of ours.
func (f *Facts) isUnit(h holders.Holder) bool {
	return h.Role == api.RoleSystemd && !slices.ContainsFunc(h.Addresses, func(a netaddr.Address) bool {
		_, ours := f.SocketUnit(a, h.Manager)
		return !ours
	})
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
func (f *Facts) move(s *gather.Scope) string { return then(f.edit(s), f.install(s, f.Program)) }
