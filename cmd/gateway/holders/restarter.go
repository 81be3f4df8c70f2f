package holders

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/lazy"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/proctree"
)

// Restarter is a process, and no unit, that starts a holder again when that has ended.
type Restarter struct {
	PID  int
	UID  uint32
	What string   // in words: PM2, or a loop in a shell
	stop []string // what has it leave the holder alone, as its user; nil: its end
}

func (r *Restarter) String() string {
	return fmt.Sprintf("%s, pid %d of user %s,", r.What, r.PID, systemd.UserName(int(r.UID)))
}

// Stop is the command that has it start nothing again.
func (r *Restarter) Stop(by Asker) string {
	argv := r.stop
	if argv == nil {
		argv = []string{"kill", strconv.Itoa(r.PID)}
	}
	return systemd.As(by.UID, int(r.UID), argv...)
}

// Supervisors by the name of their program, or of the script that Node.js or Python runs.
var supervisors = map[string]func(r *Restarter, pid int, argv []string){
	"supervisord": func(r *Restarter, pid int, _ []string) {
		group, _ := proctree.Variable(pid, "SUPERVISOR_GROUP_NAME")
		if name, ok := variable(r, pid, "SUPERVISOR_PROCESS_NAME"); ok {
			r.stop = []string{"supervisorctl", "stop", group + ":" + name}
		}
	},
	"runsv": func(r *Restarter, _ int, _ []string) {
		if folder, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", r.PID)); err == nil {
			r.stop = []string{"sv", "down", folder}
		}
	},
	"s6-supervise": func(r *Restarter, _ int, _ []string) {
		if folder, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", r.PID)); err == nil {
			r.stop = []string{"s6-svc", "-d", folder}
		}
	},
	"nodemon": func(*Restarter, int, []string) {}, "forever": func(*Restarter, int, []string) {}, "pm2-runtime": func(*Restarter, int, []string) {},
}

// variable is one that a supervisor has given to a process. What that process's user could have made up becomes no word of a
// command that another user runs.
func variable(r *Restarter, pid int, name string) (string, bool) {
	if uid, err := userOf(pid); err != nil || uid != r.UID {
		return "", false
	}
	return proctree.Variable(pid, name)
}

// pm2 is how the user of PM2's daemon calls PM2: where that lies beside the daemon's Node.js or in its PATH, as nvm and npm have it,
// nobody else's PATH has it, nor perhaps the Node.js that it asks env(1) for. A home that is not ~/.pm2 stands in the daemon's title.
func (r *Restarter) pm2(title string) (argv []string) {
	_, home, _ := strings.Cut(title, " (")
	if home = strings.TrimSuffix(home, ")"); filepath.IsAbs(home) && home != filepath.Join(systemd.HomeOf(int(r.UID)), ".pm2") {
		argv = []string{"env", "PM2_HOME=" + home}
	}
	node, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", r.PID))
	node = strings.TrimSuffix(node, " (deleted)") // an upgrade has put another in its place
	folders, _ := proctree.Variable(r.PID, "PATH")
	for _, folder := range append([]string{filepath.Dir(node)}, filepath.SplitList(folders)...) {
		found, missing := os.Stat(filepath.Join(folder, "pm2"))
		if err != nil || missing != nil || !filepath.IsAbs(folder) {
			continue
		}
		if own, err := exec.LookPath("pm2"); err == nil {
			if plain, err := os.Stat(own); err == nil && os.SameFile(plain, found) {
				break
			}
		}
		return append(argv, node, filepath.Join(folder, "pm2"))
	}
	return append(argv, "pm2")
}

// userOf is the user who has chosen what a process is started with: root only where all of its users are root. Of one that has
// executed a program of somebody else's (setuid) it is the real one.
func userOf(pid int) (uint32, error) {
	uids, err := proctree.UIDs(pid)
	return uint32(cmp.Or(uids[:]...)), err
}

