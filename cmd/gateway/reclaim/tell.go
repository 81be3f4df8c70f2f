package reclaim

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/proctree"
)

// Teller says what "gateway reclaim" does: a person in sentences, the
// journal in fields.
type Teller struct {
	Out, Err  io.Writer
	Log       *slog.Logger // nil: a person
	Addresses []netaddr.Address
	Force     bool
	DryRun    bool
	By        holders.Asker
}

// Event says what is done to a holder; see [Options].
func (t *Teller) Event(e Event) {
	signal := unix.SignalName(e.Signal)
	if t.Log != nil {
		log := t.Log.With(holderAttrs(e.Holder)...)
		switch e.Kind {
		case Ending:
			log.Warn("ending a process that holds the address", "signal", signal, "why", e.Holder.Because())
		case Ended:
			log.Info("it has ended", "signal", signal, "after", say.Duration(e.After))
			if again := e.Holder.RunBy.Restarter; again != nil {
				log.Warn(again.String()+" starts it again", "remedy", again.Stop(t.By))
			}
		case LetGo:
			log.Warn("it has let go of the address, and is left to finish its work")
		}
		return
	}
	switch {
	case e.Kind == Ended:
		say.Tell(t.Out, "pid %d has ended by %s after %s", e.Holder.PID, signal, say.Duration(e.After))
		if e.Holder.Role == api.RoleRival && e.Holder.RunBy.Unit != "" {
			say.Tell(t.Err, "gateway: %s may start it again: %s", e.Holder.RunBy.Unit, e.Holder.Remedy(t.By))
		}
		if again := e.Holder.RunBy.Restarter; again != nil {
			say.Tell(t.Err, "gateway: %s starts it again: `%s` ends that", again, again.Stop(t.By))
		}
	case e.Kind == LetGo:
		say.Tell(t.Out, "pid %d has let go of %s, and is left to finish its work", e.Holder.PID, say.Addresses(e.Holder.Addresses))
	case t.DryRun:
		say.Tell(t.Out, "would end %s", describeAll(e.Holder))
	case e.Signal == unix.SIGKILL:
		say.Tell(t.Out, "pid %d still holds %s: sending %s", e.Holder.PID, say.Addresses(e.Holder.Addresses), signal)
	default:
		say.Tell(t.Out, "ending %s", describeAll(e.Holder))
	}
}

// Result says what is in the way in the end, and what to do about it.
func (t *Teller) Result(r Result) {
	for _, obstacle := range r.Obstacles {
		reason, remedy := t.explain(obstacle, r.Unseen)
		if t.Log != nil {
			t.Log.With(holderAttrs(obstacle.Holder)...).Error("the address is held and cannot be freed", "why", reason, "remedy", remedy)
			continue
		}
		subject := describeHolder(obstacle.Holder)
		if obstacle.Reason == Hidden {
			subject = fmt.Sprintf("a process of user %s", systemd.UserName(int(obstacle.UID)))
		}
		say.Tell(t.Err, "gateway: %s is held by %s: %s; %s", say.Addresses(obstacle.Addresses), subject, reason, remedy)
	}
	told := func(o Obstacle) bool { return o.Reason == Hidden } // its sentence says so
	if len(r.Obstacles) > 0 && r.Unseen > 0 && t.By.UID == 0 && !slices.ContainsFunc(r.Obstacles, told) {
		note := holders.UnseenNote(r.Unseen, t.By)
		if t.Log != nil {
			t.Log.Warn(note)
		} else {
			say.Tell(t.Err, "gateway: %s", note)
		}
	}
	if t.Log != nil || len(r.Obstacles) > 0 {
		return
	}
	switch {
	case len(r.Ours) > 0:
		say.Tell(t.Out, "%s: held by systemd, our launcher and its worker alone", say.Addresses(r.Ours))
	case !t.DryRun:
		say.Tell(t.Out, "%s: free", say.Addresses(t.Addresses))
	}
}

// explain says why an obstacle is there, and what to do.
func (t *Teller) explain(o Obstacle, unseen int) (reason, remedy string) {
	switch o.Reason {
	case NeedsForce:
		return o.Because(), o.Remedy(t.By).String()
	case NotAllowed:
		return fmt.Sprintf("%s, and of user %s", o.Because(), systemd.UserName(int(o.UID))), fmt.Sprintf("run `%s`", systemd.As(t.By.UID, 0, t.again()...))
	case Ancestor:
		if o.PID == os.Getpid() {
			return "it is this very process", "there is nothing to end"
		}
		return "it has started this command and is not ended by it", fmt.Sprintf("run `%s` from a terminal that does not depend on it", say.Shell(t.again()...))
	case CameBack:
		reason = fmt.Sprintf("it was started again by %s", describeProcess(o.PPID))
		if again := o.RunBy.Restarter; again != nil {
			reason = fmt.Sprintf("%s has started it again", again)
		}
		if o.RunBy.Unit != "" || o.RunBy.Container != nil || o.RunBy.Restarter != nil {
			return reason, o.Remedy(t.By).String()
		}
		return reason, "end that first, then run this again"
	case Survived:
		return "it has not ended", "run this again; one that SIGKILL does not end waits for a disk or the network"
	case Hidden:
		where := "it cannot be seen from here, in another PID namespace or in the kernel"
		if unseen > 0 {
			where = say.Count(unseen, "process") + " could not be looked into"
		}
		return where, o.Remedy(t.By).String()
	default:
		switch o.Role {
		case api.RoleSystemd:
			if o.Forked {
				return "it is a child of a service manager that has not been executed yet", "it lets go by itself within some seconds, run this again then"
			}
			reason = "a service manager is never ended"
			if o.RunBy.Unit != "" {
				reason = fmt.Sprintf("it holds it for %s, and is never ended", o.RunBy.Unit)
			}
			return reason, o.Remedy(t.By).String()
		case api.RoleLauncher, api.RoleWorker:
			return fmt.Sprintf("a %s is never ended", o.Role), o.Remedy(t.By).String()
		default:
			return "it is never ended", "end it by other means"
		}
	}
}

// again is this very command line.
func (t *Teller) again() []string {
	if t.Force {
		return t.By.Reclaim(t.Addresses, "--force")
	}
	return t.By.Reclaim(t.Addresses)
}

// describeAll is a process, what it holds, and why it is what it is.
func describeAll(h holders.Holder) string {
	return fmt.Sprintf("%s, which holds %s: %s", describeHolder(h), say.Addresses(h.Addresses), h.Because())
}

func describeHolder(h holders.Holder) string {
	kind := string(h.Role)
	if h.Role == api.RoleForeign {
		kind = "foreign process"
	}
	return fmt.Sprintf("%s pid %d of user %s (%s)", kind, h.PID, systemd.UserName(int(h.UID)), h.Command)
}

func holderAttrs(h holders.Holder) []any {
	attrs := []any{"address", say.Addresses(h.Addresses), "uid", h.UID}
	if h.PID != 0 {
		attrs = append(attrs, "pid", h.PID, "role", string(h.Role), "command", h.Command)
	}
	if h.InUnit != "" {
		attrs = append(attrs, "in_unit", h.InUnit)
	}
	return attrs
}

func describeProcess(pid int) string {
	process, err := proctree.Find(pid)
	if err != nil {
		return fmt.Sprintf("pid %d", pid) // it has gone
	}
	return fmt.Sprintf("pid %d (%s)", pid, process.Name)
}
