package handoff

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"sync"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/passed"
	"openclaw-gateway/worker/handoff/intercept"
)

// intercepted puts the sockets in the place of those that the worker binds.
type intercepted struct {
	interceptor *intercept.Interceptor
	reports     *Reports
	sockets     []Socket
	order       Order
	serving     sync.WaitGroup
}

// newIntercepted is for sockets of which the worker has so many passed from descriptor 3 on besides.
func newIntercepted(sockets []Socket, passed int, gate Gate, members Members, privileges bool) (*intercepted, error) {
	h := &intercepted{reports: &Reports{seen: newSight()}, sockets: sockets}
	held, err := heldBy(sockets)
	if err != nil {
		return nil, err
	}
	h.interceptor, err = intercept.New(intercept.Options{
		Sockets: held, Passed: passed, Members: members, Besides: gate != NoGate, Gated: gate.holds(),
		Tell: h.tell,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFilter, err)
	}
	h.order.Filter = &Filter{Privileges: privileges, Freezable: gate == Standby, Installed: h.serve, Refused: h.refused}
	return h, nil
}

func heldBy(sockets []Socket) (held []intercept.Socket, err error) {
	for _, socket := range sockets {
		if socket.Address.IsUnix() {
			return nil, fmt.Errorf("%s cannot be handed over by intercept, which knows addresses of TCP alone: take another worker.handoff", socket.Address)
		}
		held = append(held, intercept.Socket{File: socket.File, Backlog: socket.Backlog})
	}
	return held, nil
}

func (h *intercepted) tell(told intercept.Told) { h.reports.seen.tell(reportOf(told, h.sockets)) }

// reportOf is what the launcher has seen, in the words of a report.
func reportOf(told intercept.Told, sockets []Socket) Report {
	held := told.Socket >= 0
	address := netaddr.TCP(told.Wanted)
	if held {
		address = sockets[told.Socket].Address
	}
	switch told.Event {
	case intercept.Listening:
		return Report{Event: Listening, Address: address, Held: held, Narrow: told.Narrow, Bound: !told.Passed}
	case intercept.Arrived:
		return Report{Event: Arrived, Address: address, Held: held}
	case intercept.Closed:
		return Report{Event: Closed, Address: address, Held: held}
	case intercept.Clash:
		return Report{Event: Failed, Address: netaddr.TCP(told.Wanted), Code: "EADDRINUSE", V6Only: told.V6Only}
	default:
		return Report{Event: Unseen, Detail: told.Detail}
	}
}

func (h *intercepted) serve(listener *os.File, privileges bool) {
	h.tellPrice(privileges)
	h.serving.Go(func() {
		defer h.reports.seen.end()
		if err := h.interceptor.Serve(listener); err != nil {
			h.reports.seen.tell(Report{Event: Unseen, Detail: "the kernel tells no more which address the worker binds: " + err.Error()})
		}
	})
}

func (h *intercepted) refused(err error, privileges bool) {
	h.tellPrice(privileges)
	event := Unfiltered
	if errors.Is(err, ErrPrivileges) {
		event = Unprivileged
	}
	h.reports.seen.tell(Report{Event: event, Detail: err.Error()})
	h.reports.seen.end()
}

// tellPrice tells of no_new_privs.
func (h *intercepted) tellPrice(privileges bool) {
	if privileges {
		h.reports.seen.tell(Report{Event: NoPrivileges})
	}
}

func (h *intercepted) Kind() Kind { return Intercept }

func (h *intercepted) Files() []*os.File { return nil }

func (h *intercepted) Env() []string { return nil }

func (h *intercepted) Shim() *Order { return &h.order }

func (h *intercepted) Started(int) {}

func (h *intercepted) Reports() *Reports { return h.reports }

func (h *intercepted) Pass(address netaddr.Address) {
	if at := slices.IndexFunc(h.sockets, func(s Socket) bool { return s.Address == address }); at >= 0 {
		h.interceptor.Pass(at, netip.AddrPort{})
	} else if !address.IsUnix() {
		h.interceptor.Pass(-1, netip.AddrPortFrom(address.Addr(), address.Port()))
	}
}

func (h *intercepted) Release() { h.interceptor.Release() }

func (h *intercepted) Watch() bool { return h.interceptor.Watch() }

func (h *intercepted) Served() { h.interceptor.Served() }

func (h *intercepted) Close() error {
	err := h.interceptor.Close()
	h.serving.Wait()
	return errors.Join(err, h.reports.Close())
}

// sight is what the launcher has seen of a worker, until somebody hears of it. Who tells does not wait.
type sight struct {
	mu      sync.Mutex
	reports []Report
	ended   bool
	closed  bool
	more    int // who tells besides
	changed *sync.Cond
	pause   passed.Pause
}

func newSight() *sight {
	s := new(sight)
	s.changed = sync.NewCond(&s.mu)
	return s
}

func (s *sight) tell(report Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reports = append(s.reports, report)
	s.changed.Broadcast()
}

// mostUnheard is how many reports of a worker's own wait to be heard. It can write as many as it likes.
const mostUnheard = 64

// tellInTurn waits until there is place.
func (s *sight) tellInTurn(report Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.reports) >= mostUnheard && !s.closed {
		s.changed.Wait()
	}
	if !s.closed {
		s.reports = append(s.reports, report)
		s.changed.Broadcast()
	}
}

// end is called by who tells no more.
func (s *sight) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = s.ended || s.more == 0
	s.more--
	s.changed.Broadcast()
}

// wake has next look whether it is to stand still.
func (s *sight) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed.Broadcast()
}

func (s *sight) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended, s.closed = true, true
	s.changed.Broadcast()
}

func (s *sight) next() (Report, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.reports) == 0 && !s.ended {
		if s.pause.Wanted() {
			s.mu.Unlock()
			s.pause.Point()
			s.mu.Lock()
			continue
		}
		s.changed.Wait()
	}
	if len(s.reports) == 0 {
		s.pause.Leave()
		return Report{}, io.EOF
	}
	report := s.reports[0]
	s.reports = s.reports[1:]
	s.changed.Broadcast()
	return report, nil
}
