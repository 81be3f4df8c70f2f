package intercept

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/passed"
	"openclaw-gateway/sockopts"
)

// Socket is a listening TCP socket to hand over. The descriptor stays the caller's.
type Socket struct {
	File    *os.File
	Backlog int // how many clients may wait; 0: 4096
}

// Event is what has happened.
type Event int

// The events.
const (
	Listening Event = iota // somebody listens on the socket
	Clash                  // somebody wants an address that overlaps that of the socket, which the kernel refuses
	Unseen                 // somebody gets nothing, because he cannot be looked into or binds for another one; Detail says who and why
	Arrived                // somebody wants an address, and waits for Pass
	Closed                 // nobody has it any more
)

// Told is one event.
type Told struct {
	Event  Event
	Socket int            // the number of it; -1: it is none of the held ones, but has the address Wanted
	Wanted netip.AddrPort // of Clash, and without a held socket
	V6Only bool           // of Clash: IPv6 clients alone were asked for
	// Narrow says that who listens has asked for IPv4 clients as well, which the socket does not take.
	Narrow bool
	// Passed says that who listens was started with the socket, and has not bound its address.
	Passed bool
	Detail string
}

// Options are what an Interceptor is made from.
type Options struct {
	Sockets []Socket
	// Passed is how many descriptors from 3 on the program has been started with that are held sockets: having those is not using them.
	Passed int
	// Members are the processes of the generation.
	Members func() []int
	// Besides has it told as well where else somebody listens, with a port that was asked for.
	Besides bool
	// Gated holds whoever binds an address with a port, whichever ([Arrived]), until Pass or Release.
	Gated bool
	// Tell is told each event once, from whichever goroutine, and must not wait.
	Tell func(Told)
}

// Interceptor answers the calls of one generation.
type Interceptor struct {
	Options
	held []*held

	mu       sync.Mutex // an address is given to one at a time
	notifier *notifier
	over     chan struct{} // closed by Close
	places   chan struct{} // of the calls that are looked at
	told     map[Told]bool
	besides  []*held // what is bound besides
	still    bool    // it is suspended
	served   bool    // on what was passed: of that no call tells
	pause    passed.Pause
	gate
}

// held is a held socket, and who has it.
type held struct {
	traits
	number  int
	wanted  netip.AddrPort // of one besides
	file    *os.File
	backlog int

	takers    []taker // some may have closed it since
	lived     int     // so many had it when that was looked at
	shared    bool    // all of them have asked for SO_REUSEPORT
	narrow    bool
	given     bool           // for a bind
	base      sockopts.State // what the unit has set, and what was set before that was given
	listening bool
	left      bool // nobody had it when the generation was to let go of it: another one has it by now
}

// taker is a descriptor that was exchanged for the held socket.
type taker struct{ process, fd int }

// How long an address that was bound or listened on has to be kept to count as served. Some bind only to see whether a port is free
// (get-port of npm listens even); HAProxy never listens, because it finds that the socket does.
const (
	keptBound     = 100 * time.Millisecond
	keptListening = 10 * time.Millisecond
)

// mostCalls is how many calls are looked at at the same time. A look may take as long as the caller likes: its memory can be a file of
// its own (userfaultfd(2), FUSE).
const mostCalls = 32

const defaultBacklog = 4096

// fewTakers are not looked through.
const fewTakers = 16

// mostTold is how many events are told before those that the program can make up are not any more.
const mostTold = 16

// New returns an Interceptor, or why this process cannot be one.
func New(options Options) (*Interceptor, error) {
	i := &Interceptor{Options: options, told: map[Told]bool{}, over: make(chan struct{}), places: make(chan struct{}, mostCalls)}
	i.gate = gate{shut: options.Gated, waiting: map[Told][]waiting{}}
	for number, socket := range options.Sockets {
		h := &held{number: number, file: socket.File, backlog: cmp.Or(socket.Backlog, defaultBacklog)}
		err := h.use(func(fd int) (err error) {
			h.traits, err = look(fd)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("examine %s: %w", socket.File.Name(), err)
		}
		if h.domain != unix.AF_INET && h.domain != unix.AF_INET6 {
			return nil, errNoTCP
		}
		i.held = append(i.held, h)
	}
	return i, able()
}

var errNoTCP = errors.New("intercept gives sockets of TCP alone")

// use calls f with the descriptor, which does not become non-blocking by it.
func (h *held) use(f func(fd int) error) error {
	raw, err := h.file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = f(int(fd)) })
	return errors.Join(err, inner)
}

