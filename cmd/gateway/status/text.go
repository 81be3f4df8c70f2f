package status

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
)

// moods are the colours of the verdicts; of the others it is red.
var moods = map[api.Verdict]say.Colour{api.VerdictOK: say.Green, api.VerdictWaiting: say.Cyan, api.VerdictStarting: say.Yellow}

func mood(v api.Verdict) say.Colour { return cmp.Or(moods[v], say.Red) }

// roleColours: who should not hold the port is seen at a glance.
var roleColours = map[api.Role]say.Colour{api.RoleOrphan: say.Red, api.RoleRival: say.Red, api.RoleForeign: say.Red, api.RoleWorker: say.Bold}

// style is how a text looks.
type style struct {
	say.Painter
	full    bool
	one     bool // an instance was named
	columns int  // of the terminal; 0 for no end
	several bool // scopes are shown
}

func styleFor(w io.Writer, format Format) style {
	return style{Painter: say.PainterFor(w), full: format.Full, one: format.One, columns: say.Columns(w)}
}

func statusText(all []View, look style) string {
	if len(all) > 1 && !look.full && !look.one {
		return linesText(all, look)
	}
	look.several = len(all) > 1
	blocks := make([]string, len(all))
	for i, s := range all {
		blocks[i] = s.text(look)
	}
	return strings.Join(blocks, "\n")
}

// margin is where the values begin.
const margin = 12

// brief reports whether nothing is wrong, nor on its way, and nobody wants to know everything.
func (s *View) brief(p style) bool {
	return !p.full && (s.Verdict == api.VerdictOK || s.Verdict == api.VerdictWaiting)
}

// text writes the status for a person.
func (s *View) text(p style) string {
	var b strings.Builder
	line := func(key, format string, values ...any) {
		text := say.Wrap(fmt.Sprintf(format, values...), margin, margin, p.columns)
		b.WriteString(p.Paint(say.Dim, fmt.Sprintf("%10s", key)) + "  " + text + "\n")
	}
	headline := say.Wrap(string(s.Verdict)+": "+s.headline(), 0, margin, p.columns)
	b.WriteString(p.Paint(mood(s.Verdict), string(s.Verdict)) + strings.TrimPrefix(headline, string(s.Verdict)) + "\n")
	for _, problem := range s.Problems {
		line("problem", "%s", p.Paint(say.Red, problem))
	}
	for _, note := range s.Notes {
		if p.full || s.Unseen == 0 || note != holders.UnseenNote(s.Unseen, holders.Me()) || s.doubtful() {
			line("note", "%s", note)
		}
	}
	for i, socket := range s.Sockets {
		oldest, inode := "", ""
		if waits := time.Duration(socket.WaitingS * float64(time.Second)); waits >= time.Second {
			oldest = fmt.Sprintf(" (for %s)", say.Duration(waits))
		}
		if p.full {
			inode = fmt.Sprintf(", inode %d", socket.Inode)
		}
		line("socket", "%s, %s, %d of %d waiting%s%s", p.Paint(say.Bold, socket.Address), connectionsText(socket.Connections),
			socket.Queued, socket.Backlog, oldest, inode)
		// Usually the same processes hold all of them.
		if i+1 < len(s.Sockets) && s.sameHolders(socket, s.Sockets[i+1]) {
			continue
		}
		for _, holder := range socket.Holders {
			line("", "%s", s.holderLine(holder, p))
		}
		if len(socket.Holders) == 0 {
			line("", "%s", p.Paint(say.Yellow, s.unseenHolder(socket)))
		}
	}
	brief := s.brief(p)
	if s.Unit.Scope != api.ScopeNone && (!brief || p.several || s.theirs) {
		scope := s.Unit.Scope + " scope"
		if s.theirs {
			scope += " of " + s.Unit.User
		}
		state := cmp.Or(s.Unit.ActiveState, "the service manager does not answer")
		line("unit", "%s (%s), %s, main pid %d", s.Unit.Name, scope, state, s.Unit.MainPID)
	}
	if s.Launcher.Since != nil && !brief {
		line("launcher", "pid %d, since %s, version %s", s.Launcher.PID, say.Clock(*s.Launcher.Since), s.Version)
	}
	s.addWorker(line, brief)
	path := cmp.Or(s.Config.Path, "built-in defaults")
	switch s.Config.State {
	case "":
	case api.ConfigApplied:
		line("config", "%s, applied", path)
	default:
		line("config", "%s, %s", path, p.Paint(say.Red, s.Config.State))
	}
	return b.String()
}

