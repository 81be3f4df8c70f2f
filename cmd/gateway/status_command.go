package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/prometheus/procfs"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/listener/holders"
	"openclaw-gateway/units"
)

func printStatus(w io.Writer, all []view, asJSON bool) error {
	if asJSON {
		return printJSON(w, statuses(all))
	}
	_, err := io.WriteString(w, statusText(all, painterFor(w)))
	return err
}

// statuses is what is told of each to programs.
func statuses(all []view) []Status {
	told := make([]Status, len(all))
	for i, s := range all {
		told[i] = s.Status
	}
	return told
}

func statusText(all []view, p painter) string {
	blocks := make([]string, len(all))
	for i, s := range all {
		blocks[i] = s.text(p)
	}
	return strings.Join(blocks, "\n")
}

// printJSON prints the only value as such, several as an array.
func printJSON[T any](w io.Writer, all []T) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	if len(all) == 1 {
		return encoder.Encode(all[0])
	}
	return encoder.Encode(all)
}

// writeHistory names the scopes where there are several.
func writeHistory(w io.Writer, all []History, several, asJSON bool) error {
	if asJSON && len(all) > 0 {
		return printJSON(w, all)
	}
	for i, h := range all {
		if several {
			if i > 0 {
				fmt.Fprintln(w)
			}
			fmt.Fprintf(w, "%s scope\n", h.Scope)
		}
		if _, err := io.WriteString(w, historyText(h)); err != nil {
			return err
		}
	}
	return nil
}

// statusOf asks the launcher, and fills in what it cannot know: what the service
// manager says, and what the kernel says to whoever asks.
func statusOf(ctx context.Context, t target) view {
	told, err := t.greet(ctx)
	if err != nil {
		return withoutLauncher(ctx, t, err)
	}
	s := view{Status: told}
	if s.Launcher.Holder == bySystemd && t.unit.ActiveState != "" {
		s.Unit = t.unit
	}
	complete(ctx, t, &s)
	return s
}

// complete adds to a launcher's own answer what can be seen from here.
func complete(ctx context.Context, t target, s *view) {
	if s.Launcher.Holder == bySystemd && t.unit.ActiveState != "" && t.unit.MainPID != s.Launcher.PID {
		s.Problems = append(s.Problems, fmt.Sprintf("the main process of %s is %d, but the launcher that answers is %d",
			t.unit.Name, t.unit.MainPID, s.Launcher.PID))
	}
	if s.Version != programVersion() {
		way := "stop \"gateway run\" and start it again for the new one"
		if s.Launcher.Holder == bySystemd {
			way = "`" + systemd.Of(t.scope).Command(os.Geteuid(), "restart", units.Service) + "` brings the new one, and no client is refused meanwhile"
		}
		s.Problems = append(s.Problems, fmt.Sprintf("the launcher is of version %s, this program of version %s: %s",
			cmp.Or(s.Version, "unknown"), programVersion(), way))
	}
	if s.Launcher.Holder == bySystemd && t.unasked != nil {
		s.Problems = append(s.Problems, t.unasked.Error())
	}
	var addresses []netip.AddrPort
	for _, socket := range s.Sockets {
		if address, err := netip.ParseAddrPort(socket.Address); err == nil {
			addresses = append(addresses, address)
		}
	}
	manager := 0
	if s.Launcher.Holder == bySystemd {
		manager = managerOf(t)
	}
	s.look(ctx, addresses, manager)
	s.judge()
}

// managerOf is the pid of the service manager; 0 where there is none.
func managerOf(t target) int {
	pid, err := systemd.Of(t.scope).PID()
	if err != nil {
		return 0
	}
	return pid
}

// withoutLauncher is the status when no launcher answers, for the reason err: what
// the service manager and the kernel know.
func withoutLauncher(ctx context.Context, t target, err error) view {
	s := view{Status: Status{
		Version: programVersion(), Verdict: VerdictDegraded, Problems: []string{}, Notes: []string{}, Unit: t.unit,
		Sockets: []SocketStatus{}, Launcher: LauncherStatus{PID: t.unit.MainPID}, Worker: WorkerStatus{State: StateWaiting},
	}}
	alive := false
	if process, err := holders.Find(t.unit.MainPID); t.unit.MainPID > 0 && err == nil {
		s.Launcher.Since = moment(process.Since())
		alive = len(process.Argv) > 0 // not a zombie
	}
	switch {
	case errors.Is(err, errSilent):
		s.Problems = append(s.Problems, silenceOf(t, err))
	case errors.Is(err, errForbidden):
		s.Notes = append(s.Notes, "what the launcher itself knows is not shown: "+err.Error())
		judgeFromOutside(t, &s.Status)
	case !errors.Is(err, errNotRunning):
		s.Problems = append(s.Problems, err.Error())
	case t.unasked != nil:
		s.Problems = append(s.Problems, t.unasked.Error())
	case t.ended != "":
		s.Problems = append(s.Problems, restartingOf(t))
	case t.unit.ActiveState == "activating", t.unit.ActiveState == "deactivating" && t.socket == "active":
		// On its way, or between two lives.
		s.Verdict = VerdictStarting
	case alive:
		s.Problems = append(s.Problems, fmt.Sprintf("%s runs (pid %d), but nobody answers on %s: it is no launcher, or has lost its runtime directory; `%s` shows it",
			t.unit.Name, t.unit.MainPID, t.control, systemd.Of(t.scope).Command(os.Geteuid(), "status", units.Service)))
	case t.unit.MainPID > 0 && t.socket == "active":
		// It has just died, and systemd is about to see that.
		s.Verdict = VerdictStarting
	case t.socket == "active" && t.unit.ActiveState == "inactive":
		// The port is open and the first client starts everything.
		s.Verdict = VerdictWaiting
	default:
		s.Verdict = VerdictDown
		s.Problems = append(s.Problems, err.Error())
	}
	addresses, manager := addressesOf(t), 0
	if t.socket == "active" {
		manager = managerOf(t)
		s.Launcher.Holder = bySystemd
	}
	s.look(ctx, addresses, manager)
	compareSockets(ctx, t, &s, addresses)
	return s
}

