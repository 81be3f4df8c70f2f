package holders

import (
	"net/netip"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/say"
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
	// InUnit is the last .service or .scope in Cgroup, "" if there is none. UserUnit: it belongs to a user's manager, and
	// systemctl needs --user for it.
	InUnit   string
	UserUnit bool

	Role api.Role
	// Why is the reason for the role, in words, where it is orphan, rival or foreign.
	Why string
	// RunBy is what keeps it running.
	RunBy RunBy
	// Addresses are those that it holds, a wildcard perhaps; Wanted those of the ones that were asked for which it keeps
	// from being bound.
	Addresses, Wanted []netip.AddrPort

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
	h.InUnit, h.UserUnit = proctree.UnitOf(h.Cgroup)
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

// isManager reports whether the process is systemd itself, the system's or a user's: it holds sockets for socket units.
func (h Holder) isManager() bool {
	return h.Name == "systemd" && (h.PID == 1 || h.InUnit == "init.scope")
}
