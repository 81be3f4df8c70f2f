package holders

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units/instance"
	"openclaw-gateway/worker/proctree"
)

// What a process is to us says its manager: which process is the main one of our unit, and what that unit's control group
// is. A name, a mark in an environment, a control group of one's own, whatever is called like ours, anybody can make. What a
// user's manager says holds for that user's processes.

const (
	// managerLimit is how long a service manager has to answer.
	managerLimit = 5 * time.Second
	// othersLimit is the same for all other users' managers together: each of them can keep whoever asks waiting.
	othersLimit = 3 * time.Second
)

// look remembers what it has asked, for as long as one look at the machine takes.
type look struct {
	Known
	known    map[int]Holder
	said     map[question]answer
	sockets  map[systemd.Manager][]systemd.Properties
	holding  map[int]bool             // the pids of all holders
	own      int                      // pid of the caller's own manager, -1 before it is asked for
	others   time.Time                // when other users' managers have had their time; zero before they are asked
	spent    map[uint32]time.Duration // on deciding what the processes of a user are
	spentAll time.Duration            // the same of all users but root
	closing  time.Time                // when those who have been found are looked at no more; zero before they are
}

// question is what a manager is asked: for ours alone, or for all of its services.
type question struct {
	of  systemd.Manager
	all bool
}

// answer is services, or why they are not known.
type answer struct {
	services []systemd.Service
	err      error
}

// limited gives a question to a manager the time that it may take.
func (l *look) limited(ctx context.Context, of systemd.Manager) (context.Context, context.CancelFunc) {
	if !of.User || of.UID == os.Geteuid() {
		return context.WithTimeout(ctx, managerLimit)
	}
	if l.others.IsZero() {
		l.others = time.Now().Add(othersLimit)
	}
	return context.WithDeadline(ctx, l.others)
}

// closer gives a second look at a holder the time that is left for all of them.
func (l *look) closer(ctx context.Context) (context.Context, context.CancelFunc) {
	if l.closing.IsZero() {
		l.closing = time.Now().Add(closerLimit)
	}
	return context.WithDeadline(ctx, l.closing)
}

func (l *look) ask(ctx context.Context, q question) answer {
	if answer, asked := l.said[q]; asked {
		return answer
	}
	names := []string{instance.Default.Service(), instance.Pattern(".service")}
	switch {
	case q.all:
		names = []string{"*.service"}
	case !q.of.User:
		names = append(names, "user@*.service")
	}
	ctx, cancel := l.limited(ctx, q.of)
	defer cancel()
	var a answer
	a.services, a.err = q.of.Services(ctx, names...)
	l.said[q] = a
	return a
}

// users are the users' managers that the system's knows.
func (l *look) users(ctx context.Context) (of map[int]systemd.Service, known bool) {
	said := l.ask(ctx, question{})
	of = map[int]systemd.Service{}
	for _, service := range said.services {
		name, isUser := strings.CutPrefix(strings.TrimSuffix(service.Name, ".service"), "user@")
		if uid, err := strconv.Atoi(name); isUser && err == nil {
			of[uid] = service
		}
	}
	return of, said.err == nil
}

// managerOf is the manager in whose care a control group is; as far as its path tells where the system's cannot be asked.
func (l *look) managerOf(ctx context.Context, cgroup string) systemd.Manager {
	users, known := l.users(ctx)
	if !known {
		return managerOf(cgroup)
	}
	for uid, service := range users {
		if service.Contains(cgroup) {
			return systemd.Manager{User: true, UID: uid}
		}
	}
	return systemd.Manager{}
}

// manages reports whether a process is a manager, and which.
func (l *look) manages(ctx context.Context, h *Holder) (systemd.Manager, bool) {
	if h.PID == 1 {
		return systemd.Manager{}, h.Name == "systemd" // it may be the program of a container
	}
	own := systemd.Manager{User: true, UID: os.Geteuid()}
	if l.own < 0 {
		l.own, _ = own.PID()
	}
	if h.PID == l.own && int(h.UID) == own.UID {
		return own, true
	}
	users, known := l.users(ctx)
	theirs := systemd.Manager{User: true, UID: int(h.UID)}
	if !known && systemd.Booted() && h.Name == "systemd" && sameFile(h.PID, 1) {
		return theirs, true // nobody is ended whom the system's manager might know
	}
	return theirs, users[theirs.UID].Main == h.PID
}

