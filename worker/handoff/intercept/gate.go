package intercept

import (
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// gate is where a generation that starts beside another one waits: in its calls, which nobody answers. They take nothing but
// memory meanwhile: no place, no descriptor of the caller's and no goroutine.
type gate struct {
	shut     bool               // nobody passes
	waiting  map[Told][]waiting // by the address, as Arrived tells it
	count    int                // of them all
	lived    int                // so many waited still when that was looked at
	watching bool
}

// waiting is a bind(2) that is not answered yet.
type waiting struct {
	notifier notifier
	id       uint64
	tid      int
	call     call
}

// fewWaiting are not looked through. Of what is bound besides, and waited for, so much is remembered: a program can make up any number.
const (
	fewWaiting  = 16
	mostBesides = 256
)

// placeOf is the address of a bind, as Arrived tells it.
func placeOf(ours *held, asked sockaddr) Told {
	if ours != nil {
		return Told{Event: Arrived, Socket: ours.number}
	}
	return Told{Event: Arrived, Socket: -1, Wanted: netip.AddrPortFrom(asked.ip.Unmap(), asked.port)}
}

// fixed reports whether the caller asks for a port of TCP, where the held sockets are.
func (i *Interceptor) fixed(asked sockaddr, own traits) bool {
	return own.kind == unix.SOCK_STREAM && (own.protocol == unix.IPPROTO_TCP || own.protocol == unix.IPPROTO_MPTCP) &&
		own.domain == asked.family && own.port == 0 && asked.port != 0 &&
		slices.ContainsFunc(i.held, func(h *held) bool { return h.namespace == own.namespace })
}

// wait is called under mu.
func (i *Interceptor) wait(at Told, w waiting) {
	if i.count > 2*i.lived+fewWaiting { // who was killed meanwhile waits no more
		i.count = 0
		for place, all := range i.waiting {
			i.waiting[place] = slices.DeleteFunc(all, func(w waiting) bool { return !w.notifier.waits(w.id) })
			i.count += len(i.waiting[place])
		}
		i.lived = i.count
	}
	_, known := i.waiting[at]
	if !known && at.Socket < 0 && len(i.waiting) >= mostBesides {
		_ = w.notifier.pass(w.id)
		return
	}
	i.waiting[at] = append(i.waiting[at], w)
	i.count++
	if !known {
		i.Tell(at)
	}
}

// Pass lets go on who waits for the address that Arrived has told, and holds the next one there.
func (i *Interceptor) Pass(socket int, wanted netip.AddrPort) {
	i.mu.Lock()
	defer i.mu.Unlock()
	place := Told{Event: Arrived, Socket: socket, Wanted: wanted}
	all := i.waiting[place]
	delete(i.waiting, place)
	i.goOn(all)
}

// Release lets everybody go on, and holds nobody any more.
func (i *Interceptor) Release() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.shut = false
	for _, all := range i.waiting {
		i.goOn(all)
	}
	i.waiting = nil
}

// goOn is called under mu.
func (i *Interceptor) goOn(all []waiting) {
	if len(all) == 0 {
		return
	}
	i.count -= len(all)
	go func() {
		for _, w := range all {
			if !i.do(func() { i.bind(w.notifier, w.id, w.tid, w.call, true) }) {
				return
			}
		}
	}()
}

// note takes note of what is bound besides. It is called under mu.
func (i *Interceptor) note(asked sockaddr, own traits, by taker) {
	// It has tried another address before, in vain.
	i.besides = slices.DeleteFunc(i.besides, func(b *held) bool { return b.inode == own.inode })
	if len(i.besides) >= mostBesides {
		i.besides = slices.DeleteFunc(i.besides, func(b *held) bool { return !i.has(b) })
	}
	if len(i.besides) >= mostBesides {
		return
	}
	own.ip, own.port = asked.ip, asked.port
	i.besides = append(i.besides, &held{
		number: -1, wanted: placeOf(nil, asked).Wanted, traits: own, takers: []taker{by}, given: true,
	})
}

// listenBesides is told that somebody listens on a socket that is none of the held ones.
func (i *Interceptor) listenBesides(by taker, inode uint64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	at := slices.IndexFunc(i.besides, func(b *held) bool { return inode != 0 && b.inode == inode })
	if at < 0 {
		return
	}
	i.besides[at].take(by)
	if b := i.besides[at]; !b.listening && len(i.told) < mostBesides { // at once: a successor may come to want it
		b.listening = true
		i.tell(Told{Event: Listening, Socket: b.number, Wanted: b.wanted})
	}
}

// How often it is looked at whether a generation that is being stopped has closed its listeners, of which nothing tells: at first, for
// how long, and then. A look takes no more than a fifth of the time.
const (
	closedSoon  = time.Millisecond
	closedFirst = time.Second
	closedLater = 20 * time.Millisecond
)

// Watch has it told when nobody has a held socket any more ([Closed]), each of them, or another one on which somebody listens. From
// then on nobody of the generation gets that one. It reports whether that begins now. It ends with the last of them, or with Close.
func (i *Interceptor) Watch() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.watching || i.closed() {
		return false
	}
	i.watching = true
	watched := slices.Clone(i.held)
	for _, b := range i.besides {
		if b.listening {
			watched = append(watched, b)
		}
	}
	go i.watch(watched)
	return true
}

func (i *Interceptor) watch(watched []*held) {
	began := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for len(watched) > 0 {
		select {
		case <-timer.C:
		case <-i.over:
			return
		}
		looked := time.Now()
		watched = slices.DeleteFunc(watched, i.letGo)
		pause := closedSoon
		if looked.Sub(began) > closedFirst {
			pause = closedLater
		}
		timer.Reset(max(pause, 4*time.Since(looked)))
	}
}

// letGo reports whether nobody has a socket for certain, and tells it.
func (i *Interceptor) letGo(h *held) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed() || i.mayHave(h) || h.number < 0 && listens(h.inode) {
		return false
	}
	h.left = true
	i.Tell(Told{Event: Closed, Socket: h.number, Wanted: h.wanted})
	return true
}

// mayHave is has, and true as well of who cannot be looked into. Called under mu.
func (i *Interceptor) mayHave(h *held) bool {
	if slices.ContainsFunc(h.takers, func(t taker) bool { return inodeAt(t.process, t.fd) == h.inode }) {
		return true
	}
	left := mostSeen
	return len(h.takers) > 0 && slices.ContainsFunc(i.Members(), func(process int) bool {
		found, blind := opens(process, h.inode, i.Passed, &left)
		return found || blind
	})
}
