package status

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
)

// moods are the colours of the verdicts; of the others it is red.
var moods = map[api.Verdict]say.Colour{api.VerdictOK: say.Green, api.VerdictWaiting: say.Cyan, api.VerdictStarting: say.Yellow}

// roleColours: who should not hold the port is seen at a glance.
var roleColours = map[api.Role]say.Colour{api.RoleOrphan: say.Red, api.RoleRival: say.Red, api.RoleForeign: say.Red, api.RoleWorker: say.Bold}

// text writes the status for a person.
func (s *View) text(p say.Painter) string {
	var b strings.Builder
	line := func(key, format string, values ...any) {
		b.WriteString(p.Paint(say.Dim, fmt.Sprintf("%10s", key)) + "  " + below(fmt.Sprintf(format, values...)) + "\n")
	}
	b.WriteString(p.Paint(cmp.Or(moods[s.Verdict], say.Red), string(s.Verdict)) + ": " + below(s.headline()) + "\n")
	for _, problem := range s.Problems {
		line("problem", "%s", p.Paint(say.Red, problem))
	}
	for _, note := range s.Notes {
		line("note", "%s", note)
	}
	for i, socket := range s.Sockets {
		oldest := ""
		if waits := time.Duration(socket.WaitingS * float64(time.Second)); waits >= time.Second {
			oldest = fmt.Sprintf(" (for %s)", say.Duration(waits))
		}
		line("socket", "%s, %s, %d of %d waiting%s, inode %d", p.Paint(say.Bold, socket.Address), connectionsText(socket.Connections),
			socket.Queued, socket.Backlog, oldest, socket.Inode)
		// Usually the same processes hold all of them.
		if i+1 < len(s.Sockets) && s.sameHolders(socket, s.Sockets[i+1]) {
			continue
		}
		for _, holder := range socket.Holders {
			line("", "%s", holderLine(holder, p))
		}
		if len(socket.Holders) == 0 {
			line("", "%s", p.Paint(say.Yellow, s.unseenHolder(socket)))
		}
	}
	if s.Unit.Scope != "none" {
		state := cmp.Or(s.Unit.ActiveState, "the service manager does not answer")
		line("unit", "%s (%s scope), %s, main pid %d", s.Unit.Name, s.Unit.Scope, state, s.Unit.MainPID)
	}
	if s.Launcher.Since != nil {
		line("launcher", "pid %d, since %s, version %s", s.Launcher.PID, say.Clock(*s.Launcher.Since), s.Version)
	}
	s.addWorker(line)
	path := cmp.Or(s.Config.Path, "built-in defaults")
	switch s.Config.State {
	case "":
	case "applied":
		line("config", "%s, applied", path)
	default:
		line("config", "%s, %s", path, p.Paint(say.Red, s.Config.State))
	}
	return b.String()
}