// able tries on this process what it has to do with others.
func able() error {
	own, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(own)
	fd, err := unix.PidfdGetfd(own, own, 0)
	if err != nil {
		return fmt.Errorf("%w: pidfd_getfd: %w", ErrFiltered, err)
	}
	return unix.Close(fd)
}

// ErrFiltered says that this process is kept from what an Interceptor does.
var ErrFiltered = errors.New("a filter of the unit's or the container's forbids what intercept needs: let SystemCallFilter= have \"seccomp pidfd_getfd\" besides, in a container add the capability SYS_PTRACE")

// Serve answers until nobody is left under the filter, or until Close. It closes the descriptor, on which the kernel tells of the calls.
func (i *Interceptor) Serve(listener *os.File) error {
	n, err := newNotifier(listener)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	i.mu.Lock()
	i.notifier = &n
	if i.closed() {
		_ = listener.Close()
	}
	i.mu.Unlock()
	defer i.Close()
	defer i.pause.Leave()
	for {
		got, err := n.receive()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			i.pause.Point()
			continue
		case errors.Is(err, errUnused), i.closed():
			return nil
		case err != nil:
			return err
		}
		if !i.do(func() { i.handle(n, got) }) {
			return nil
		}
	}
}

// do does something when there is a place, and reports whether there was one before it was over.
func (i *Interceptor) do(what func()) bool {
	select {
	case i.places <- struct{}{}:
	case <-i.over:
		return false
	}
	go func() {
		defer func() { <-i.places }()
		what()
	}()
	return true
}

// Close ends Serve. Who is under the filter still gets ENOSYS from then on.
func (i *Interceptor) Close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed() {
		return nil
	}
	close(i.over)
	if i.notifier == nil {
		return nil
	}
	return i.notifier.file.Close()
}

func (i *Interceptor) closed() bool {
	select {
	case <-i.over:
		return true
	default:
		return false
	}
}

// handle answers one call. An answer that does not arrive is one that nobody waits for: the caller has gone, or a signal has
// interrupted it, and then the call comes again.
func (i *Interceptor) handle(n notifier, got notification) {
	tid := int(got.tid)
	if tid == 0 { // of a PID namespace beside ours
		_ = n.pass(got.id)
		return
	}
	c, ok, err := decode(got.call, memoryOf(tid))
	switch {
	case err != nil:
		i.unseen(n, got.id, tid, err)
		_ = n.pass(got.id)
	case !ok:
		_ = n.pass(got.id)
	case c.bind:
		i.bind(n, got.id, tid, c, false)
	default:
		i.listen(n, got.id, tid, c.fd)
	}
}