// doubtful reports whether it matters that somebody who cannot be seen may hold the port.
func (s *View) doubtful() bool {
	held := len(s.Sockets) > 0 && s.Verdict == api.VerdictDown
	return held || s.Worst() != "" || slices.ContainsFunc(s.Sockets, func(socket api.Socket) bool { return len(socket.Holders) == 0 })
}

func (s *View) addWorker(line func(key, format string, values ...any), brief bool) {
	w := s.Worker
	memory := ""
	if w.MemoryBytes > 0 {
		memory = ", " + say.Bytes(w.MemoryBytes)
	}
	switch {
	case w.PID == 0 || w.Since == nil:
	case brief:
		line("worker", "generation %d, %s since %s%s", w.Generation, w.State, say.Clock(*w.Since), memory)
	default:
		ready, until := "", ""
		if w.ReadyAfterMS > 0 {
			ready = fmt.Sprintf(" (ready after %s)", say.Duration(time.Duration(w.ReadyAfterMS)*time.Millisecond))
		}
		if w.WaitsUntil != nil {
			until = say.Until(*w.WaitsUntil)
		}
		line("worker", "generation %d, pid %d, %s since %s%s%s%s, handoff %s", w.Generation, w.PID, w.State, say.Clock(*w.Since), until, ready, memory, w.Handoff)
	}
	if next := s.Successor; next != nil {
		name, state, memory := "successor", next.State, ""
		if next.Purpose == api.ForStandby {
			name = "standby"
		}
		if next.Frozen {
			state += " and frozen"
		}
		if next.MemoryBytes > 0 {
			memory = ", " + say.Bytes(next.MemoryBytes)
		}
		line(name, "generation %d, pid %d, %s since %s%s", next.Generation, next.PID, state, say.Clock(next.Since), memory)
	}
	for _, old := range s.Leaving {
		open, until := "", ""
		if old.Connections != nil {
			open = ", " + say.Count(*old.Connections, "connection")
		}
		if old.Until != nil {
			until = say.Until(*old.Until)
		}
		line("leaving", "generation %d, pid %d, since %s%s%s", old.Generation, old.PID, say.Clock(old.Since), until, open)
	}
	if w.NextStart != nil {
		line("worker", "%s, next start at %s", w.State, w.NextStart.Local().Format(time.DateTime))
	}
	if exit := w.LastExit; exit != nil {
		at, how, strays, killed := " at "+say.Clock(exit.At), say.End(exit.Code, exit.Signal), "", ", which were ended"
		if exit.Detail != "" {
			how += ": " + exit.Detail
		}
		if brief {
			at, killed = ", "+say.Ago(exit.At), ""
		}
		if exit.Strays > 0 {
			strays = fmt.Sprintf(", left %s%s", say.Count(exit.Strays, "process"), killed)
		}
		line("last exit", "generation %d%s: %s (%s)%s", exit.Generation, at, how, exit.Reason, strays)
	}
	for i, words := range w.LastWords {
		if !brief {
			line([]string{"last words", ""}[min(i, 1)], "%s", words)
		}
	}
}

