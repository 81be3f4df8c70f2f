package launcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/listener"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
	"openclaw-gateway/worker/proctree"
)

// source is who keeps the listening sockets open while the launcher is away.
type source struct {
	kind    api.Source
	of      instance.Name // whose the launcher is
	manager int           // the pid of the one that passed the sockets; 0: none did
	refused []error
}

// scope is that of the manager that passed the sockets.
func (s source) scope() units.Scope {
	if s.manager != 1 {
		return units.User
	}
	return units.System
}

// scopeName is where the launcher's unit is.
func (s source) scopeName() string {
	if s.kind != api.FromSystemd {
		return api.ScopeNone
	}
	return string(s.scope())
}

// inherit takes the sockets that systemd passed. Without any, the launcher has
// to bind them itself, which under systemd would bring back the race that the
// socket unit ends.
func inherit(of instance.Name) (listener.Set, source, error) {
	sockets, refused, err := listener.Inherit()
	switch {
	case errors.Is(err, listener.ErrNoSockets) && proctree.ExecutedBySystemd():
		return nil, source{}, errors.New("systemd passed no sockets to this service: enable the socket unit, " +
			"\"systemctl enable --now " + of.Socket() + "\" (with --user for a user's), which \"" + gateway(of, "install") + "\" writes")
	case errors.Is(err, listener.ErrNoSockets):
		return nil, source{kind: api.FromItself, of: of}, nil
	case err != nil:
		return nil, source{}, err
	}
	// Where all are refused it stays and says so: systemd would start it again and again.
	return sockets, source{kind: api.FromSystemd, of: of, manager: os.Getppid(), refused: refused}, nil
}

// gateway is a command of this program about an instance.
func gateway(of instance.Name, verb string) string {
	return strings.Join(append([]string{"gateway", verb}, of.Flag()...), " ")
}

func (s source) renderAgain() string {
	return fmt.Sprintf("run %q again, which renders the units and restarts the socket", gateway(s.of, "install"))
}

// openAnew is what makes other sockets of those that are held.
func (s source) openAnew() string {
	if s.kind != api.FromSystemd {
		return "stop \"gateway run\" and start it again"
	}
	return "`" + systemd.Of(s.scope()).Command(os.Geteuid(), "restart", s.of.Socket()) + "`"
}

// heldSockets is the sockets that the launcher has open. What systemd passed stays
// as it is; what the launcher has bound itself follows "listen": an address is
// bound when the first edition asks for it, and closed with the last one that
// did.
type heldSockets struct {
	source
	log *slog.Logger

	mu      sync.Mutex
	sockets listener.Set
	claims  map[int]listener.Set // by edition
	absent  []netaddr.Address    // what this machine was said not to have
	// epoch is done when sockets is no longer what is held.
	epoch context.Context
	next  context.CancelFunc
}

func newHeldSockets(sockets listener.Set, source source, log *slog.Logger) *heldSockets {
	h := &heldSockets{source: source, log: log, claims: map[int]listener.Set{}}
	h.set(sockets)
	return h
}

// set is called with the lock, or before anybody else knows of h.
func (h *heldSockets) set(sockets listener.Set) {
	if h.next != nil {
		h.next()
	}
	h.sockets = sockets
	h.epoch, h.next = context.WithCancel(context.Background())
}

// current returns what is held, and a context that is done when that has changed.
func (h *heldSockets) current() (listener.Set, context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sockets, h.epoch
}

// wish is what a configuration wants to listen on.
type wish struct {
	listen    []netaddr.Address
	dualStack bool
	access    map[netaddr.Address]netaddr.Access
}

// number puts numbers in the place of the names of users and groups.
func (w *wish) number() (err error) {
	w.access = maps.Clone(w.access)
	for address, access := range w.access {
		if w.access[address], err = systemd.Owner(access); err != nil {
			return fmt.Errorf("%s: %w", address, err)
		}
	}
	return nil
}

func wishOf(cfg *config.Config) wish { return wish{cfg.Listen, cfg.DualStack, cfg.Access} }

// claim returns the sockets for an edition, in the order of listen, and keeps
// them open for it. The launcher binds what it can and does not have yet, all of
// it or, when an address is in use, none.
func (h *heldSockets) claim(edition int, wants wish) (listener.Set, error) {
	// Whoever has the names of users is asked, and systemd, without the lock: the supervisor takes it.
	if h.kind == api.FromItself {
		if err := wants.number(); err != nil {
			return nil, err
		}
	}
	selected, held, err := h.take(edition, wants)
	if err != nil || len(selected) > 0 {
		return selected, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), driftAgainLimit)
	defer cancel()
	return nil, fmt.Errorf("listen is %s, but %s holds %s: %s",
		say.Listen(wants.listen, wants.dualStack), h.kind, cmp.Or(say.List(say.Texts(held)), "nothing of the kind"), h.mend(ctx, "ListenStream", "BindIPv6Only"))
}

