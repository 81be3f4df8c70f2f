package reclaim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/proctree"
)

// Options says how far to go. The zero value ends orphans only.
type Options struct {
	// Force ends rivals and foreign processes too.
	Force bool
	// DryRun sends no signal.
	DryRun bool
	// Ours are addresses on which a socket unit of ours listens. An ordinary user
	// cannot see that it is systemd that holds them.
	Ours []netaddr.Address
	// Unbound says that nobody may hold the addresses, not even systemd: they are
	// about to be bound.
	Unbound bool
	// Term is how long a process may take to end after SIGTERM, Kill after SIGKILL;
	// 0 stands for 10 s and 3 s.
	Term, Kill time.Duration
	// Tell is called for each thing that is done, as it is done.
	Tell func(Event)
}

// An idle OpenClaw 2026.9.6 ends within these 10 s, on a busy machine just about
// (TestIncident prints it); one with work under way drains for up to 315 s. Both
// together, and the looks at the machine between them, are less than the
// TimeoutSec=20 of the socket unit, past which systemd would give the socket up.
const (
	defaultTerm = 10 * time.Second
	defaultKill = 3 * time.Second
)

// Event is something that is done to a holder.
type Event struct {
	Kind   EventKind
	Holder holders.Holder
	// Signal is the one that is sent, or that has ended it.
	Signal unix.Signal
	// After is how long the end took, from the first signal on.
	After time.Duration
}

// EventKind is what is done.
type EventKind string

// The kinds of events.
const (
	Ending EventKind = "ending" // it is sent Signal, or with DryRun would be
	Ended  EventKind = "ended"
	LetGo  EventKind = "let go" // it has left the addresses but lives, and is left to finish its work
)

// Result is what holds the addresses in the end; with DryRun, what would.
type Result struct {
	// Obstacles are what is in the way. Without any, the addresses are free, or
	// held by systemd, our launcher and its worker alone.
	Obstacles []Obstacle
	// Ours are the addresses that those three hold.
	Ours []netaddr.Address
	// Unseen is how many processes could not be looked into.
	Unseen int
}

// Obstacle is a process that holds addresses and was not ended.
type Obstacle struct {
	holders.Holder // an Unseen one where it is Hidden
	Reason         Reason
}

// Reason is why a process was not ended.
type Reason string

// The reasons.
const (
	NeedsForce Reason = "needs force" // a rival, a foreign process, or another user's launcher
	NotAllowed Reason = "not allowed" // another user's
	Untouched  Reason = "untouched"   // never ended: PID 1, a service manager, our launcher and its worker
	Ancestor   Reason = "ancestor"    // it has started this very process, or is it
	CameBack   Reason = "came back"   // it was not there before somebody else was ended
	Survived   Reason = "survived"    // it has not ended, perhaps not even by SIGKILL
	Hidden     Reason = "hidden"      // nobody who may be looked into holds the socket
)

// Run ends what may be ended of that which keeps the addresses from being bound,
// and says what is left. An error says that it could not look, or not in the time
// that ctx gives; what it then has already told is done.
func Run(ctx context.Context, addresses []netaddr.Address, o Options) (Result, error) {
	r := &reclaimer{Options: o, addresses: addresses, family: family()}
	r.Term, r.Kill = cmp.Or(r.Term, defaultTerm), cmp.Or(r.Kill, defaultKill)
	if r.Tell == nil {
		r.Tell = func(Event) {}
	}
	before, err := r.look(ctx)
	if err != nil {
		return Result{}, err
	}
	doomed := slices.DeleteFunc(slices.Clone(before.seen), func(h holders.Holder) bool { return r.objection(h) != "" })
	switch {
	case len(doomed) == 0:
		after, err := r.await(ctx, before)
		return r.result(before, after, nil), err
	case o.DryRun:
		for _, h := range doomed {
			r.Tell(Event{Kind: Ending, Holder: h, Signal: unix.SIGTERM})
		}
		return r.result(before, before, doomed), nil
	}
	if err := r.end(ctx, doomed); err != nil {
		return Result{}, err
	}
	after, err := r.look(ctx)
	if err == nil {
		after, err = r.await(ctx, after)
	}
	return r.result(before, after, nil), err
}

type reclaimer struct {
	Options
	addresses []netaddr.Address
	family    []int
	// slowest is how long a look has taken at the most.
	slowest time.Duration
}

// view is the machine at one moment.
type view struct {
	seen []holders.Holder
	// hidden are sockets that nobody who can be seen holds.
	hidden []holders.Socket
	unseen int
}

