package reclaim

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/worker/proctree"
)

// Teller says what "gateway reclaim" does: a person in sentences, the
// journal in fields.
type Teller struct {
	Out, Err  io.Writer
	Log       *slog.Logger // nil: a person
	Addresses []netip.AddrPort
	Force     bool
	DryRun    bool
	UID       int // of the caller
}

func (t *Teller) Event(e Event) {
	signal := unix.SignalName(e.Signal)
	if t.Log != nil {
		log := t.Log.With(keeperAttrs(e.Keeper)...)
		switch e.Kind {
		case Ending:
			log.Warn("ending a process that holds the address", "signal", signal, "why", e.Keeper.Why)
		case Ended:
			log.Info("it has ended", "signal", signal, "after", say.Duration(e.After))
		case LetGo:
			log.Warn("it has let go of the address, and is left to finish its work")
		}
		return
	}
	switch {
	case e.Kind == Ended:
		fmt.Fprintf(t.Out, "pid %d has ended by %s after %s\n", e.Keeper.PID, signal, say.Duration(e.After))
		if e.Keeper.Role == holders.Rival {
			fmt.Fprintf(t.Err, "gateway: %s may start it again: %s\n", e.Keeper.Unit, t.disable(e.Keeper))
		}
	case e.Kind == LetGo:
		fmt.Fprintf(t.Out, "pid %d has let go of %s, and is left to finish its work\n", e.Keeper.PID, say.Addresses(e.Keeper.Addresses))
	case t.DryRun:
		fmt.Fprintf(t.Out, "would end %s\n", describeKeeper(e.Keeper))
	case e.Signal == unix.SIGKILL:
		fmt.Fprintf(t.Out, "pid %d still holds %s: sending %s\n", e.Keeper.PID, say.Addresses(e.Keeper.Addresses), signal)
	default:
		fmt.Fprintf(t.Out, "ending %s\n", describeKeeper(e.Keeper))
	}
}

func (t *Teller) Outcome(o Outcome) {
	for _, obstacle := range o.Obstacles {
		reason, remedy := t.explain(obstacle, o.Unseen)
		if t.Log != nil {
			t.Log.With(keeperAttrs(obstacle.Keeper)...).Error("the address is held and cannot be freed", "why", reason, "remedy", remedy)
			continue
		}
		subject := describeHolder(obstacle.Keeper)
		if obstacle.Reason == Hidden {
			subject = fmt.Sprintf("a process of user %s", systemd.UserName(int(obstacle.UID)))
		}
		fmt.Fprintf(t.Err, "gateway: %s is held by %s: %s; %s\n", say.Addresses(obstacle.Addresses), subject, reason, remedy)
	}
	if t.Log != nil || len(o.Obstacles) > 0 {
		return
	}
	switch {
	case len(o.Kept) > 0:
		fmt.Fprintf(t.Out, "%s: held by systemd, our launcher and its worker alone\n", say.Addresses(o.Kept))
	case !t.DryRun:
		fmt.Fprintf(t.Out, "%s: free\n", say.Addresses(t.Addresses))
	}
}

// explain says why an obstacle is there, and what to do.
func (t *Teller) explain(o Obstacle, unseen int) (reason, remedy string) {
	switch o.Reason {
	case NeedsForce:
		force := fmt.Sprintf("`%s`", t.again(false, "--force"))
		if o.Role == holders.Rival {
			return o.Why, t.disable(o.Keeper) + ", " + force + " only until its unit starts it again"
		}
		end := "end it"
		if unit := o.InUnit; strings.HasSuffix(unit, ".service") {
			manager := systemd.Manager{User: o.UserUnit, UID: int(o.UID)}
			end = fmt.Sprintf("run `%s`", manager.Command(t.UID, "stop", unit))
		}
		return o.Why, end + ", or " + force + " if you are sure"
	case NotAllowed:
		return fmt.Sprintf("%s, and of user %s", o.Why, systemd.UserName(int(o.UID))), fmt.Sprintf("run `%s`", t.again(true))
	case Ancestor:
		if o.PID == os.Getpid() {
			return "it is this very process", "there is nothing to end"
		}
		return "it has started this command and is not ended by it", fmt.Sprintf("run `%s` from a terminal that does not depend on it", t.again(false))
	case CameBack:
		reason = fmt.Sprintf("it was started again by %s", describeProcess(o.PPID))
		if o.Role == holders.Rival {
			return reason, t.disable(o.Keeper)
		}
		return reason, "end that first, then run this again"
	case Survived:
		return "it has not ended", "run this again; one that SIGKILL does not end waits for a disk or the network"
	case Hidden:
		where := "it cannot be seen from here, in another PID namespace or in the kernel"
		if unseen > 0 {
			where = fmt.Sprintf("%d processes could not be looked into", unseen)
		}
		if t.UID == 0 {
			return where, fmt.Sprintf("look on the host with `ss -tanp 'sport = :%d'`", o.Addresses[0].Port())
		}
		return where, fmt.Sprintf("run `%s`", t.again(true))
	default:
		switch o.Role {
		case holders.Systemd:
			return "a service manager is never ended", "`systemctl list-sockets`, with --user for a user's, shows which unit listens there: stop and disable that"
		case holders.Launcher, holders.Worker:
			return fmt.Sprintf("a %s is never ended", o.Role), "`gateway stop` stops one that a unit runs, Ctrl-C one run by hand"
		default:
			return "it is never ended", "end it by other means"
		}
	}
}

// disable says how the unit of a rival stops starting it.
func (t *Teller) disable(k Keeper) string {
	return fmt.Sprintf("`%s` ends it for good", k.Manager.Command(t.UID, "disable", "--now", k.Unit))
}

// again is the command line for the same addresses.
func (t *Teller) again(asRoot bool, flags ...string) string {
	words := []string{"gateway", "reclaim"}
	for _, address := range t.Addresses {
		words = append(words, systemd.Quote(address.String()))
	}
	if t.Force && !slices.Contains(flags, "--force") {
		flags = append(flags, "--force")
	}
	command := strings.Join(append(words, flags...), " ")
	if asRoot {
		return systemd.AsRoot(t.UID, command)
	}
	return command
}

// describeKeeper is a process, what it holds, and why it is what it is.
func describeKeeper(k Keeper) string {
	return fmt.Sprintf("%s, which holds %s: %s", describeHolder(k), say.Addresses(k.Addresses), k.Why)
}

func describeHolder(k Keeper) string {
	kind := string(k.Role)
	if k.Role == holders.Foreign {
		kind = "foreign process"
	}
	return fmt.Sprintf("%s pid %d of user %s (%s)", kind, k.PID, systemd.UserName(int(k.UID)), k.Command)
}

func keeperAttrs(k Keeper) []any {
	attrs := []any{"address", say.Addresses(k.Addresses), "uid", k.UID}
	if k.PID != 0 {
		attrs = append(attrs, "pid", k.PID, "role", string(k.Role), "command", k.Command)
	}
	if k.InUnit != "" {
		attrs = append(attrs, "in_unit", k.InUnit)
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