// below puts further lines of a text under its first, so that none looks like another part of the status.
func below(text string) string { return strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", 12)) }

func (s *View) addWorker(line func(key, format string, values ...any)) {
	w := s.Worker
	if w.PID != 0 && w.Since != nil {
		ready := ""
		if w.ReadyAfterMS > 0 {
			ready = fmt.Sprintf(" (ready after %s)", say.Duration(time.Duration(w.ReadyAfterMS)*time.Millisecond))
		}
		until := ""
		if w.WaitsUntil != nil {
			until = say.Until(*w.WaitsUntil)
		}
		line("worker", "generation %d, pid %d, %s since %s%s%s, handoff %s", w.Generation, w.PID, w.State, say.Clock(*w.Since), until, ready, w.Handoff)
	}
	if w.NextStart != nil {
		line("worker", "%s, next start at %s", w.State, w.NextStart.Local().Format(time.DateTime))
	}
	if exit := w.LastExit; exit != nil {
		strays := ""
		if exit.Strays > 0 {
			strays = fmt.Sprintf(", left %s, which were killed", say.Count(exit.Strays, "process"))
		}
		how := say.End(exit.Code, exit.Signal)
		if exit.Detail != "" {
			how += ": " + exit.Detail
		}
		line("last exit", "generation %d at %s: %s (%s)%s", exit.Generation, say.Clock(exit.At), how, exit.Reason, strays)
	}
}

// headline is the status in a sentence.
func (s *View) headline() string {
	var addresses []string
	for _, socket := range s.Sockets {
		if !slices.Contains(addresses, socket.Address) {
			addresses = append(addresses, socket.Address)
		}
	}
	where := cmp.Or(say.List(addresses), "the port")
	switch s.Verdict {
	case api.VerdictOK:
		if s.Worker.Generation == 0 {
			// No launcher has told: what the service manager knows.
			return "the worker serves " + where
		}
		return fmt.Sprintf("generation %d serves %s", s.Worker.Generation, where)
	case api.VerdictWaiting:
		if s.Worker.LastExit != nil {
			return "the next client of " + where + " starts the worker"
		}
		return "the first client of " + where + " starts the worker"
	case api.VerdictStarting:
		if s.Worker.Generation == 0 {
			return "the launcher or its worker is starting, clients of " + where + " wait"
		}
		return fmt.Sprintf("generation %d is %s, clients of %s wait", s.Worker.Generation, s.Worker.State, where)
	case api.VerdictHung:
		if s.Worker.Generation == 0 {
			return "the worker hangs, clients of " + where + " wait"
		}
		return fmt.Sprintf("generation %d hangs, clients of %s wait", s.Worker.Generation, where)
	case api.VerdictDown:
		return "the launcher is not running"
	case api.VerdictOrphan:
		return "an OpenClaw gateway that nobody supervises holds " + where
	case api.VerdictRival:
		return "an OpenClaw gateway of another unit holds " + where
	case api.VerdictForeign:
		return "a process that does not belong to us holds " + where
	default:
		if s.Worker.Generation == 0 {
			return "see the problems"
		}
		return fmt.Sprintf("generation %d, the worker is in state %s", s.Worker.Generation, s.Worker.State)
	}
}

// unseenHolder stands where a list of holders is empty: a socket always has one.
func (s *View) unseenHolder(socket api.Socket) string {
	where := "outside this PID namespace, or by the kernel"
	if s.Unseen > 0 {
		where = "by a process that cannot be seen from here"
	}
	return "held " + where + "; its socket was made by " + accountName(s.owners[socket.Inode])
}

// holderLine is one process for a person: who, which, whose, since when, where it
// belongs, and what it is.
func holderLine(h api.Holder, p say.Painter) string {
	words := []string{p.Paint(roleColours[h.Role], fmt.Sprintf("%-8s", h.Role)), fmt.Sprintf("pid %-7d", h.PID), accountName(h.UID)}
	if h.Since != nil {
		words = append(words, "since "+h.Since.Local().Format(time.DateTime))
	}
	if h.Unit != "" {
		words = append(words, "in "+h.Unit)
	}
	if slices.Contains(api.Intruders, h.Role) {
		// Whoever started it may start it again.
		words = append(words, fmt.Sprintf("child of %d", h.Parent))
	}
	return strings.Join(words, "  ") + "  " + p.Paint(say.Dim, h.Command)
}

func (s *View) sameHolders(a, b api.Socket) bool {
	return s.owners[a.Inode] == s.owners[b.Inode] && slices.EqualFunc(a.Holders, b.Holders, func(x, y api.Holder) bool { return x.PID == y.PID })
}

func connectionsText(n *int) string {
	if n == nil {
		return "connections unknown"
	}
	return say.Count(*n, "connection")
}

// accountName is the user's name, or the number where there is none.
func accountName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if account, err := systemd.Account(id); err == nil {
		return account.Username
	}
	return "uid " + id
}
