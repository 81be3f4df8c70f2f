package intercept

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"time"

	"openclaw-gateway/passed"
	"openclaw-gateway/sockopts"
)

// Saved is an Interceptor of a worker that serves, for the program that takes this one's place.
type Saved struct {
	FD      int         `json:"fd"` // on which the kernel tells of the calls; -1: it does no more
	Passed  int         `json:"passed"`
	Gate    bool        `json:"gate"` // Options.Besides
	Served  bool        `json:"served"`
	Held    []SavedHeld `json:"held"`
	Besides []SavedHeld `json:"besides"`
	Told    []Told      `json:"told"`
}

// SavedHeld is who has a socket.
type SavedHeld struct {
	Inode     uint64         `json:"inode"`
	Wanted    netip.AddrPort `json:"wanted"`
	Takers    [][2]int       `json:"takers"` // process and descriptor
	Shared    bool           `json:"shared"`
	Narrow    bool           `json:"narrow"`
	Given     bool           `json:"given"`
	Base      sockopts.State `json:"base"`
	Listening bool           `json:"listening"`
}

// Suspend returns when each call that the kernel has told of is answered, and no more is taken in until resume is called: who calls
// meanwhile waits in the kernel.
func (i *Interceptor) Suspend(ctx context.Context) (resume func(), err error) {
	i.mu.Lock()
	n := i.notifier
	i.still = true
	i.mu.Unlock()
	deadline := func(at time.Time) {
		if n != nil {
			_ = n.file.SetReadDeadline(at)
		}
	}
	var places int
	resume = func() {
		for range places {
			<-i.places
		}
		i.mu.Lock()
		i.still = false
		i.awaitKept()
		i.mu.Unlock()
		deadline(time.Time{})
		i.pause.End()
	}
	if n == nil { // nobody serves yet, or any more
		i.pause.Leave()
	}
	err = i.pause.Begin(ctx, func() { deadline(time.Unix(1, 0)) })
	for ; err == nil && places < cap(i.places); places++ {
		select {
		case i.places <- struct{}{}:
		case <-ctx.Done():
			resume()
			return nil, fmt.Errorf("a call of the worker's is being answered: %w", context.Cause(ctx))
		}
	}
	if err != nil {
		resume()
		return nil, fmt.Errorf("the worker's calls are not taken in: %w", err)
	}
	return resume, nil
}

// Save passes on what a suspended Interceptor has.
func (i *Interceptor) Save(files *passed.Files) (saved Saved, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	saved = Saved{FD: -1, Passed: i.Passed, Gate: i.Options.Besides, Served: i.served, Held: []SavedHeld{}, Besides: []SavedHeld{}, Told: []Told{}}
	if i.shut || i.count > 0 || i.watching {
		return saved, fmt.Errorf("the worker waits at its gate, or ends")
	}
	for _, h := range i.held {
		saved.Held = append(saved.Held, h.save())
	}
	for _, h := range i.besides {
		saved.Besides = append(saved.Besides, h.save())
	}
	for told := range i.told {
		saved.Told = append(saved.Told, told)
	}
	if i.notifier != nil && !i.closed() {
		saved.FD, err = files.Add(i.notifier.file)
	}
	return saved, err
}

func (h *held) save() SavedHeld {
	saved := SavedHeld{
		Inode: h.inode, Wanted: h.wanted, Takers: [][2]int{}, Shared: h.shared, Narrow: h.narrow, Given: h.given, Base: h.base, Listening: h.listening,
	}
	for _, t := range h.takers {
		saved.Takers = append(saved.Takers, [2]int{t.process, t.fd})
	}
	return saved
}

// Resume takes up an Interceptor that was passed on, of the same sockets; of the options Passed and the gate's are as they were. The
// listener is for Serve; nil: nobody is under the filter any more.
func Resume(saved Saved, options Options) (i *Interceptor, listener *os.File, err error) {
	options.Passed, options.Besides = saved.Passed, saved.Gate
	if i, err = New(options); err != nil {
		return nil, nil, err
	}
	i.served = saved.Served
	for _, was := range saved.Held {
		h := i.heldAs(was.Inode)
		if h == nil {
			return nil, nil, fmt.Errorf("none of the sockets has the inode %d", was.Inode)
		}
		h.resume(was)
	}
	for _, was := range saved.Besides {
		h := &held{number: -1, wanted: was.Wanted, traits: traits{inode: was.Inode, ip: was.Wanted.Addr(), port: was.Wanted.Port()}}
		h.resume(was)
		i.besides = append(i.besides, h)
	}
	for _, told := range saved.Told {
		i.told[told] = true
	}
	if saved.FD < 0 {
		return i, nil, i.Close()
	}
	if listener, err = passed.Take(saved.FD, "seccomp listener"); err != nil {
		return nil, nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.awaitKept()
	return i, listener, nil
}

func (h *held) resume(was SavedHeld) {
	h.shared, h.narrow, h.given, h.base, h.listening = was.Shared, was.Narrow, was.Given, was.Base, was.Listening
	for _, t := range was.Takers {
		h.takers = append(h.takers, taker{t[0], t[1]})
	}
}

// awaitKept has it told who keeps what he has taken a moment ago. It is called under mu.
func (i *Interceptor) awaitKept() {
	for _, h := range i.held {
		if len(h.takers) > 0 && !h.listening {
			i.after(keptBound, h)
		}
	}
}