// bind answers a bind(2), or has it wait at the gate, unless it has passed that.
func (i *Interceptor) bind(n notifier, id uint64, tid int, c call, passed bool) {
	pass := func() { _ = n.pass(id) }
	if c.length < shortest || c.length > longest {
		pass()
		return
	}
	// The kernel reads all of it, whatever it needs.
	content := make([]byte, c.length)
	if err := memoryOf(tid)(c.address, content); err != nil {
		i.unseen(n, id, tid, err)
		pass()
		return
	}
	asked, ok := parse(content)
	if !ok || !i.Besides && !slices.ContainsFunc(i.held, func(h *held) bool { return h.port == asked.port }) {
		pass()
		return
	}
	from, err := fetch(tid, c.fd)
	if err != nil {
		i.unseen(n, id, tid, err)
		pass()
		return
	}
	defer from.close()
	own, err := look(from.fd)
	if err != nil || !n.waits(id) {
		pass()
		return
	}
	ours, clash := match(i.held, asked, own)
	// What reads of the caller or changes something there comes before mu is taken, or after: it may wait for as long as the caller likes.
	var at []place
	if ours != nil {
		if parent := parentWith(from.process, own.inode); parent > 0 {
			i.obstructed(n, id, true, whyOfTwo(from.process, parent))
			pass()
			return
		}
		if at, err = placesOf(from.process, tid, c.fd, own.inode); err != nil {
			pass()
			return
		}
	}
	i.mu.Lock()
	unlock := sync.OnceFunc(i.mu.Unlock)
	defer unlock()
	if i.closed() {
		return
	}
	if again := i.heldAs(own.inode); again != nil {
		// A signal has interrupted the call after our socket was put there. That one should be bound twice, which nobody does,
		// cannot be told from it.
		if h, _ := match(i.held, asked, traits{domain: asked.family, kind: own.kind, protocol: own.protocol, namespace: own.namespace, device: own.device}); h == again {
			_ = n.answer(id, 0)
			return
		}
		pass()
		return
	}
	besides := ours == nil && clash == nil && i.Besides && i.fixed(asked, own)
	switch {
	case clash != nil:
		pass()
		i.tell(Told{Event: Clash, Socket: clash.number, Wanted: netip.AddrPortFrom(asked.ip, asked.port), V6Only: own.v6only})
	case i.shut && !passed && (ours != nil || besides):
		i.wait(placeOf(ours, asked), waiting{n, id, tid, c})
	case besides:
		i.note(asked, own, taker{from.process, c.fd})
		pass()
	case ours == nil:
		pass()
	case ours.left:
		_ = n.answer(id, unix.EADDRINUSE)
	case !(ours.shared && own.reusePort) && i.has(ours):
		_ = n.answer(id, unix.EADDRINUSE)
	default:
		err := i.give(n, id, ours, own, from, at)
		unlock()
		switch {
		case err == nil:
			ours.rewatch(from.pidfd, at)
			_ = n.answer(id, 0)
		case !errors.Is(err, unix.ENOENT):
			pass()
		}
	}
}

// give puts the held socket in the places of the caller's, with all that this one was made to be but its watches.
func (i *Interceptor) give(n notifier, id uint64, h *held, own traits, from *caller, at []place) error {
	// The mode belongs to the description, which all share. Beside others it is not made blocking: an event loop of theirs would hang in
	// accept(2), and who has just asked for that address as they did asks for their mode later. Looked at before it is there once more.
	blocks := !own.nonblocking && !(h.shared && i.has(h))
	err := h.use(func(ours int) error {
		// First, because that is refused for who has gone: nothing changes on the socket for one of an earlier generation.
		if err := n.put(id, uintptr(ours), at[0].fd, at[0].cloexec); err != nil {
			return err
		}
		duplicates := at[1:]
		for k := range duplicates {
			p := &duplicates[k]
			if inodeAt(from.process, p.fd) != own.inode { // a thread has closed it since, and has opened something else there
				p.watches = nil
				continue
			}
			_ = n.put(id, uintptr(ours), p.fd, p.cloexec)
		}
		if own.nonblocking || blocks {
			_ = unix.SetNonblock(ours, own.nonblocking)
		}
		if !h.given {
			h.base = sockopts.Read(ours)
		}
		sockopts.Read(from.fd).Over(h.base, fresh(own)).Apply(ours)
		from.letGo() // or the old socket would stay in the sets, and be heard of
		return nil
	})
	if err != nil {
		return err
	}
	h.shared = own.reusePort // and all others too, if there are some
	h.take(taker{from.process, at[0].fd})
	h.given = true
	h.narrow = h.ip == netip.IPv6Unspecified() && h.v6only && !own.v6only
	if !h.listening {
		i.after(keptBound, h)
	}
	return nil
}

// Served is told that the worker serves. Where nobody is seen to have a held socket it does so on those that it was passed, and has them
// all from then on: who takes them need make no call that is seen.
func (i *Interceptor) Served() {
	i.mu.Lock()
	defer i.mu.Unlock()
	seen := slices.ContainsFunc(i.held, func(h *held) bool { return h.listening || i.has(h) })
	i.served = i.served || i.Passed > 0 && !seen
}

