package holders

import (
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"openclaw-gateway/listener/sockdiag"
)

// InUse explains EADDRINUSE to a person in one sentence: which process holds addr, or the port without listening, and the
// command that ends it. It fits behind the error of a failed bind.
func InUse(addr netip.AddrPort) string {
	sockets, err := sockdiag.Listening(addr)
	if err == nil && len(sockets) == 0 {
		// A connection or a socket that is only bound keeps a port as well.
		sockets, err = sockdiag.Using(addr)
	}
	if err != nil {
		return fmt.Sprintf("%s is in use, but by whom could not be found out (%v): look with `%s`", addr, err, ss(addr))
	}
	inodes := make([]uint64, len(sockets))
	for i, s := range sockets {
		inodes[i] = s.Inode
	}
	byInode, unseen, err := open(inodes...)
	if err != nil {
		return fmt.Sprintf("%s is in use, but by whom could not be found out (%v): look with `%s`", addr, err, ss(addr))
	}
	return explain(addr, sockets, byInode, unseen, os.Geteuid())
}

// explain is the sentence for a caller with that user id, who may not be root.
func explain(addr netip.AddrPort, sockets []sockdiag.Socket, byInode map[uint64][]Holder, unseen, caller int) string {
	var processes []Holder
	var others []string
	owner, held := uint32(0), false
	for _, s := range sockets {
		if s.Inode != 0 && !held {
			owner, held = s.UID, true
		}
		if address := s.Address.String(); !s.Exact && !slices.Contains(others, address) {
			others = append(others, address)
		}
		for _, p := range byInode[s.Inode] {
			if !slices.ContainsFunc(processes, func(other Holder) bool { return other.PID == p.PID }) {
				processes = append(processes, p)
			}
		}
	}
	// The one that gave the socket to the others has to let go first.
	slices.SortStableFunc(processes, func(a, b Holder) int {
		switch {
		case a.isManager() == b.isManager():
			return a.PID - b.PID
		case a.isManager():
			return -1
		default:
			return 1
		}
	})

	subject := addr.String()
	if len(others) > 0 {
		subject += " conflicts with " + list(others) + ", which"
	}
	switch {
	case !held:
		return addr.String() + " is free again, or only waits for the remains of closed connections: try once more in a minute"
	case len(processes) > 0:
		sentence := subject + " is held by " + names(processes) + ": " + remedy(processes, caller)
		if unseen > 0 {
			sentence += fmt.Sprintf(" (more may hold it: %s could not be looked into, %s)", count(unseen), privilege(caller))
		}
		return sentence
	case unseen > 0:
		return fmt.Sprintf("%s is held by a process of user %s that cannot be seen from here, as %s could not be looked into: %s",
			subject, userName(owner), count(unseen), privilege(caller))
	default:
		return fmt.Sprintf("%s is held by a process of user %s outside this PID namespace, or by the kernel: look on the host with `%s`",
			subject, userName(owner), ss(addr))
	}
}

// names lists the processes, three at most.
func names(processes []Holder) string {
	var each []string
	for i, p := range processes {
		if i == 3 {
			each = append(each, fmt.Sprintf("%d more", len(processes)-i))
			break
		}
		one := fmt.Sprintf("pid %d (%s)", p.PID, p.Command)
		if p.PID == os.Getpid() {
			one = fmt.Sprintf("this very process (pid %d)", p.PID)
		}
		if p.InUnit != "" {
			one += " in " + p.InUnit
		}
		if p.UserUnit {
			one += " of user " + userName(p.UID)
		}
		each = append(each, one)
	}
	return list(each)
}

// remedy says how to make the processes let go: systemd by its socket unit, a service by systemctl, as it would be
// started again otherwise, and all others by kill. A scope is no service: a login session's would take everything
// in it along.
func remedy(processes []Holder, caller int) string {
	var steps, pids []string
	own := true
	for _, p := range processes {
		step := ""
		switch {
		case p.PID == os.Getpid():
			return "name the address only once, and not beside a wildcard"
		case p.isManager():
			step = fmt.Sprintf("stop the socket unit that `%s` shows for it", systemctl(p, caller, "list-sockets"))
		case strings.HasSuffix(p.InUnit, ".service"):
			step = fmt.Sprintf("run `%s`", systemctl(p, caller, "stop", p.InUnit))
		default:
			pids = append(pids, strconv.Itoa(p.PID))
			own = own && int(p.UID) == caller
			continue
		}
		if !slices.Contains(steps, step) {
			steps = append(steps, step)
		}
	}
	if len(pids) > 0 {
		command := "kill " + strings.Join(pids, " ")
		if !own {
			command = asRoot(command, caller)
		}
		steps = append(steps, fmt.Sprintf("run `%s`", command))
	}
	return "to free it, " + strings.Join(steps, ", then ")
}

func systemctl(p Holder, caller int, arguments ...string) string {
	words := []string{"systemctl"}
	if p.UserUnit {
		words = append(words, "--user")
		if int(p.UID) != caller {
			// As that user: --machine=NAME@.host needs a D-Bus of hers.
			words = slices.Concat([]string{"runuser", "-u", userName(p.UID), "--", "env", fmt.Sprintf("XDG_RUNTIME_DIR=/run/user/%d", p.UID)}, words)
		}
	}
	for _, a := range arguments {
		if !plainWord.MatchString(a) { // systemd escapes with \x2d and the like; a cgroup's owner can name it at will
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words = append(words, a)
	}
	command := strings.Join(words, " ")
	if p.UserUnit && int(p.UID) == caller {
		return command
	}
	return asRoot(command, caller)
}

// asRoot is how the caller types what only root may do.
func asRoot(command string, caller int) string {
	if caller == 0 {
		return command
	}
	return "sudo " + command
}

var plainWord = regexp.MustCompile(`^[a-zA-Z0-9_@%+=:,./-]+$`)

func privilege(caller int) string {
	if caller == 0 {
		return "run this with CAP_SYS_PTRACE to see all"
	}
	return "run this as root to see all"
}

func ss(addr netip.AddrPort) string {
	return fmt.Sprintf("ss -tanp 'sport = :%d'", addr.Port())
}

// userName is the name for a uid, or the number where there is none.
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

func count(processes int) string {
	if processes == 1 {
		return "1 process"
	}
	return fmt.Sprintf("%d processes", processes)
}

func list(parts []string) string {
	if len(parts) < 2 {
		return strings.Join(parts, "")
	}
	return strings.Join(parts[:len(parts)-1], ", ") + " and " + parts[len(parts)-1]
}
