package holders

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/dropins"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/units/instance"
)

// Asker is who is told what to run.
type Asker struct {
	UID     int
	Program string // how to call this program
}

// Me is the caller.
func Me() Asker {
	return Asker{UID: os.Geteuid(), Program: program()}
}

// Reclaim is the command that frees addresses, with options.
func (a Asker) Reclaim(addresses []netaddr.Address, options ...string) []string {
	return slices.Concat([]string{a.Program, "reclaim"}, options, say.Texts(addresses))
}

// AsOwner is a command line that only root and the user with that id may run.
func (a Asker) AsOwner(uid int, argv ...string) string {
	if uid == a.UID {
		return say.Shell(argv...)
	}
	return systemd.As(a.UID, 0, argv...)
}

// Executable is the file of this program, where it really lies; "" where that is not known.
func Executable() string {
	file, err := os.Executable()
	if err != nil {
		return ""
	}
	if resolved, err := filepath.EvalSymlinks(file); err == nil {
		return resolved
	}
	return file
}

// program is "gateway" where a shell finds this very program by that name, and its path elsewhere.
func program() string {
	file := Executable()
	if file == "" {
		return "gateway"
	}
	if found, err := exec.LookPath("gateway"); err == nil {
		if resolved, err := filepath.EvalSymlinks(found); err == nil && resolved == file {
			return "gateway"
		}
	}
	return file
}

// Remedy is what to run so that a holder lets go of its addresses, and what that does to it. It never stops more than what
// holds them.
type Remedy struct{ Command, Does string }

func (r Remedy) String() string { return fmt.Sprintf("`%s` %s", r.Command, r.Does) }

// Remedy says what to run: it depends on what the holder is to us, who asks, and what keeps it running.
func (h Holder) Remedy(by Asker) Remedy {
	switch h.Role {
	case api.RoleOrphan:
		return h.ended(by, Remedy{h.reclaim(by), "ends it"})
	case api.RoleRival, api.RoleForeign:
		return h.end(by)
	case api.RoleLauncher, api.RoleWorker:
		return h.stop(by)
	case api.RoleSystemd:
		return h.close(by)
	default:
		return h.show(by)
	}
}

// end is the remedy for a process that is not ours.
func (h Holder) end(by Asker) Remedy {
	switch {
	case h.RunBy.Container != nil && h.RunBy.Unit == "":
		return h.RunBy.Container.remedy(h, by)
	case slices.ContainsFunc(h.RunBy.Overrides, func(o dropins.Override) bool { return o.Broken }):
		// To stop it would leave the socket, whose next client starts it again.
		return Remedy{dropins.Mend(h.RunBy.Manager, by.UID, h.RunBy.Overrides), "has the unit start the launcher instead"}
	case h.Role == api.RoleRival && h.RunBy.Triggered:
		scope := "--system"
		if h.RunBy.Manager.User {
			scope = "--user"
		}
		return Remedy{h.RunBy.Manager.As(by.UID, by.Program, "doctor", scope), "says how the launcher comes back in its place"}
	case h.RunBy.Unit == "":
		// And not kill(1): it proves that the process is still there and still the one, holds the address, and has ended.
		return h.ended(by, Remedy{h.reclaim(by, "--force"), "ends it" + h.alsoServes(", and with it what it serves on ", "")})
	case h.Role == api.RoleRival && h.RunBy.Enabled:
		return Remedy{h.RunBy.command(by.UID, true), "ends it for good"}
	case h.Role == api.RoleForeign && len(h.others()) > 0:
		return Remedy{h.RunBy.Manager.Command(by.UID, "status", h.RunBy.Unit), fmt.Sprintf("shows it%s: take %s out of its configuration; `%s` would stop all of it",
			h.alsoServes(", which serves ", " as well"), say.Addresses(h.Addresses), h.RunBy.command(by.UID, false))}
	default:
		return Remedy{h.RunBy.command(by.UID, false), "stops it"}
	}
}

// ended has what starts it again stop that first.
func (h Holder) ended(by Asker, r Remedy) Remedy {
	if again := h.RunBy.Restarter; again != nil {
		r.Command = again.Stop(by) + " && " + r.Command
		r.Does += ", for good"
	}
	return r
}

// alsoServes says what would be stopped with the port, in words around it; "" where that is nothing.
func (h Holder) alsoServes(before, after string) string {
	others := h.others()
	if len(others) == 0 {
		return ""
	}
	return before + say.Addresses(others) + after
}

// stop is the remedy for a launcher, which takes its worker along.
func (h Holder) stop(by Asker) Remedy {
	switch {
	case h.RunBy.Ours:
		scope := "--system"
		if h.RunBy.Manager.User {
			scope = "--user"
		}
		of, _ := instance.OfUnit(h.RunBy.Unit)
		return Remedy{h.RunBy.Manager.As(by.UID, append([]string{by.Program, "stop", scope}, of.Flag()...)...), "stops the launcher and its worker, and closes the port"}
	case h.RunBy.Unit != "":
		return Remedy{h.RunBy.command(by.UID, false), "stops the launcher and its worker"}
	default:
		return Remedy{systemd.As(by.UID, int(h.UID), "kill", strconv.Itoa(cmp.Or(h.launcher, h.PID))), "stops the launcher and its worker"}
	}
}

// close is the remedy for what a service manager holds for a socket unit.
func (h Holder) close(by Asker) Remedy {
	switch {
	case h.RunBy.Ours:
		return h.stop(by)
	case h.RunBy.Unit == "":
		return Remedy{h.Manager.Command(by.UID, "list-sockets"), "shows which socket unit it is: stop that"}
	case len(h.others()) > 0:
		return Remedy{h.RunBy.Manager.Command(by.UID, "cat", h.RunBy.Unit), fmt.Sprintf("shows it%s: take %s out of it; `%s` would close all of it",
			h.alsoServes(", which listens on ", " as well"), say.Addresses(h.Addresses), h.RunBy.command(by.UID, h.RunBy.Enabled))}
	case h.RunBy.Enabled:
		return Remedy{h.RunBy.command(by.UID, true), "closes it for good"}
	default:
		return Remedy{h.RunBy.command(by.UID, false), "closes it"}
	}
}

// show is the remedy for a holder that cannot be seen from here.
func (h Holder) show(by Asker) Remedy {
	if by.UID != 0 {
		return Remedy{systemd.As(by.UID, 0, h.Reclaim(by, "--dry-run")...), "shows who it is"}
	}
	kind, filter := "-tanp", fmt.Sprintf("sport = :%d", h.Wanted[0].Port())
	if h.Wanted[0].IsUnix() {
		kind, filter = "-xlp", "src "+h.Wanted[0].Path()
	}
	return Remedy{say.Shell("ss", kind, filter), "shows who it is, on the host of this container"}
}

func (h Holder) reclaim(by Asker, options ...string) string {
	return by.AsOwner(int(h.UID), h.Reclaim(by, options...)...)
}

// Reclaim is the command that frees what the holder keeps of the addresses that were asked for, with options. Where an IPv4
// address is in the way of the IPv6 wildcard, that is to be dual-stack.
func (h Holder) Reclaim(by Asker, options ...string) []string {
	argv := slices.Concat([]string{by.Program, "reclaim"}, options)
	for _, wanted := range h.Wanted {
		argv = append(argv, say.Address(wanted, slices.ContainsFunc(h.Addresses, func(a netaddr.Address) bool {
			return a.Addr().Is4() && a.Port() == wanted.Port()
		})))
	}
	return argv
}
