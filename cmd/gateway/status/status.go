package status

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"

	"openclaw-gateway/cmd/gateway/adopt/journal"
	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/dropins"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/lastwords"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/openclaw/commandline"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
	"openclaw-gateway/worker/proctree"
)

// Format is how it is shown.
type Format struct {
	JSON bool
	Full bool // for a person: everything, and nothing is cut
	One  bool // an instance was named, and its status is wanted
}

// Print writes the statuses for a person, or as JSON.
func Print(w io.Writer, all []View, format Format) error {
	if format.JSON {
		return say.JSON(w, tell(all, format.One), "  ")
	}
	_, err := io.WriteString(w, statusText(all, styleFor(w, format)))
	return err
}

// printJSON prints the only value as such, several as an array; without an indent in one line.
func printJSON[T any](w io.Writer, all []T, indent string) error {
	if len(all) == 1 {
		return say.JSON(w, all[0], indent)
	}
	return say.JSON(w, all, indent)
}

// WriteHistory names the scopes where there are several.
func WriteHistory(w io.Writer, all []api.History, several bool, format Format) error {
	if format.JSON && len(all) > 0 {
		return printJSON(w, all, "  ")
	}
	for i, h := range all {
		if several {
			if i > 0 {
				fmt.Fprintln(w)
			}
			of := ""
			if h.Instance != "" {
				of = h.Instance + ", "
			}
			fmt.Fprintf(w, "%s%s scope\n", of, say.Printable(h.Scope))
		}
		text := HistoryText(h)
		if columns := say.Columns(w); columns > 0 && !format.Full {
			lines := strings.Split(text, "\n")
			for i := range lines {
				lines[i] = say.Fit(lines[i], columns)
			}
			text = strings.Join(lines, "\n")
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
	}
	return nil
}

// All is the status of each, and the worst exit status.
func All(ctx context.Context, targets []client.Target) (all []View, exit int) {
	var others context.Context
	users := map[int]context.Context{}
	for _, t := range targets {
		asking := ctx
		if t.Theirs() && others == nil { // not before: one's own may be slow as well
			var cancel context.CancelFunc
			others, cancel = context.WithTimeout(ctx, othersLimit)
			defer cancel()
		}
		if t.Theirs() {
			if users[t.UID] == nil {
				user, cancel := context.WithTimeout(others, userLimit)
				defer cancel()
				users[t.UID] = user
			}
			asking = users[t.UID]
		}
		s := Of(asking, t)
		if t.Theirs() && asking.Err() != nil { // whatever it was taken for, it has not had its time
			s = blank(t)
			s.Problems = append(s.Problems, "it was not asked to the end: launchers of other users have kept root waiting for too long")
		}
		all, exit = append(all, s), max(exit, s.ExitStatus())
	}
	return all, exit
}

// How long other users may keep root waiting: all together, and one with all launchers, of which one may be silent. There is time
// for a look at who holds what as well, on a busy machine, too.
const (
	othersLimit = 5 * time.Second
	userLimit   = client.AnswerLimit + 2*time.Second
)

// Of asks the launcher, and fills in what it cannot know: what the service
// manager says, and what the kernel says to whoever asks.
func Of(ctx context.Context, t client.Target) View {
	told, err := t.Status(ctx)
	if err != nil {
		return withoutLauncher(ctx, t, err)
	}
	s := View{Status: told}
	if s.Launcher.Holder == api.FromSystemd && t.Unit.ActiveState != "" {
		s.Unit = t.Unit
	}
	complete(ctx, t, &s)
	return s
}

// attribute says whose words they are: what another user's launcher tells may be made up.
func (s *View) attribute() {
	for _, words := range [][]string{s.Problems, s.Notes} {
		for i := range words {
			words[i] = fmt.Sprintf("the launcher of %s says: %s", s.wisher, words[i])
		}
	}
}

// complete adds to a launcher's own answer what can be seen from here.
func complete(ctx context.Context, t client.Target, s *View) {
	s.at, s.Instance = t, string(t.Instance) // whatever it is told
	if s.theirs = t.Theirs(); s.theirs {
		s.Unit.User = t.Unit.User
	}
	if s.wisher = Wisher(cmp.Or(t.UID, s.Launcher.UID)); s.wisher != "" {
		s.attribute()
	}
	if s.Launcher.Holder == api.FromSystemd && t.Unit.ActiveState != "" && t.Unit.MainPID != s.Launcher.PID {
		s.Problems = append(s.Problems, fmt.Sprintf("the main process of %s is %d, but the launcher that answers is %d",
			t.Unit.Name, t.Unit.MainPID, s.Launcher.PID))
	}
	if s.Version != api.ProgramVersion() {
		way := "stop \"gateway run\" and start it again for the new one"
		if s.Launcher.Holder == api.FromSystemd {
			way = "`" + t.Manager().Command(os.Geteuid(), "restart", t.Service()) + "` brings the new one, and no client is refused meanwhile"
		}
		s.Problems = append(s.Problems, fmt.Sprintf("the launcher is of version %s, this program of version %s: %s",
			cmp.Or(s.Version, "unknown"), api.ProgramVersion(), way))
	}
	if s.Launcher.Holder == api.FromSystemd && t.Unasked != nil {
		s.Problems = append(s.Problems, t.Unasked.Error())
	}
	var addresses []netaddr.Address
	for _, socket := range s.Sockets {
		if address, err := socket.At(); err == nil {
			addresses = append(addresses, address)
		}
	}
	manager := 0
	if s.Launcher.Holder == api.FromSystemd && !s.theirs {
		manager, _ = t.Manager().PID() // 0 where there is none
	}
	s.addOverrides(t)
	s.addNoUser(t)
	s.addHalf(t)
	s.compareOpenClaw(t)
	ours := slices.Clone(s.Sockets)
	s.look(ctx, addresses, manager)
	s.lookForFiles(ours, t)
	if s.wisher == "" {
		s.lookForEdit(ctx, t)
	}
	s.SetVerdict()
	s.addOverdue()
	s.addClosing(t)
	if !s.theirs {
		lastwords.Ask(t).Complete(ctx, &s.Status)
	}
}

// blank is a status of which nothing is known but what the manager says.
func blank(t client.Target) View {
	return View{at: t, theirs: t.Theirs(), Status: api.Status{
		Instance: string(t.Instance), Version: api.ProgramVersion(), Verdict: api.VerdictDegraded, Problems: []string{}, Notes: []string{}, Unit: t.Unit,
		Sockets: []api.Socket{}, Leaving: []api.Leaving{}, Launcher: api.Launcher{PID: t.Unit.MainPID}, Worker: api.Worker{State: api.StateWaiting, Ends: []api.Ends{}},
	}}
}

// withoutLauncher is the status when no launcher answers, for the reason err: what
// the service manager and the kernel know.
func withoutLauncher(ctx context.Context, t client.Target, err error) View {
	s := blank(t)
	alive := false
	if process, err := proctree.Find(t.Unit.MainPID); t.Unit.MainPID > 0 && err == nil {
		s.Launcher.Since = api.Moment(process.Since())
		alive = !process.Zombie
	}
	switch {
	case errors.Is(err, client.ErrSilent):
		s.Problems = append(s.Problems, silenceOf(t, err))
	case len(t.Overrides) == 0 && commandline.Starts(t.Runs):
		s.Launcher, s.Verdict = api.Launcher{}, api.VerdictDown
		way := fmt.Sprintf("`%s` says what to do about it", gatewayCommand(t, "doctor"))
		if len(t.Listen) == 0 { // there is nothing of ours
			way = fmt.Sprintf("`%s` puts it behind the launcher, and %s", gatewayCommand(t, "adopt"), way)
		}
		s.Problems = append(s.Problems, fmt.Sprintf("%s is OpenClaw's own and not the launcher: it runs %s; %s", t.Unit.Name, say.CommandLine(t.Runs), way))
	case errors.Is(err, client.ErrForbidden):
		s.Notes = append(s.Notes, "what the launcher itself knows is not shown: "+err.Error())
		VerdictFromOutside(t, &s.Status)
	case !errors.Is(err, client.ErrNotRunning):
		s.Problems = append(s.Problems, err.Error())
	case t.Unasked != nil:
		s.Problems = append(s.Problems, t.Unasked.Error())
	case t.Ended != "" || t.Again != "":
		// One that ends again and again is on its way most of the time.
		t = t.Settled(ctx)
		s.Problems = append(s.Problems, restartingOf(t))
		if t.SocketState == "active" {
			s.meets = "clients wait: no launcher comes up"
		}
	case t.Unit.ActiveState == "activating", t.Unit.ActiveState == "deactivating" && t.SocketState == "active":
		// On its way, or between two lives.
		s.Verdict = api.VerdictStarting
	case alive:
		s.Problems = append(s.Problems, fmt.Sprintf("%s runs (pid %d), but nobody answers on %s: it is no launcher, or has lost its runtime directory; `%s` shows it",
			t.Unit.Name, t.Unit.MainPID, t.Control, t.Manager().Command(os.Geteuid(), "status", t.Service())))
	case t.Unit.MainPID > 0 && t.SocketState == "active":
		// It has just died, and systemd is about to see that.
		s.Verdict = api.VerdictStarting
	case t.SocketState == "active" && t.Unit.ActiveState == "inactive" && t.Comes && len(t.Lacks) == 0:
		s.Verdict = api.VerdictStarting // when what it requires is up
	case t.SocketState == "active" && t.Unit.ActiveState == "inactive" && len(t.Lacks) > 0:
		s.meets = "clients wait: no launcher comes up"
		if !slices.ContainsFunc(t.Overrides, func(o dropins.Override) bool { return o.Setting == "Requires" }) {
			s.Problems = append(s.Problems, fmt.Sprintf("systemd does not start %s without %s: `%s` says what to do about it",
				t.Service(), say.List(t.Lacks), gatewayCommand(t, "doctor")))
		}
	case t.SocketState == "active" && t.Unit.ActiveState == "inactive":
		// The port is open and the first client starts everything.
		s.Verdict = api.VerdictWaiting
	default:
		s.Verdict = api.VerdictDown
		s.Problems = append(s.Problems, err.Error())
	}
	s.addHalf(t)
	addresses, wisher := addressesOf(t)
	s.wisher = wisher
	manager := 0
	if t.SocketState == "active" {
		s.Launcher.Holder = api.FromSystemd
	}
	if t.SocketState == "active" && !s.theirs {
		manager, _ = t.Manager().PID() // 0 where there is none
	}
	if noUser := s.addNoUser(t); (s.addOverrides(t) || noUser) && s.Verdict != api.VerdictDown {
		if s.meets == "" && t.SocketState == "active" && errors.Is(err, client.ErrNotRunning) {
			s.meets = "clients wait: no launcher comes up"
		}
		s.Verdict = api.VerdictDegraded
	}
	s.look(ctx, addresses, manager)
	compareSockets(ctx, t, &s, addresses)
	if errors.Is(err, client.ErrNotRunning) {
		s.addKeptWaiting(t)
	}
	// What opens the port helps when whoever has it has let go.
	held := s.Worst() != "" || t.SocketState != "active" && len(s.Sockets) > 0
	if at := slices.Index(s.Problems, err.Error()); held && at >= 0 {
		s.Problems = append(slices.Delete(s.Problems, at, at+1), err.Error())
	}
	s.addClosing(t)
	return s
}

// addClosing is for a stop that waits for the worker: the port is open still, and whoever connects is not served any more.
func (s *View) addClosing(t client.Target) {
	if s.closing = t.Closing && s.Launcher.Holder == api.FromSystemd && s.Worst() == ""; !s.closing {
		return
	}
	s.Verdict = api.VerdictDegraded
	s.Problems = append(s.Problems, fmt.Sprintf("%s is being stopped, and %s after it: `%s` does not wait for the worker",
		t.Service(), t.Socket(), t.Manager().As(os.Geteuid(), append(t.Gateway("stop"), "--now")...)))
}

// addHalf says that an adoption was interrupted.
func (s *View) addHalf(t client.Target) {
	base, err := journal.Base(t.Scope == units.User)
	if t.Theirs() || err != nil {
		return
	}
	for _, half := range journal.Pending(base, t.Instance.Directory()) {
		if half.Instance == t.Instance.Directory() {
			s.Problems = append(s.Problems, fmt.Sprintf("%s, begun at %s, %s: `%s` puts back what was there", half, say.Clock(half.Since), half.Is(),
				t.Manager().As(os.Geteuid(), half.Undo(holders.Me().Program, string(t.Scope))...)))
		}
	}
}

// compareOpenClaw says that another OpenClaw lies where the one that runs was started from: npm, pnpm and the like replace it and
// tell nobody.
func (s *View) compareOpenClaw(t client.Target) {
	runs := s.Worker.OpenClaw
	if runs == nil {
		return
	}
	if lies := openclaw.Installed(runs.Entry); lies != "" && lies != runs.Version {
		s.Notes = append(s.Notes, fmt.Sprintf("OpenClaw %s runs, and %s is installed: `%s` starts that one", runs.Version, lies,
			systemd.Of(t.Scope).As(os.Geteuid(), append([]string{holders.Me().Program}, t.Gateway("restart")[1:]...)...)))
	}
}

// addNoUser says that the service's user is gone, and reports it: systemd cannot start the launcher any more.
func (s *View) addNoUser(t client.Target) bool {
	if t.Theirs() || t.RunsAs == "" {
		return false
	}
	if _, err := systemd.Account(t.RunsAs); !systemd.NoUser(err) {
		return false
	}
	s.Problems = slices.Insert(s.Problems, 0, fmt.Sprintf("%s runs as user %s, and there is no such user: create it again, or `%s` removes the service", t.Service(), t.RunsAs,
		t.Manager().As(os.Geteuid(), t.Gateway("uninstall")...)))
	return true
}

// comes is how long a launcher may take to come up; it answers long before its worker does.
const comes = 10 * time.Second

// addOverdue is for a worker that hangs by what is seen from here, and the launcher does not see it.
func (s *View) addOverdue() {
	i := slices.IndexFunc(s.Sockets, func(socket api.Socket) bool { return socket.Address == s.Overdue() })
	if i < 0 || s.Worker.State != api.StateReady || s.Worker.Hung != nil {
		return
	}
	waits := time.Duration(s.Sockets[i].WaitingS * float64(time.Second))
	s.Problems = append(s.Problems, api.SayHung(s.Worker.Generation, s.Worker.PID, fmt.Sprintf(
		"a client has waited on %s for %s and is not accepted: the worker hangs, or is full", s.Sockets[i].Address, say.Duration(waits))))
	if s.Verdict == api.VerdictOK || s.Verdict == api.VerdictDegraded {
		s.Verdict = api.VerdictHung
	}
}

// addKeptWaiting is for a launcher that should have come up for a client, whatever keeps systemd from starting it: a condition
// that does not hold, a command before it that hangs, a job that it waits for.
func (s *View) addKeptWaiting(t client.Target) {
	for _, socket := range s.Sockets {
		waits := time.Duration(socket.WaitingS * float64(time.Second))
		if waits < comes || s.Verdict != api.VerdictWaiting && s.Verdict != api.VerdictStarting {
			continue
		}
		s.Verdict, s.meets = api.VerdictDegraded, "clients wait: no launcher comes up"
		s.Problems = append(s.Problems, fmt.Sprintf("a client has waited on %s for %s, and systemd has not started the launcher: `%s` says what keeps it",
			socket.Address, say.Duration(waits), t.Manager().Command(os.Geteuid(), "status", t.Service())))
	}
}

// addOverrides says what drop-ins change in our units, and reports whether nobody is served because of it.
func (s *View) addOverrides(t client.Target) (broken bool) {
	if s.Launcher.Holder == api.FromItself {
		return false
	}
	for _, o := range t.Overrides {
		sentence := fmt.Sprintf("%s: `%s` takes that out", o, dropins.Mend(t.Manager(), os.Geteuid(), []dropins.Override{o}))
		if o.Broken {
			broken, s.Problems = true, slices.Insert(s.Problems, 0, sentence)
		} else {
			s.Notes = append(s.Notes, sentence)
		}
	}
	return broken
}

// restartingOf is for a launcher that has ended and that systemd starts again, perhaps
// for ever.
func restartingOf(t client.Target) string {
	return fmt.Sprintf("the launcher %s, and systemd starts it again: `%s` shows why", cmp.Or(t.Ended, t.Again), t.Logs())
}

// gatewayCommand is how the caller asks this program about an instance.
func gatewayCommand(t client.Target, verb string) string {
	argv := t.Gateway(verb)
	if t.Theirs() {
		return t.Manager().As(os.Geteuid(), argv...)
	}
	return say.Shell(argv...)
}

// silenceOf explains a launcher that hangs.
func silenceOf(t client.Target, err error) string {
	text, pid := err.Error(), t.Unit.MainPID
	if pid == 0 { // one that was started by hand has its control socket
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if launcher, err := t.Reach(ctx); err == nil {
			pid = launcher.PID
			launcher.Close()
		}
	}
	if process, err := procfs.NewProc(pid); pid > 0 && err == nil {
		stat, err := process.Stat()
		switch {
		case err == nil && stat.State == "T":
			command := t.Manager().As(os.Geteuid(), "kill", "-CONT", strconv.Itoa(pid))
			return fmt.Sprintf("%s: its process was stopped by a signal, `%s` lets it go on", text, command)
		case err == nil && stat.State == "t": // which no signal ends (ptrace(2))
			return fmt.Sprintf("%s: a debugger has stopped its process, pid %d, and can let it go on", text, pid)
		}
	}
	if t.Unit.MainPID > 0 {
		// A stop would wait for it as long as for a worker.
		command := t.Manager().Command(os.Geteuid(), "kill", "--kill-whom=main", "--signal=KILL", t.Service())
		text += fmt.Sprintf(": `%s` ends it, systemd starts another one, and no client is refused meanwhile", command)
	}
	return text
}

// VerdictFromOutside gives the verdict that the unit allows for.
func VerdictFromOutside(t client.Target, s *api.Status) {
	switch t.Unit.ActiveState {
	case "active":
		s.Verdict = api.VerdictOK
		if strings.HasPrefix(t.Says, api.SaysWaiting) {
			s.Verdict = api.VerdictWaiting
		}
	case "activating":
		if t.Ended == "" {
			s.Verdict = api.VerdictStarting
		}
	case "reloading":
		switch {
		case api.SaysOnItsWay(t.Says):
			s.Verdict = api.VerdictStarting
		case api.SaysHangs(t.Says):
			s.Verdict = api.VerdictHung
		}
	case "deactivating":
		s.Verdict = api.VerdictStarting // its worker is stopping, or another life comes
	case "inactive", "failed":
		s.Verdict = api.VerdictDown
	}
	if t.Says != "" {
		s.Notes = append(s.Notes, "the launcher says to systemd: "+t.Says)
	}
	switch {
	case t.Unasked != nil:
		s.Problems = append(s.Problems, t.Unasked.Error())
	case t.Ended != "":
		s.Problems = append(s.Problems, restartingOf(t))
	case s.Verdict == api.VerdictDegraded:
		s.Problems = append(s.Problems, fmt.Sprintf("%s is %s: no worker serves at the moment", t.Unit.Name, cmp.Or(t.Unit.ActiveState, "unknown")))
	}
	// As for those who may ask: it does not hide that a worker is on its way.
	for _, phrase := range []string{api.SaysRejected, api.SaysRolledBack} {
		if _, why, found := strings.Cut(t.Says, phrase); found {
			s.Problems = append(s.Problems, strings.TrimPrefix(phrase, "; ")+why)
			if s.Verdict != api.VerdictStarting && s.Verdict != api.VerdictDown && s.Verdict != api.VerdictHung {
				s.Verdict = api.VerdictDegraded
			}
			break
		}
	}
}

// compareSockets says where they are not what the socket unit promises.
func compareSockets(ctx context.Context, t client.Target, s *View, addresses []netaddr.Address) {
	for _, address := range addresses {
		i := slices.IndexFunc(s.Sockets, func(socket api.Socket) bool {
			at, err := socket.At()
			return err == nil && at == address
		})
		switch {
		case i < 0 && t.SocketState == "active" && address.IsUnix():
			s.Problems = append(s.Problems, fmt.Sprintf("somebody has removed the file of %s, so no client finds it: `%s`", address,
				t.Manager().Command(os.Geteuid(), "restart", t.Socket())))
		case i < 0 && t.SocketState == "active":
			s.Notes = append(s.Notes, fmt.Sprintf("%s is active, but nothing listens on %s in this network namespace: "+
				"its sockets are in another one, or the machine does not have the address", t.Socket(), address))
		case i >= 0 && t.SocketState != "active" && s.wisher == "" && s.Worst() == "" && s.Verdict == api.VerdictDown:
			// Another launcher, or another socket unit.
			problem := ofUser(ctx, address, s.Sockets[i].Holders)
			if problem == "" {
				problem = holders.InUse(ctx, address)
			}
			s.Problems = append(s.Problems, problem)
		}
	}
}

// ofUser says whose launcher an address belongs to where that is one of a user's
// scope, not to be ended but to be asked; "" where none is known.
func ofUser(ctx context.Context, address netaddr.Address, having []api.Holder) string {
	ctx, cancel := context.WithTimeout(ctx, client.ManagerLimit)
	defer cancel()
	for _, holder := range having {
		// To whom the user's manager cannot be seen, the launcher can.
		if holder.Role != api.RoleLauncher && (holder.Role != api.RoleSystemd || holder.PID == 1) {
			continue
		}
		manager := systemd.Manager{User: true, UID: int(holder.UID)}
		// Of the named ones only those that are up.
		names := []string{instance.Default.Socket(), instance.Pattern(".socket")}
		sockets, err := manager.Show(ctx, names, "Id", "Description", "LoadState", "ActiveState", "Listen")
		if err != nil {
			continue
		}
		for _, socket := range sockets {
			name, ours := instance.OfUnit(socket["Id"])
			if !ours || !dropins.IsInstance(name, nil, socket) || socket["ActiveState"] != "active" || !slices.Contains(socket.Listen(), address) {
				continue
			}
			command := manager.As(os.Geteuid(), append([]string{"gateway", "status", "--user"}, name.Flag()...)...)
			return fmt.Sprintf("%s belongs to the launcher of user %s: `%s` tells of it", address, systemd.UserName(manager.UID), command)
		}
	}
	return ""
}

// addressesOf are those that should be ours, the socket unit's, else those of the configuration, and who besides root and the
// caller asks for them.
func addressesOf(t client.Target) (addresses []netaddr.Address, wisher string) {
	if len(t.Listen) > 0 || t.Theirs() {
		return t.Listen, Wisher(t.UID)
	}
	path := config.Find(t.Instance)
	if cfg, err := config.Load(path); err == nil {
		return cfg.Listen, Wisher(read.Author(path))
	}
	return config.Default().Listen, ""
}