// take is claim; where nothing is found it claims nothing, and returns what is held.
func (h *heldSockets) take(edition int, wants wish) (selected, held listener.Set, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	selected, missing, _ := h.sockets.Select(wants.listen, wants.dualStack)
	if err := h.narrows(selected, wants.dualStack); err != nil {
		return nil, nil, err
	}
	for _, socket := range selected {
		if err := socket.Grant(wants.access[socket.Address]); err != nil {
			return nil, nil, err
		}
	}
	if h.kind == api.FromItself && len(missing) > 0 {
		bound, err := h.bind(missing, wants, len(selected) > 0)
		if err != nil {
			return nil, nil, err
		}
		if len(bound) > 0 {
			h.set(slices.Concat(h.sockets, bound))
			selected, _, _ = h.sockets.Select(wants.listen, wants.dualStack)
		}
	}
	if len(selected) == 0 {
		return nil, h.sockets, nil
	}
	selected = h.besides(selected)
	h.claims[edition] = selected
	return selected, h.sockets, nil
}

// besides adds the unix sockets that a drop-in of the socket unit names: nothing else has their paths.
func (h *heldSockets) besides(selected listener.Set) listener.Set {
	for _, socket := range h.sockets {
		if h.kind == api.FromSystemd && socket.Address.IsUnix() && !slices.Contains(selected, socket) {
			selected = append(selected, socket)
		}
	}
	return selected
}

// bind listens on the addresses. One that the machine does not have is no reason
// to give up the others, here or already open: ::1 is missing where IPv6 is
// switched off.
func (h *heldSockets) bind(addresses []netaddr.Address, wants wish, others bool) (bound listener.Set, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, closeAll(bound))
			bound = nil
		}
	}()
	var absent []error
	for _, address := range addresses {
		if err := h.overlaps(address, wants.dualStack); err != nil {
			return bound, err
		}
		socket, err := listener.BindWith(address, listener.Options{DualStack: wants.dualStack, Access: wants.access[address]})
		known := slices.Contains(h.absent, address)
		switch {
		case err == nil:
			bound = append(bound, socket)
			h.log.Info("listening", "address", say.Address(address, wants.dualStack))
			h.absent = slices.DeleteFunc(h.absent, func(a netaddr.Address) bool { return a == address })
		case errors.Is(err, unix.EADDRINUSE):
			return bound, &AddressInUse{Address: address, Err: err}
		case listener.Absent(err):
			absent = append(absent, err)
			if !known {
				h.absent = append(h.absent, address)
				h.log.Warn("this machine does not have the address, going on with the others", "error", err)
			}
		default:
			return bound, err
		}
	}
	if len(bound) == 0 && !others {
		return nil, errors.Join(absent...)
	}
	return bound, nil
}

// AddressInUse is an address that somebody else holds. Who, whoever asks finds out: that takes a look at the whole machine.
type AddressInUse struct {
	Address netaddr.Address
	Err     error // what binding it said; nil: nobody has tried
}

func (e *AddressInUse) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("%s is in use", e.Address)
	}
	return e.Err.Error() + ": `gateway status` shows who holds it"
}

func (e *AddressInUse) Unwrap() error { return e.Err }

// Grant gives the unix socket at a path its mode and owner.
func Grant(path string, access netaddr.Access) error {
	access, err := systemd.Owner(access)
	if err != nil {
		return err
	}
	return listener.GrantAt(path, access)
}

// foresee returns what a claim would find open already, and the addresses that it
// would end up with. It binds nothing. Where systemd holds none of them, there
// is neither.
func (h *heldSockets) foresee(wants wish) (listener.Set, []netaddr.Address, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	selected, missing, _ := h.sockets.Select(wants.listen, wants.dualStack)
	if h.kind != api.FromItself {
		selected = h.besides(selected)
		return selected, selected.Addresses(), nil
	}
	if err := h.narrows(selected, wants.dualStack); err != nil {
		return nil, nil, err
	}
	for _, address := range missing {
		if err := h.overlaps(address, wants.dualStack); err != nil {
			return nil, nil, err
		}
		others, err := sockdiag.Listening(address)
		if err != nil {
			return nil, nil, err
		}
		if len(others) > 0 {
			return nil, nil, &AddressInUse{Address: address}
		}
	}
	addresses := slices.DeleteFunc(slices.Clone(wants.listen), func(a netaddr.Address) bool { return slices.Contains(h.absent, a) })
	return selected, addresses, nil
}