// headline is what clients meet, in a sentence.
func (s *View) headline() string {
	var addresses []string
	for _, socket := range s.Sockets {
		if !slices.Contains(addresses, socket.Address) {
			addresses = append(addresses, socket.Address)
		}
	}
	where, worker := cmp.Or(say.List(addresses), "the port"), "the worker"
	if s.Worker.Generation != 0 { // else no launcher has told, and it is what the service manager knows
		worker = fmt.Sprintf("generation %d", s.Worker.Generation)
	}
	until := ""
	if s.Worker.WaitsUntil != nil {
		until = say.Until(*s.Worker.WaitsUntil)
	}
	switch s.Verdict {
	case api.VerdictOK:
		return worker + " serves " + where
	case api.VerdictWaiting:
		if s.Worker.LastExit != nil {
			return "the next client of " + where + " starts the worker"
		}
		return "the first client of " + where + " starts the worker"
	case api.VerdictStarting:
		if s.Worker.Generation == 0 {
			return "the launcher or its worker is starting, clients of " + where + " wait"
		}
		return fmt.Sprintf("%s is %s, clients of %s wait%s", worker, s.Worker.State, where, until)
	case api.VerdictHung:
		var waiting []string // of several addresses the others may well be served
		for _, socket := range s.Sockets {
			if socket.WaitingS > 0 {
				waiting = append(waiting, socket.Address)
			}
		}
		where = cmp.Or(say.List(waiting), where)
		return fmt.Sprintf("%s hangs, clients of %s wait", worker, where)
	case api.VerdictDown:
		if len(s.Sockets) == 0 {
			return "the launcher is not running, clients of the port are refused"
		}
		return "the launcher is not running"
	case api.VerdictOrphan:
		return "an OpenClaw gateway that no unit keeps running holds " + where
	case api.VerdictRival:
		return "an OpenClaw gateway of another unit holds " + where
	case api.VerdictForeign:
		return "another program holds " + where
	}
	switch {
	case s.closing:
		return fmt.Sprintf("clients of %s wait in vain: they are refused when %s has stopped%s", where, worker, until)
	case s.Worker.FrontDesk && s.Worker.NextStart != nil:
		return fmt.Sprintf("clients of %s get HTTP 503 until %s, when the next generation starts", where, s.Worker.NextStart.Local().Format(time.TimeOnly))
	case s.Worker.FrontDesk:
		return "clients of " + where + " get HTTP 503 until somebody acts"
	case s.Worker.State == api.StateFailed:
		return "clients of " + where + " wait until somebody acts"
	case s.Worker.State == api.StateBackingOff && s.Worker.NextStart != nil:
		return fmt.Sprintf("clients of %s wait until %s, when the next generation starts", where, s.Worker.NextStart.Local().Format(time.TimeOnly))
	case s.Worker.State == api.StateBackingOff:
		return "clients of " + where + " wait until the generation that leaves has ended"
	case s.Worker.State == api.StateStopping:
		return fmt.Sprintf("clients of %s wait: %s is stopping%s", where, worker, until)
	case s.Worker.State == api.StateReady:
		return fmt.Sprintf("%s serves %s, and something else is wrong", worker, where)
	case s.Worker.Generation != 0:
		return "the next client of " + where + " starts the worker, and something else is wrong"
	}
	return cmp.Or(s.meets, "see the problems")
}

// unseenHolder stands where a list of holders is empty: a socket always has one.
func (s *View) unseenHolder(socket api.Socket) string {
	where := "from outside this container (PID namespace), or by the kernel"
	if s.Unseen > 0 {
		where = "by a process that cannot be seen from here"
	}
	return "held " + where + "; its socket was made by " + systemd.UserName(int(s.owners[socket.Inode]))
}

// holderLine is one process for a person: who, which, whose, since when, where it
// belongs, and what it is.
func (s *View) holderLine(h api.Holder, p style) string {
	intruder := slices.Contains(api.Intruders, h.Role)
	words := []string{p.Paint(roleColours[h.Role], fmt.Sprintf("%-8s", h.Role)), fmt.Sprintf("pid %-7d", h.PID), systemd.UserName(int(h.UID))}
	if h.Since != nil && (intruder || p.full) {
		words = append(words, "since "+h.Since.Local().Format(time.DateTime))
	}
	if h.Unit != "" && (intruder || p.full) {
		words = append(words, "in "+h.Unit)
	}
	if intruder {
		// Whoever started it may start it again.
		words = append(words, fmt.Sprintf("child of %d", h.Parent))
	}
	line, command := strings.Join(words, "  ")+"  ", h.Command
	if p.full {
		command = cmp.Or(s.commands[h.PID], command)
	} else if p.columns > 0 {
		command = say.Fit(command, max(p.columns-margin-say.Width(line), shortest))
	}
	return line + p.Paint(say.Dim, command)
}

// shortest is how much of a command line says something.
const shortest = 16

func (s *View) sameHolders(a, b api.Socket) bool {
	return s.owners[a.Inode] == s.owners[b.Inode] && slices.EqualFunc(a.Holders, b.Holders, func(x, y api.Holder) bool { return x.PID == y.PID })
}

func connectionsText(n *int) string {
	if n == nil {
		return "connections unknown"
	}
	return say.Count(*n, "connection")
}
