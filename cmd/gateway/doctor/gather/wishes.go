package gather

import (
	"slices"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/netaddr"
)

// Wish is what another user than root and the caller asks for, and nobody else. Into a configuration any address can be
// written, one of root's services too: that it is held is that user's affair, and no reason to end who holds it.
type Wish struct {
	By        *Scope
	UID       int
	Addresses []netaddr.Address
}

// Wishes are all of them.
func (f *Facts) Wishes() []Wish {
	var all []Wish
	var granted []netaddr.Address
	for i := range f.Scopes {
		s := &f.Scopes[i]
		add := func(uid int, addresses []netaddr.Address) {
			if uid == 0 || uid == f.UID {
				granted = append(granted, addresses...)
			} else {
				all = append(all, Wish{s, uid, slices.Clone(addresses)})
			}
		}
		add(s.Manager.UID, s.Socket.Listen) // the system's are in root's folder
		if s.Config.Loaded != nil {
			add(s.Author(), s.Config.Loaded.Listen)
		}
		if s.Launcher != nil {
			add(s.Listener.UID, AddressesOf(s.Launcher))
		}
	}
	for i := range all {
		all[i].Addresses = slices.DeleteFunc(all[i].Addresses, func(a netaddr.Address) bool { return slices.Contains(granted, a) })
	}
	return slices.DeleteFunc(all, func(w Wish) bool { return len(w.Addresses) == 0 })
}

// Launches reports whether a holder is the launcher that this user has started by hand, or its worker.
func (w Wish) Launches(h holders.Holder) bool {
	return w.By.Answers() && w.UID == int(h.UID) && (h.PID == w.By.Listener.PID || h.PPID == w.By.Listener.PID)
}

// AddressesOf are those on which a launcher says that it listens.
func AddressesOf(l *api.Status) []netaddr.Address {
	var addresses []netaddr.Address
	for _, socket := range l.Sockets {
		// One that is no address is no answer of a launcher's.
		if address, err := socket.At(); err == nil {
			addresses = append(addresses, address)
		}
	}
	return addresses
}

// Granted is what root's word or the caller's asks for.
func (f *Facts) Granted() []netaddr.Address {
	granted := slices.Clone(f.Wanted)
	for _, w := range f.Wishes() {
		granted = slices.DeleteFunc(granted, func(a netaddr.Address) bool { return slices.Contains(w.Addresses, a) })
	}
	return granted
}

// WishOf is what a user's unit asks for.
func WishOf(s *Scope) Wish { return Wish{s, s.Manager.UID, s.Socket.Listen} }

// Holds reports whether a holder is that user's own, with all that keeps it running.
func (w Wish) Holds(h holders.Holder) bool {
	own := h.RunBy.Unit == "" || h.RunBy.Manager == systemd.Manager{User: true, UID: w.UID}
	return int(h.UID) == w.UID && own && h.RunBy.Container == nil && h.Role != holders.Unseen && h.Role != api.RoleSystemd
}