// overlaps refuses an address that cannot be bound beside one that is held: that
// one stays open until the next generation has become ready.
func (h *heldSockets) overlaps(address netaddr.Address, dualStack bool) error {
	for _, held := range h.sockets {
		if netaddr.Overlap(address, dualStack, held.Address, held.DualStack) {
			return occupied(say.Address(address, dualStack), held)
		}
	}
	return nil
}

// narrows refuses to serve IPv6 alone by a dual-stack socket that the launcher has bound itself. Where a unit has one,
// somebody has said so there (BindIPv6Only= in systemd.socket(5)).
func (h *heldSockets) narrows(selected listener.Set, dualStack bool) error {
	for _, held := range selected {
		if h.kind == api.FromItself && held.DualStack && !dualStack {
			return occupied(held.Address.String(), held)
		}
	}
	return nil
}

func occupied(address string, held *listener.Socket) error {
	return fmt.Errorf("%s cannot be bound while %s is held, and that is held until the next generation serves: "+
		"stop \"gateway run\" and start it again", address, held)
}

// dropClaim takes the claim of an edition back.
func (h *heldSockets) dropClaim(edition int) {
	h.retainClaims(func(e int) bool { return e != edition })
}

// retainClaims drops the claims of all other editions, and closes what nobody claims any
// more and the launcher has bound itself.
func (h *heldSockets) retainClaims(wanted func(edition int) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	claimed := map[*listener.Socket]bool{}
	for edition, sockets := range h.claims {
		if !wanted(edition) {
			delete(h.claims, edition)
			continue
		}
		for _, socket := range sockets {
			claimed[socket] = true
		}
	}
	if h.kind != api.FromItself {
		return
	}
	var kept, unwanted listener.Set
	for _, socket := range h.sockets {
		if claimed[socket] {
			kept = append(kept, socket)
		} else {
			unwanted = append(unwanted, socket)
		}
	}
	if len(unwanted) == 0 {
		return
	}
	// First, so that nobody polls a descriptor that is another file's by then, or listens again.
	h.set(kept)
	if err := closeAll(unwanted); err != nil {
		h.log.Error("cannot close a socket", "error", err)
	}
	h.log.Info("no longer listening", "address", say.List(say.Texts(unwanted)))
}

// unlink removes the files of the unix sockets that the launcher has bound itself: it ends.
func (h *heldSockets) unlink() {
	sockets, _ := h.current()
	for _, socket := range sockets {
		if err := socket.Unlink(); err != nil {
			h.log.Error("cannot remove the file of a socket", "address", socket.Address, "error", err)
		}
	}
}

// closeAll closes sockets that the launcher has bound itself. A poll(2) that is under way keeps them open for a moment longer,
// so they are shut down first: from here on clients are refused, and nobody is let in and thrown out.
func closeAll(sockets listener.Set) error {
	var errs []error
	for _, socket := range sockets {
		// It fails where a worker has done so.
		_ = listener.Control(socket.File, func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RDWR) })
		errs = append(errs, socket.Unlink(), socket.File.Close())
	}
	return errors.Join(errs...)
}

// relisten watches for a worker that shuts the sockets down for everybody, until the context is done.
func (h *heldSockets) relisten(ctx context.Context) {
	for {
		sockets, epoch := h.current()
		// Of the epoch, which ends before anything is closed: that is nothing to be mended.
		watching, stop := context.WithCancel(epoch)
		follow := context.AfterFunc(ctx, stop)
		err := h.relistenUntil(watching, sockets)
		follow()
		stop()
		switch {
		case ctx.Err() != nil:
			return
		case epoch.Err() == nil:
			h.log.Error("cannot watch the sockets: one that a worker shuts down is mended with the next generation", "error", err)
			return
		}
	}
}

func (h *heldSockets) relistenUntil(ctx context.Context, sockets listener.Set) error {
	watch, err := sockets.Watch(ctx)
	if err != nil {
		return err
	}
	defer watch.Close()
	for {
		mended, err := watch.Mended()
		if err != nil {
			return err
		}
		h.log.Warn("somebody shut a listening socket down; it listens again", "address", say.List(say.Texts(mended)))
	}
}