// fresh are the options of a socket of that kind of which nobody has set any.
func fresh(of traits) (options sockopts.State) {
	fd, err := unix.Socket(of.domain, of.kind|unix.SOCK_CLOEXEC, of.protocol)
	if err == nil {
		options = sockopts.Read(fd)
		_ = unix.Close(fd)
	}
	return options
}

// take notes who has the socket, and forgets who has it no more, when they have become many.
func (h *held) take(by taker) {
	if !slices.Contains(h.takers, by) {
		h.takers = append(h.takers, by)
	}
	if len(h.takers) > 2*h.lived+fewTakers {
		h.takers = slices.DeleteFunc(h.takers, func(t taker) bool { return inodeAt(t.process, t.fd) != h.inode })
		h.lived = len(h.takers)
	}
}

// listen answers a listen(2).
func (i *Interceptor) listen(n notifier, id uint64, tid, fd int) {
	inode := inodeAt(tid, fd)
	h := i.heldAs(inode)
	process, err := processOf(tid)
	waits := err == nil && n.waits(id)
	if waits && h == nil { // before the answer, so that it is told before what the caller does next
		i.listenBesides(taker{process, fd}, inode)
	}
	if h == nil || !waits {
		_ = n.pass(id)
		return
	}
	// With the whole queue, whatever the caller asks for. It mends a socket that somebody has shut down, too.
	err = h.use(func(fd int) error { return unix.Listen(fd, h.backlog) })
	var errno unix.Errno
	if err != nil && !errors.As(err, &errno) {
		errno = unix.EINVAL
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	_ = n.answer(id, errno)
	if err != nil {
		return
	}
	h.take(taker{process, fd}) // a child, perhaps, that has inherited it
	if !h.listening {
		i.after(keptListening, h)
	}
}

// after tells that somebody listens if the socket is still had after a while.
func (i *Interceptor) after(kept time.Duration, h *held) {
	time.AfterFunc(kept, func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.closed() || i.still || h.listening || !i.has(h) {
			return
		}
		h.listening = true
		i.tell(Told{Event: Listening, Socket: h.number, Wanted: h.wanted, Narrow: h.narrow, Passed: !h.given})
	})
}

func (i *Interceptor) heldAs(inode uint64) *held {
	if at := slices.IndexFunc(i.held, func(h *held) bool { return inode != 0 && h.inode == inode }); at >= 0 {
		return i.held[at]
	}
	return nil
}

// tell is called under mu.
func (i *Interceptor) tell(what Told) {
	if i.told[what] || what.Event == Clash && len(i.told) >= mostTold {
		return
	}
	i.told[what] = true
	i.Tell(what)
}

// unseen tells that a thread cannot be looked into, if that is what is wrong with it. It has not been answered yet.
func (i *Interceptor) unseen(n notifier, id uint64, tid int, err error) {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		i.obstructed(n, id, false, whyUnseen(tid))
	}
}

// obstructed tells why somebody gets nothing, of the first one; once more of the first who certainly has wanted a held socket.
func (i *Interceptor) obstructed(n notifier, id uint64, certain bool, why string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	perhaps, certainly := Told{Event: Unseen}, Told{Event: Unseen, Detail: "certain"}
	if i.told[certainly] || i.told[perhaps] && !certain || !n.waits(id) {
		return
	}
	i.told[perhaps], i.told[certainly] = true, certain
	i.Tell(Told{Event: Unseen, Detail: why})
}

// mostSeen is how many descriptors of a generation are looked at, at about 5 us for each. Where nobody was seen by then, nobody has
// the socket.
const mostSeen = 50_000

// has reports whether a process of the generation has the socket: where it was put, or anywhere, for it may have been inherited.
func (i *Interceptor) has(h *held) bool {
	if i.served && h.number >= 0 {
		return true
	}
	if slices.ContainsFunc(h.takers, func(t taker) bool { return inodeAt(t.process, t.fd) == h.inode }) {
		return true
	}
	if len(h.takers) == 0 {
		return false // nobody ever had it
	}
	left := mostSeen
	return slices.ContainsFunc(i.Members(), func(process int) bool {
		found, _ := opens(process, h.inode, i.Passed, &left)
		return found
	})
}