// asked are the managers whose word on a process counts: the system's, and that of its user.
func (l *look) asked(ctx context.Context, h *Holder) []systemd.Manager {
	theirs := systemd.Manager{User: true, UID: int(h.UID)}
	users, known := l.users(ctx)
	if users[theirs.UID].Main > 0 || theirs.UID == os.Geteuid() && l.own > 0 || !known && h.Manager == theirs {
		return []systemd.Manager{{}, theirs}
	}
	return []systemd.Manager{{}}
}

// ofUnit reports whether a process belongs to a unit of ours that runs the launcher: it is that, descends from it, is in the
// control group of one of its generations, or has its mark.
func (l *look) ofUnit(ctx context.Context, h *Holder) bool {
	for _, manager := range l.asked(ctx, h) {
		for _, service := range l.ask(ctx, question{of: manager}).services {
			name, named := instance.OfUnit(service.Name)
			if !named {
				continue
			}
			launcher, ok := l.launcherOf(ctx, service, h)
			if !ok && h.isIn(manager, service.Name) && isEnding(h.PID) {
				// The launcher, or what a drop-in starts in its stead: systemd may be at the next one, and have no main process now.
				launcher, ok = h.PID, true
			}
			if ok {
				h.Role, h.launcher, h.Manager = api.RoleWorker, launcher, manager
				if launcher == h.PID {
					h.Role = api.RoleLauncher
				}
				h.RunBy = RunBy{Unit: service.Name, Manager: manager, Ours: isOf(name, launcher)}
				return true
			}
		}
	}
	return false
}

func (l *look) launcherOf(ctx context.Context, service systemd.Service, h *Holder) (launcher int, ok bool) {
	for ancestor := range proctree.Ancestry(h.PID) {
		// The main process may be a shell that has started the launcher; OpenClaw's own unit can have our name.
		if launcher == 0 && (runs(ancestor.PID) || ancestor.PID == service.Main && l.isForked(ctx, ancestor.PID)) {
			launcher = ancestor.PID
		}
		if ancestor.PID == service.Main {
			if launcher != 0 {
				return launcher, true
			}
			break
		}
	}
	below, found := strings.CutPrefix(h.Cgroup, service.Cgroup+"/")
	if service.Cgroup != "" && found && strings.HasPrefix(below, "generation-") {
		return service.Main, true
	}
	marked, ok := proctree.LauncherOf(h.PID)
	return marked.PID, ok && marked.PID == service.Main && runs(marked.PID)
}

// isOf reports whether a launcher in the service of an instance is that instance's, and not one that a unit of the same name runs.
func isOf(name instance.Name, launcher int) bool {
	argv := proctree.Argv(launcher)
	return name == instance.Default || len(argv) > 3 && slices.Equal(argv[1:4], append([]string{"run"}, name.Flag()...))
}

// runs reports whether a command line is that of a launcher.
func runs(pid int) bool {
	argv := proctree.Argv(pid)
	return len(argv) > 1 && (argv[1] == "run" || argv[1] == "gateway") && !openclaw.IsGateway(pid, argv)
}

// byHand reports whether a process is a launcher that the caller has started without a manager, or belongs to one. To all
// others it is a stranger, and so it is in a container that somebody runs.
func (l *look) byHand(h *Holder) bool {
	if l.Units || int(h.UID) != os.Geteuid() {
		return false
	}
	found := func(launcher int) bool {
		h.Role, h.launcher = api.RoleWorker, launcher
		if launcher == h.PID {
			h.Role = api.RoleLauncher
		}
		return true
	}
	pid := h.PID
	for ancestor := range proctree.Ancestry(h.PID) {
		if l.isByHand(ancestor.PID) {
			return found(ancestor.PID)
		}
		pid = ancestor.PPID
	}
	if pid == 1 && l.isByHand(pid) { // in a container
		return found(pid)
	}
	if launches(h) {
		return found(h.PID)
	}
	// It has left its launcher's tree, or that one is of another version.
	if marked, ok := proctree.LauncherOf(h.PID); ok && (l.isByHand(marked.PID) || runs(marked.PID) && proctree.Descends(h.PID, marked.PID)) {
		return found(marked.PID)
	}
	return false
}