// look tells what keeps the addresses. Who ends between the look for sockets and the
// one for processes leaves a socket that nobody holds; it is gone a moment later.
func (r *reclaimer) look(ctx context.Context) (view, error) {
	begin := time.Now()
	v, err := r.glance(ctx)
	r.slowest = max(r.slowest, time.Since(begin))
	if err != nil || len(v.hidden) == 0 {
		return v, err
	}
	var still []uint64
	for _, address := range r.addresses {
		sockets, err := sockdiag.Blocking(address)
		if err != nil {
			return view{}, err
		}
		for _, socket := range sockets {
			still = append(still, socket.Inode)
		}
	}
	v.hidden = slices.DeleteFunc(v.hidden, func(socket holders.Socket) bool { return !slices.Contains(still, socket.Inode) })
	return v, nil
}

// await waits, before a bind, until systemd's children have let go, which it has forked and not executed yet.
func (r *reclaimer) await(ctx context.Context, v view) (view, error) {
	if !r.Unbound || !slices.ContainsFunc(v.seen, func(h holders.Holder) bool { return h.Forked }) {
		return v, nil
	}
	waiting := ctx
	if limit, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		waiting, cancel = context.WithDeadline(ctx, limit.Add(-r.slowest))
		defer cancel()
	}
	if err := holders.AwaitForked(waiting, r.addresses...); err != nil {
		return v, err
	}
	return r.look(ctx)
}

func (r *reclaimer) glance(ctx context.Context) (view, error) {
	sockets, unseen, err := holders.Known{Units: r.Unbound}.Blocking(ctx, r.addresses...)
	if err == nil {
		// What could not be asked in time would be judged without an answer.
		err = ctx.Err()
	}
	if err != nil {
		return view{}, fmt.Errorf("find out who holds the addresses: %w", err)
	}
	v := view{unseen: unseen}
	for _, socket := range sockets {
		if len(socket.Holders) == 0 {
			v.hidden = append(v.hidden, socket)
		}
	}
	v.seen = slices.DeleteFunc(holders.Each(sockets), func(h holders.Holder) bool { return h.Role == holders.Unseen })
	return v, nil
}

// same finds the very process of a holder in a later view, with what it is now.
func (v view) same(h holders.Holder) (holders.Holder, bool) {
	i := slices.IndexFunc(v.seen, func(other holders.Holder) bool {
		return other.PID == h.PID && other.Start == h.Start
	})
	if i < 0 {
		return holders.Holder{}, false
	}
	return v.seen[i], true
}

// objection is why a process may not be ended, "" if it may.
func (r *reclaimer) objection(h holders.Holder) Reason {
	switch {
	case h.Role == api.RoleSystemd, h.PID == 1, h.Mine(os.Geteuid()):
		return Untouched
	case slices.Contains(r.family, h.PID):
		return Ancestor
	case h.Role == api.RoleOrphan, r.Force:
		handle, err := h.Open()
		if err != nil {
			return "" // it has ended, or end will say
		}
		defer handle.Close()
		if errors.Is(handle.Signal(0), unix.EPERM) {
			return NotAllowed
		}
		return ""
	default:
		return NeedsForce
	}
}

// isOurs reports whether a process may hold the addresses. A manager does so for our socket unit, unless it is known to be
// for another one.
func isOurs(h holders.Holder) bool {
	return h.Mine(os.Geteuid()) && (h.Role != api.RoleSystemd || h.RunBy.Unit == "" || h.RunBy.Ours)
}

// doomed is a holder that is being ended.
type doomed struct {
	holders.Holder
	handle *proctree.Handle
}