var (
	shells   = []string{"sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "busybox"}
	repeats  = lazy.Regexp(`\b(while|until|for)\b`)
	runtimes = lazy.Regexp(`^(node|nodejs|bun|python[0-9.]*|perl|ruby)$`)
)

// restarterOf looks for who starts a process again, among those that it descends from.
func restarterOf(h *Holder) *Restarter {
	for ancestor := range proctree.Ancestry(h.PPID) {
		argv := proctree.Argv(ancestor.PID)
		uid, err := userOf(ancestor.PID)
		if len(argv) == 0 || err != nil || proctree.Descends(os.Getpid(), ancestor.PID) {
			continue
		}
		r := &Restarter{PID: ancestor.PID, UID: uid}
		name := filepath.Base(argv[0])
		switch script := script(argv); {
		case openclaw.PM2(argv):
			r.What = "PM2"
			if id, ok := variable(r, h.PID, "pm_id"); ok {
				r.stop = append(r.pm2(argv[0]), "delete", id)
			}
			return r
		case supervisors[name] != nil || runtimes().MatchString(name) && supervisors[script] != nil:
			if r.What = name; supervisors[name] == nil {
				r.What = script
			}
			supervisors[r.What](r, h.PID, argv)
			return r
		case runtimes().MatchString(name) && slices.Contains(argv, "--watch"):
			r.What = "node --watch"
			return r
		case slices.Contains(shells, strings.TrimPrefix(name, "-")) && loops(argv[1:], h.Role):
			r.What = "a loop in a shell"
			return r
		}
	}
	return nil
}

// script is the name of what Node.js or Python runs; "" for none. The monitor of forever is in its folder.
func script(argv []string) string {
	for _, arg := range argv[1:] {
		switch {
		case strings.HasPrefix(arg, "-"):
		case strings.Contains(arg, "/forever/bin/"):
			return "forever"
		default:
			return filepath.Base(arg)
		}
	}
	return ""
}

// loops reports whether a shell's arguments are a loop, as far as it can be told: what is in a script of another user's nobody
// looks at, and nobody starts an OpenClaw by a script that has to go on.
func loops(args []string, role api.Role) bool {
	for i, arg := range args {
		switch {
		case strings.HasPrefix(arg, "-") && strings.HasSuffix(arg, "c"):
			return i+1 < len(args) && repeats().MatchString(args[i+1])
		case !strings.HasPrefix(arg, "-"):
			return role != api.RoleForeign
		}
	}
	return false
}

// restarted says of a holder that no unit keeps running what else does.
func (l *look) restarted(h *Holder) {
	if h.RunBy.Unit != "" || h.RunBy.Container != nil || !slices.Contains(api.Intruders, h.Role) {
		return
	}
	if h.RunBy.Restarter = restarterOf(h); h.RunBy.Restarter != nil {
		h.Why += fmt.Sprintf("; %s starts it again", h.RunBy.Restarter)
	}
}

// Waiting returns the OpenClaw gateways that listen nowhere, belong to nothing of ours, and are started again whenever they give
// up: beside a socket unit they cannot have the port, and take it as soon as that is closed.
func (k Known) Waiting(ctx context.Context) ([]Holder, error) {
	all, err := procfs.AllProcs()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	l := k.newLook()
	var waiting []Holder
	for _, process := range all {
		// The time is for all of them: what others show may be slow to read. Who is not come to is not named.
		if ctx.Err() != nil {
			break
		}
		argv := proctree.Argv(process.PID)
		if !openclaw.Named(argv) {
			continue
		}
		h, err := describe(process.PID)
		if err != nil {
			continue
		}
		if l.decide(ctx, &h); h.Role != api.RoleOrphan || h.RunBy.Restarter == nil {
			continue
		}
		if listens, _ := sockdiag.OpenBy(ctx, h.PID); !slices.ContainsFunc(listens, func(a netaddr.Address) bool { return a.Port() < sockdiag.Ephemeral }) {
			waiting = append(waiting, h)
		}
	}
	return waiting, nil
}