// restartingOf is for a launcher that has ended and that systemd starts again, perhaps
// for ever.
func restartingOf(t target) string {
	return fmt.Sprintf("the launcher ended with %s and systemd is about to start it again: `gateway logs --%s` shows why", t.ended, t.scope)
}

// silenceOf explains a launcher that hangs.
func silenceOf(t target, err error) string {
	text := err.Error()
	if process, err := procfs.NewProc(t.unit.MainPID); t.unit.MainPID > 0 && err == nil {
		if stat, err := process.Stat(); err == nil && (stat.State == "T" || stat.State == "t") {
			command := fmt.Sprintf("kill -CONT %d", t.unit.MainPID)
			if t.scope != units.User {
				command = systemd.AsRoot(os.Geteuid(), command)
			}
			return fmt.Sprintf("%s: its process was stopped by a signal or a debugger, `%s` lets it go on", text, command)
		}
	}
	if t.unit.MainPID > 0 {
		text += fmt.Sprintf(": `%s` starts another one, and no client is refused meanwhile", systemd.Of(t.scope).Command(os.Geteuid(), "restart", units.Service))
	}
	return text
}

// judgeFromOutside gives the verdict that the unit allows for.
func judgeFromOutside(t target, s *Status) {
	switch t.unit.ActiveState {
	case "active":
		s.Verdict = VerdictOK
		if strings.HasPrefix(t.says, saysWaiting) {
			s.Verdict = VerdictWaiting
		}
	case "activating":
		if t.ended == "" {
			s.Verdict = VerdictStarting
		}
	case "reloading":
		if saysOnItsWay(t.says) {
			s.Verdict = VerdictStarting
		}
	case "deactivating":
		s.Verdict = VerdictStarting // its worker is stopping, or another life comes
	case "inactive", "failed":
		s.Verdict = VerdictDown
	}
	if t.says != "" {
		s.Notes = append(s.Notes, "the launcher says to systemd: "+t.says)
	}
	switch {
	case t.unasked != nil:
		s.Problems = append(s.Problems, t.unasked.Error())
	case t.ended != "":
		s.Problems = append(s.Problems, restartingOf(t))
	case s.Verdict == VerdictDegraded:
		s.Problems = append(s.Problems, fmt.Sprintf("%s is %s: no worker serves at the moment", t.unit.Name, cmp.Or(t.unit.ActiveState, "unknown")))
	}
	// As for those who may ask: it does not hide that a worker is on its way.
	for _, phrase := range []string{saysRejected, saysRolledBack} {
		if _, why, found := strings.Cut(t.says, phrase); found {
			s.Problems = append(s.Problems, strings.TrimPrefix(phrase, "; ")+why)
			if s.Verdict != VerdictStarting && s.Verdict != VerdictDown {
				s.Verdict = VerdictDegraded
			}
			break
		}
	}
}

// compareSockets says where they are not what the socket unit promises.
func compareSockets(ctx context.Context, t target, s *view, addresses []netip.AddrPort) {
	for _, address := range addresses {
		var found *SocketStatus
		for i := range s.Sockets {
			if s.Sockets[i].Address == address.String() {
				found = &s.Sockets[i]
			}
		}
		switch {
		case found == nil && t.socket == "active":
			s.Notes = append(s.Notes, fmt.Sprintf("%s is active, but nothing listens on %s in this network namespace: "+
				"its sockets are in another one, or the machine does not have the address", units.Socket, address))
		case found != nil && t.socket != "active" && s.worst() == "" && s.Verdict == VerdictDown:
			// Another launcher, or another socket unit.
			problem := ofUser(ctx, address, found.Holders)
			if problem == "" {
				problem = holders.InUse(address)
			}
			s.Problems = append(s.Problems, problem)
		}
	}
}

// ofUser says whose launcher an address belongs to where that is one of a user's
// scope, not to be ended but to be asked; "" where none is known.
func ofUser(ctx context.Context, address netip.AddrPort, having []HolderStatus) string {
	ctx, cancel := context.WithTimeout(ctx, managerLimit)
	defer cancel()
	for _, holder := range having {
		// To whom the user's manager cannot be seen, the launcher can.
		if holder.Role != api.RoleLauncher && (holder.Role != api.RoleSystemd || holder.PID == 1) {
			continue
		}
		manager := systemd.Manager{User: true, UID: int(holder.UID)}
		socket, err := manager.Unit(ctx, units.Socket, "ActiveState", "Listen")
		if err != nil || socket["ActiveState"] != "active" || !slices.Contains(socket.Listen(), address) {
			continue
		}
		command := "gateway status --user"
		if manager.UID != os.Geteuid() {
			command = systemd.AsRoot(os.Geteuid(), manager.AsUser(command))
		}
		return fmt.Sprintf("%s belongs to the launcher of user %s: `%s` tells of it", address, systemd.UserName(manager.UID), command)
	}
	return ""
}

// addressesOf are those that should be ours: the socket unit's, else those of the
// configuration.
func addressesOf(t target) []netip.AddrPort {
	if len(t.listen) > 0 {
		return t.listen
	}
	if cfg, err := config.Load(config.Find()); err == nil {
		return cfg.Listen
	}
	return config.Default().Listen
}
