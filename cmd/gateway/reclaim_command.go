package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/judge"
	"openclaw-gateway/cmd/gateway/reclaim"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/listener/holders"
	"openclaw-gateway/units"
)

// reclaimLimit is for all of "gateway reclaim", below the TimeoutSec=20 of the
// socket unit that runs it.
const reclaimLimit = 18 * time.Second

func newReclaimCommand() *cobra.Command {
	var scope scopeFlags
	var force, dryRun bool
	cmd := &cobra.Command{
		Use:   "reclaim [ADDRESS…] [--dry-run] [--force]",
		Short: "end orphaned OpenClaw gateways that hold the port",
		Long: `Ends the OpenClaw gateways that hold an address, or one that conflicts with it such as 0.0.0.0, and are the main
process of no unit, which is proven by their command line: SIGTERM, and SIGKILL after 10 s if the address is not free
then. Without ADDRESS (127.0.0.1:18789, [::1]:18789) it takes those of the installed socket unit, else "listen" of the
configuration. The socket unit runs it each time before it opens the port.

A supervised OpenClaw gateway (a rival) is named with the command that disables its unit. It and processes that are no
OpenClaw gateway (foreign) are only ended with --force. PID 1, service managers, a launcher and its worker, and whoever
has started this command are never ended.

Exit status: 0 the address is free, or held by systemd, our launcher and its worker alone; 1 somebody else holds it.
With --dry-run nothing is ended, and the exit status is the one to expect without.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), reclaimLimit)
			defer cancel()
			addresses, err := parseAddresses(args)
			if err != nil {
				return err
			}
			if len(addresses) == 0 {
				if addresses, err = scope.addresses(ctx); err != nil {
					return err
				}
			}
			teller := &reclaimTeller{
				out: cmd.OutOrStdout(), err: cmd.ErrOrStderr(),
				addresses: addresses, force: force, dryRun: dryRun, uid: os.Geteuid(),
			}
			if underSystemd() && !dryRun {
				teller.log = newLogger(config.FormatAuto, slog.LevelInfo, os.Stderr)
			}
			options := reclaim.Options{Force: force, DryRun: dryRun, Unbound: beforeBind(), Tell: teller.event}
			if teller.uid != 0 && !options.Unbound {
				options.Ours = ownAddresses(ctx)
			}
			outcome, err := reclaim.Run(ctx, addresses, options)
			if err != nil {
				return err
			}
			teller.outcome(outcome)
			if len(outcome.Obstacles) > 0 {
				return &exitStatus{status: 1}
			}
			return nil
		},
	}
	scope.add(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be ended and why, and end nothing")
	cmd.Flags().BoolVar(&force, "force", false, "end a rival or a foreign process too")
	return cmd
}

func parseAddresses(args []string) ([]netip.AddrPort, error) {
	var addresses []netip.AddrPort
	for _, arg := range args {
		address, err := netip.ParseAddrPort(arg)
		if err != nil || address.Port() == 0 {
			return nil, fmt.Errorf("%q is no address: write an IP address and a port, such as 127.0.0.1:18789 or [::1]:18789", arg)
		}
		address = netip.AddrPortFrom(address.Addr().Unmap(), address.Port())
		if !slices.Contains(addresses, address) {
			addresses = append(addresses, address)
		}
	}
	return addresses, nil
}

// addresses returns what the installed socket unit listens on, or what the
// configuration asks for where there is none.
func (f scopeFlags) addresses(ctx context.Context) ([]netip.AddrPort, error) {
	found := f.targets(ctx)
	if len(found) > 1 {
		_, err := f.one(ctx)
		return nil, err
	}
	if len(found) == 1 && len(found[0].listen) > 0 {
		return found[0].listen, nil
	}
	file := configFile{}
	switch {
	case f.system:
		file.path = installedConfig(units.System)
	case f.user:
		file.path = installedConfig(units.User)
	}
	cfg, err := file.load()
	if err != nil {
		return nil, fmt.Errorf("name the addresses, as the configuration does not tell them: %w", err)
	}
	return cfg.Listen, nil
}

// beforeBind reports whether the socket unit has executed this process: then the
// unit itself does not hold the addresses yet, and whoever does is in its way.
func beforeBind() bool {
	cgroup, err := os.ReadFile("/proc/self/cgroup")
	return err == nil && underSystemd() && strings.Contains(string(cgroup), "/"+units.Socket+"\n")
}

// ownAddresses returns what the active socket units of both scopes listen on, as
// far as their managers can be asked.
func ownAddresses(ctx context.Context) []netip.AddrPort {
	var all []netip.AddrPort
	for _, t := range (scopeFlags{}).targets(ctx) {
		if t.socket == "active" {
			all = append(all, t.listen...)
		}
	}
	return all
}

// reclaimTeller says what "gateway reclaim" does: a person in sentences, the
// journal in fields.
type reclaimTeller struct {
	out, err  io.Writer
	log       *slog.Logger // nil: a person
	addresses []netip.AddrPort
	force     bool
	dryRun    bool
	uid       int // of the caller
}

func (t *reclaimTeller) event(e reclaim.Event) {
	signal := unix.SignalName(e.Signal)
	if t.log != nil {
		log := t.log.With(keeperAttrs(e.Keeper)...)
		switch e.Kind {
		case reclaim.Ending:
			log.Warn("ending a process that holds the address", "signal", signal, "why", e.Keeper.Why)
		case reclaim.Ended:
			log.Info("it has ended", "signal", signal, "after", roundDuration(e.After))
		case reclaim.LetGo:
			log.Warn("it has let go of the address, and is left to finish its work")
		}
		return
	}
	switch {
	case e.Kind == reclaim.Ended:
		fmt.Fprintf(t.out, "pid %d has ended by %s after %s\n", e.Keeper.PID, signal, roundDuration(e.After))
		if e.Keeper.Role == judge.Rival {
			fmt.Fprintf(t.err, "gateway: %s may start it again: %s\n", e.Keeper.Unit, t.disable(e.Keeper))
		}
	case e.Kind == reclaim.LetGo:
		fmt.Fprintf(t.out, "pid %d has let go of %s, and is left to finish its work\n", e.Keeper.PID, joinAddresses(e.Keeper.Addresses))
	case t.dryRun:
		fmt.Fprintf(t.out, "would end %s\n", describeKeeper(e.Keeper))
	case e.Signal == unix.SIGKILL:
		fmt.Fprintf(t.out, "pid %d still holds %s: sending %s\n", e.Keeper.PID, joinAddresses(e.Keeper.Addresses), signal)
	default:
		fmt.Fprintf(t.out, "ending %s\n", describeKeeper(e.Keeper))
	}
}

func (t *reclaimTeller) outcome(o reclaim.Outcome) {
	for _, obstacle := range o.Obstacles {
		reason, remedy := t.explain(obstacle, o.Unseen)
		if t.log != nil {
			t.log.With(keeperAttrs(obstacle.Keeper)...).Error("the address is held and cannot be freed", "why", reason, "remedy", remedy)
			continue
		}
		subject := describeHolder(obstacle.Keeper)
		if obstacle.Reason == reclaim.Hidden {
			subject = fmt.Sprintf("a process of user %s", systemd.UserName(int(obstacle.UID)))
		}
		fmt.Fprintf(t.err, "gateway: %s is held by %s: %s; %s\n", joinAddresses(obstacle.Addresses), subject, reason, remedy)
	}
	if t.log != nil || len(o.Obstacles) > 0 {
		return
	}
	switch {
	case len(o.Kept) > 0:
		fmt.Fprintf(t.out, "%s: held by systemd, our launcher and its worker alone\n", joinAddresses(o.Kept))
	case !t.dryRun:
		fmt.Fprintf(t.out, "%s: free\n", joinAddresses(t.addresses))
	}
}

// explain says why an obstacle is there, and what to do.
func (t *reclaimTeller) explain(o reclaim.Obstacle, unseen int) (reason, remedy string) {
	switch o.Reason {
	case reclaim.NeedsForce:
		force := fmt.Sprintf("`%s`", t.again(false, "--force"))
		if o.Role == judge.Rival {
			return o.Why, t.disable(o.Keeper) + ", " + force + " only until its unit starts it again"
		}
		end := "end it"
		if unit := o.Process.Unit; strings.HasSuffix(unit, ".service") {
			manager := systemd.Manager{User: o.UserUnit, UID: int(o.UID)}
			end = fmt.Sprintf("run `%s`", manager.Command(t.uid, "stop", unit))
		}
		return o.Why, end + ", or " + force + " if you are sure"
	case reclaim.NotAllowed:
		return fmt.Sprintf("%s, and of user %s", o.Why, systemd.UserName(int(o.UID))), fmt.Sprintf("run `%s`", t.again(true))
	case reclaim.Ancestor:
		if o.PID == os.Getpid() {
			return "it is this very process", "there is nothing to end"
		}
		return "it has started this command and is not ended by it", fmt.Sprintf("run `%s` from a terminal that does not depend on it", t.again(false))
	case reclaim.CameBack:
		reason = fmt.Sprintf("it was started again by %s", describeProcess(o.PPID))
		if o.Role == judge.Rival {
			return reason, t.disable(o.Keeper)
		}
		return reason, "end that first, then run this again"
	case reclaim.Survived:
		return "it has not ended", "run this again; one that SIGKILL does not end waits for a disk or the network"
	case reclaim.Hidden:
		where := "it cannot be seen from here, in another PID namespace or in the kernel"
		if unseen > 0 {
			where = fmt.Sprintf("%d processes could not be looked into", unseen)
		}
		if t.uid == 0 {
			return where, fmt.Sprintf("look on the host with `ss -tanp 'sport = :%d'`", o.Addresses[0].Port())
		}
		return where, fmt.Sprintf("run `%s`", t.again(true))
	default:
		switch o.Role {
		case judge.Systemd:
			return "a service manager is never ended", "`systemctl list-sockets`, with --user for a user's, shows which unit listens there: stop and disable that"
		case judge.Launcher, judge.Worker:
			return fmt.Sprintf("a %s is never ended", o.Role), "`gateway stop` stops one that a unit runs, Ctrl-C one run by hand"
		default:
			return "it is never ended", "end it by other means"
		}
	}
}

// disable says how the unit of a rival stops starting it.
func (t *reclaimTeller) disable(k reclaim.Keeper) string {
	return fmt.Sprintf("`%s` ends it for good", k.Manager.Command(t.uid, "disable", "--now", k.Unit))
}

// again is the command line for the same addresses.
func (t *reclaimTeller) again(asRoot bool, flags ...string) string {
	words := []string{"gateway", "reclaim"}
	for _, address := range t.addresses {
		words = append(words, systemd.Quote(address.String()))
	}
	if t.force && !slices.Contains(flags, "--force") {
		flags = append(flags, "--force")
	}
	command := strings.Join(append(words, flags...), " ")
	if asRoot {
		return systemd.AsRoot(t.uid, command)
	}
	return command
}

// reclaimHint names the command that frees the address if an orphan holds it, and
// else what holders.InUse says.
func reclaimHint(ctx context.Context, address netip.AddrPort) string {
	sockets, _, err := judge.Known{}.Keeping(ctx, address)
	if err == nil {
		for _, socket := range sockets {
			for _, holder := range socket.Holders {
				if holder.Role == judge.Orphan {
					return fmt.Sprintf("%s is held by %s: `gateway reclaim %s` ends it", address, describeHolder(reclaim.Keeper{Holder: holder}), systemd.Quote(address.String()))
				}
			}
		}
	}
	return holders.InUse(address)
}

// describeKeeper is a process, what it holds, and why it is what it is.
func describeKeeper(k reclaim.Keeper) string {
	return fmt.Sprintf("%s, which holds %s: %s", describeHolder(k), joinAddresses(k.Addresses), k.Why)
}

func describeHolder(k reclaim.Keeper) string {
	kind := string(k.Role)
	if k.Role == judge.Foreign {
		kind = "foreign process"
	}
	return fmt.Sprintf("%s pid %d of user %s (%s)", kind, k.PID, systemd.UserName(int(k.UID)), k.Command)
}

func keeperAttrs(k reclaim.Keeper) []any {
	attrs := []any{"address", joinAddresses(k.Addresses), "uid", k.UID}
	if k.PID != 0 {
		attrs = append(attrs, "pid", k.PID, "role", string(k.Role), "command", k.Command)
	}
	if k.Process.Unit != "" {
		attrs = append(attrs, "in_unit", k.Process.Unit)
	}
	return attrs
}

func describeProcess(pid int) string {
	name := processName(pid)
	if name == "" {
		return fmt.Sprintf("pid %d", pid)
	}
	return fmt.Sprintf("pid %d (%s)", pid, name)
}
