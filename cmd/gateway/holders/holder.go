package holders

import (
	"fmt"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/proctree"
)

// Holder is a process that has a socket open.
type Holder struct {
	proctree.Process
	// UID is the effective user.
	UID uint32
	// Argv is as the process gives it, and may hold secrets.
	Argv []string
	// Command is Argv for people, see say.Command.
	Command string
	// Cgroup is its control group, see proctree.Cgroup.
	Cgroup string
	// InUnit is the last .service or .scope in Cgroup, "" if there is none: for people, because whoever has a cgroup of its own
	// names at will what is below it.
	InUnit string
	// Manager is the one that it is in the care of, or that it is.
	Manager systemd.Manager
	// Forked says that it is a manager's child that has not been executed yet, and lets go of what it holds by itself.
	Forked bool

	Role api.Role
	// Why is the reason for the role, in words, where it is orphan, rival or foreign.
	Why string
	// RunBy is what keeps it running.
	RunBy RunBy
	// Addresses are those that it holds, a wildcard perhaps; Wanted those of the ones that were asked for which it keeps
	// from being bound.
	Addresses, Wanted []netaddr.Address

	launcher int // of a launcher or a worker: the pid of the former
}

// describe says of a process what can be said without asking anybody, whether or not its descriptors may be read. The
// error is fs.ErrNotExist when there is none.
func describe(pid int) (Holder, error) {
	process, err := proctree.Find(pid)
	if err != nil {
		return Holder{}, err
	}
	uid, err := proctree.UID(pid)
	if err != nil {
		return Holder{}, err
	}
	h := Holder{Process: process, UID: uid, Argv: proctree.Argv(pid), Cgroup: say.Printable(proctree.Cgroup(pid))}
	h.Command, h.Name = say.Command(h.Name, h.Argv), say.Printable(h.Name)
	h.InUnit, _ = proctree.UnitOf(h.Cgroup)
	h.Manager = managerOf(h.Cgroup)
	return h, nil
}

// Manager describes a service manager, also where its descriptors may not be looked into.
func Manager(pid int) Holder {
	h, err := describe(pid)
	if err != nil {
		h = Holder{Process: proctree.Process{PID: pid}, Command: "systemd"}
	}
	h.Role = api.RoleSystemd
	return h
}

// Mine reports whether a holder may be what the user with that id has installed: a manager, a launcher, or its worker, of the
// system's scope or of that user's. Those of another user are in the way.
func (h Holder) Mine(uid int) bool {
	ours := h.Role == api.RoleSystemd || h.Role == api.RoleLauncher || h.Role == api.RoleWorker
	return ours && (!h.Manager.User || h.Manager.UID == uid)
}

// Because is Why, also for what is ours and of another user's scope.
func (h Holder) Because() string {
	switch {
	case h.Why != "" || h.Role == Unseen:
		return h.Why
	case h.Role == api.RoleSystemd:
		return "it is the service manager of user " + systemd.UserName(int(h.UID))
	default:
		return fmt.Sprintf("it is the %s of user %s", h.Role, systemd.UserName(int(h.UID)))
	}
}
