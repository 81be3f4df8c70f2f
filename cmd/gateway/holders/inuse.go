package holders

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
)

// InUse explains EADDRINUSE to a person in one sentence: which process holds addr, or the port without listening, and what
// to run. It fits behind the error of a failed bind.
func InUse(ctx context.Context, addr netaddr.Address) string { return InUseFor(ctx, addr, "") }

// InUseFor is [InUse], without what to run where it is another user, the wisher, who asks for the address; "" for root and the caller.
func InUseFor(ctx context.Context, addr netaddr.Address, wisher string) string {
	sockets, unseen, err := Known{}.Blocking(ctx, addr)
	if err == nil && len(sockets) == 0 {
		// A connection keeps a port as well.
		sockets, unseen, err = Known{}.newLook().held(ctx, sockdiag.Using, []netaddr.Address{addr})
	}
	if err != nil {
		return fmt.Sprintf("%s is in use, but by whom could not be found out: %v", addr, err)
	}
	return explain(addr, sockets, unseen, Me(), wisher)
}

func explain(addr netaddr.Address, sockets []Socket, unseen int, by Asker, wisher string) string {
	sockets = slices.DeleteFunc(slices.Clone(sockets), func(s Socket) bool { return s.Inode == 0 })
	if len(sockets) == 0 {
		return addr.String() + " is free again, or only waits for the remains of closed connections: try once more in a minute"
	}
	var others []string
	for _, s := range sockets {
		if address := s.Address.String(); !s.Exact && !slices.Contains(others, address) {
			others = append(others, address)
		}
	}
	all := Each(sockets)
	// The one that gave the socket to the others has to let go first.
	slices.SortStableFunc(all, func(a, b Holder) int {
		if (a.Role == api.RoleSystemd) == (b.Role == api.RoleSystemd) {
			return a.PID - b.PID
		}
		if a.Role == api.RoleSystemd {
			return -1
		}
		return 1
	})
	subject := addr.String()
	if len(others) > 0 {
		subject += " conflicts with " + say.List(others) + ", which"
	}
	var who, what []string
	hidden := unseen > 0
	for i, h := range all {
		if h.Role == Unseen && len(all) > 1 {
			continue // whoever is seen comes first
		}
		if remedy := h.remedyHere(by); !slices.Contains(what, remedy) {
			what = append(what, remedy)
		}
		switch {
		case i < 3:
			who = append(who, h.named())
		case i == 3:
			who = append(who, fmt.Sprintf("%d more", len(all)-i))
		}
		hidden = hidden && h.Role != Unseen
	}
	sentence := subject + " is held by " + say.List(who) + ": "
	if wisher != "" {
		return sentence + wisher + " asks for it"
	}
	sentence += strings.Join(what, ", then ")
	if hidden {
		sentence += ", if that is all: " + UnseenNote(unseen, by)
	}
	return sentence
}

// remedyHere is what to do about a holder where somebody has just failed to bind.
func (h Holder) remedyHere(by Asker) string {
	if h.PID == os.Getpid() {
		return "name the address only once, and not beside a wildcard"
	}
	if h.Forked {
		return "it lets go by itself within some seconds, try again then"
	}
	return h.Remedy(by).String()
}

// named tells a holder from all others.
func (h Holder) named() string {
	switch {
	case h.Role == Unseen:
		return "a process of user " + systemd.UserName(int(h.UID)) + " that cannot be seen from here"
	case h.PID == os.Getpid():
		return fmt.Sprintf("this very process (pid %d)", h.PID)
	}
	one := fmt.Sprintf("pid %d (%s)", h.PID, h.Command)
	if h.InUnit != "" {
		one += " in " + h.InUnit
	}
	if h.Manager.User {
		one += " of user " + systemd.UserName(h.Manager.UID)
	}
	return one
}

// UnseenNote says that there may be more holders than those that are seen.
func UnseenNote(unseen int, by Asker) string {
	note := say.Count(unseen, "process") + " could not be looked into, so somebody else may hold the port too: "
	if by.UID == 0 {
		return note + "it takes CAP_SYS_PTRACE, a /proc without hidepid=, and no user with millions of open files"
	}
	return note + "run this as root (sudo) to see all"
}