// isByHand reports whether a process of the caller's is "gateway run": this very program, or whoever has the control socket.
func (l *look) isByHand(pid int) bool {
	h, err := describe(pid)
	if err != nil || int(h.UID) != os.Geteuid() || contained(&h, proctree.Cgroup(os.Getpid())) != nil {
		return false
	}
	return pid == l.Launcher || runs(pid) && sameFile(pid, os.Getpid())
}

// launches reports whether a process is the launcher of a worker, of whatever version: of one of its children, as far as
// those may be looked into.
func launches(h *Holder) bool {
	if !runs(h.PID) {
		return false
	}
	children, err := proctree.Descendants(h.PID)
	if err != nil {
		return false
	}
	for _, child := range children {
		if child.PPID != h.PID {
			break // children come before grandchildren
		}
		if launcher, ok := proctree.LauncherOf(child.PID); ok && launcher.PID == h.PID {
			return true
		}
	}
	return false
}

// sameFile reports whether two processes run the same program.
func sameFile(pid, other int) bool {
	one, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return false
	}
	two, err := os.Stat(fmt.Sprintf("/proc/%d/exe", other))
	return err == nil && os.SameFile(one, two)
}

// keeper returns the service that keeps a process running, in the words of a manager: the one whose main process it is, or
// from whose main process it descends without having left the unit, as whoever has logged in has left sshd's. Whom another
// process has inherited nobody keeps, whatever control group it is still in.
func (l *look) keeper(ctx context.Context, manager systemd.Manager, h *Holder) (systemd.Service, bool) {
	services := l.ask(ctx, question{of: manager, all: true}).services
	for ancestor := range proctree.Ancestry(h.PID) {
		i := slices.IndexFunc(services, func(s systemd.Service) bool { return s.Main == ancestor.PID })
		if i < 0 {
			continue
		}
		// Below a user's manager is all that is that user's.
		if process, err := describe(ancestor.PID); err == nil {
			if _, manages := l.manages(ctx, &process); manages {
				break
			}
		}
		// What opens a session for another user (su -) takes the main process along into it.
		main := systemd.Service{Cgroup: proctree.Cgroup(ancestor.PID)}
		return services[i], services[i].Contains(h.Cgroup) || main.Contains(h.Cgroup)
	}
	return systemd.Service{}, false
}

// unitOf returns the service in whose control group a process is, the innermost, in the words of its manager; false also
// where that cannot be asked.
func (l *look) unitOf(ctx context.Context, h *Holder) (systemd.Service, bool) {
	var unit systemd.Service
	if h.Manager.User && int(h.UID) != h.Manager.UID {
		return unit, false
	}
	for _, service := range l.ask(ctx, question{of: h.Manager, all: true}).services {
		if service.Contains(h.Cgroup) && len(service.Cgroup) > len(unit.Cgroup) {
			unit = service
		}
	}
	return unit, unit.Name != ""
}

// launcherUnit says what keeps a launcher running that was started by hand: a unit perhaps that is not ours.
func (l *look) launcherUnit(ctx context.Context, h *Holder) RunBy {
	launcher, err := describe(cmp.Or(h.launcher, h.PID))
	if err != nil {
		return RunBy{}
	}
	launcher.Manager = l.managerOf(ctx, launcher.Cgroup)
	// Of the caller's own, its control group is believed where its manager cannot be asked.
	name, named := instance.OfUnit(launcher.InUnit)
	if l.ask(ctx, question{of: launcher.Manager, all: true}).err != nil && named && isOf(name, launcher.PID) {
		return RunBy{Unit: launcher.InUnit, Manager: launcher.Manager, Ours: true}
	}
	return l.service(ctx, &launcher)
}