// end sends SIGTERM to all, waits for all, and sends SIGKILL to those that still
// hold an address.
func (r *reclaimer) end(ctx context.Context, all []holders.Holder) error {
	var left []doomed
	defer func() {
		for _, d := range left {
			d.handle.Close()
		}
	}()
	for _, h := range all {
		handle, err := h.Open()
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("end pid %d: %w", h.PID, err)
		}
		left = append(left, doomed{h, handle})
	}
	start := time.Now()
	for _, step := range []struct {
		signal unix.Signal
		bound  time.Duration
	}{{unix.SIGTERM, r.Term}, {unix.SIGKILL, r.Kill}} {
		var gone []doomed
		var err error
		if left, gone, err = r.signal(ctx, left, step.signal); err != nil {
			return err
		}
		sent := time.Now()
		deadline := sent.Add(step.bound)
		// There must be time for what comes after, where looks take long.
		reserve := r.slowest
		if step.signal == unix.SIGTERM {
			reserve += r.slowest + min(r.Kill, defaultKill) + lastBreath
		}
		if limit, ok := ctx.Deadline(); ok && limit.Add(-reserve).Before(deadline) {
			deadline = limit.Add(-reserve)
		}
		var alive []doomed
		for i, d := range left {
			ended, err := d.handle.Wait(deadline)
			if err != nil {
				left = append(alive, left[i:]...)
				return fmt.Errorf("wait for the end of pid %d: %w", d.PID, err)
			}
			if !ended {
				alive = append(alive, d)
				continue
			}
			r.Tell(Event{Kind: Ended, Holder: d.Holder, Signal: step.signal, After: time.Since(start)})
			d.handle.Close()
		}
		left = alive
		for _, d := range gone {
			if ended, err := d.handle.Wait(sent.Add(lastBreath)); err == nil && ended {
				r.Tell(Event{Kind: Ended, Holder: d.Holder, Signal: unix.SIGTERM, After: time.Since(start)})
			} else {
				r.Tell(Event{Kind: LetGo, Holder: d.Holder})
			}
			d.handle.Close()
		}
	}
	return nil
}

// lastBreath is for a process that has let go of the address: it may do so because it ends, when the kernel closes its files first,
// which on a busy machine is a moment before its end is told.
var lastBreath = time.Second

// signal sends a signal to those that are still what they were, and returns them, and those who hold nothing any more after the
// first one. The handles were opened before this look, so what it finds by pid and start time is what they lead to.
func (r *reclaimer) signal(ctx context.Context, all []doomed, signal unix.Signal) (sent, gone []doomed, err error) {
	if len(all) == 0 {
		return nil, nil, nil
	}
	now, err := r.look(ctx)
	if err != nil {
		return all, nil, err
	}
	for i, d := range all {
		h, holds := now.same(d.Holder)
		if !holds && signal == unix.SIGKILL {
			gone = append(gone, d)
			continue
		}
		if !holds || h.Role != d.Role || !slices.Equal(h.Argv, d.Argv) || r.objection(h) != "" {
			d.handle.Close()
			continue
		}
		r.Tell(Event{Kind: Ending, Holder: h, Signal: signal})
		if err := d.handle.Signal(signal); err != nil && !errors.Is(err, os.ErrNotExist) {
			return slices.Concat(sent, gone, all[i:]), nil, fmt.Errorf("end pid %d: %w", d.PID, err)
		}
		sent = append(sent, d)
	}
	return sent, gone, nil
}

// result says what of a view is in the way, as if those who are gone had ended.
func (r *reclaimer) result(before, after view, gone []holders.Holder) Result {
	result := Result{Unseen: after.unseen}
	obstructed := map[netaddr.Address]bool{}
	add := func(h holders.Holder, reason Reason) {
		result.Obstacles = append(result.Obstacles, Obstacle{Holder: h, Reason: reason})
		for _, address := range h.Addresses {
			obstructed[address] = true
		}
	}
	ours := func(addresses ...netaddr.Address) {
		for _, address := range addresses {
			if !slices.Contains(result.Ours, address) {
				result.Ours = append(result.Ours, address)
			}
		}
	}
	for _, h := range after.seen {
		if (view{seen: gone}).has(h) {
			continue
		}
		may := isOurs(h)
		switch reason := r.objection(h); {
		case may && !r.Unbound:
			ours(h.Addresses...)
		case !may && !before.has(h):
			add(h, CameBack)
		case reason == "":
			add(h, Survived)
		default:
			add(h, reason)
		}
	}
	for _, socket := range after.hidden {
		if !r.Unbound && slices.Contains(r.Ours, socket.Address) {
			ours(socket.Address)
			continue
		}
		add(holders.Each([]holders.Socket{socket})[0], Hidden)
	}
	result.Ours = slices.DeleteFunc(result.Ours, func(address netaddr.Address) bool { return obstructed[address] })
	return result
}

func (v view) has(h holders.Holder) bool {
	_, found := v.same(h)
	return found
}

// family is this process and those it descends from: to end one of them could end
// this one, with the work half done. A session in an OpenClaw that has become an
// orphan is such a case.
func family() []int {
	pids := []int{os.Getpid()}
	for ancestor := range proctree.Ancestry(os.Getppid()) {
		pids = append(pids, ancestor.PID)
	}
	return pids
}
