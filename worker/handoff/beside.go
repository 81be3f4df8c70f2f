package handoff

import (
	"errors"
	"slices"
)

// beside is another handoff and Intercept: a worker that does not take the sockets which it has inherited, and binds its address
// itself, gets them for that. It is started without the filter where the kernel refuses it.
type beside struct {
	Handoff
	filter *intercepted
}

// without is another handoff, and why Intercept is not beside it.
type without struct {
	Handoff
	reports *Reports
}

func newBeside(other Handoff, privileges bool, gate Gate, sockets []Socket, members Members) (Handoff, error) {
	known := slices.DeleteFunc(slices.Clone(sockets), func(s Socket) bool { return s.Address.IsUnix() })
	if len(known) == 0 {
		return other, nil
	}
	filter, err := newIntercepted(known, len(other.Files()), gate, members, privileges)
	if err != nil {
		h, event := without{other, &Reports{seen: newSight()}}, Unprivileged
		if privileges { // nothing else is left to try
			event = Unfiltered
		}
		h.reports.seen.tell(Report{Event: event, Detail: err.Error()})
		h.reports.seen.passBeside(other)
		h.reports.seen.end()
		return h, nil
	}
	filter.order.Filter.Besides = true
	filter.order.ListenPID = other.Shim() != nil && other.Shim().ListenPID
	filter.reports.seen.passBeside(other)
	return beside{other, filter}, nil
}

func (h without) Reports() *Reports { return h.reports }

func (h without) Close() error { return errors.Join(h.Handoff.Close(), h.reports.Close()) }

func (h beside) Shim() *Order { return &h.filter.order }

func (h beside) Reports() *Reports { return h.filter.reports }

func (h beside) Watch() bool { return h.filter.Watch() }

func (h beside) Served() { h.filter.Served() }

func (h beside) Close() error { return errors.Join(h.Handoff.Close(), h.filter.Close()) }

// passBeside has it tell what another handoff hears, besides.
func (s *sight) passBeside(other Handoff) {
	if told := other.Reports(); told != nil {
		s.more++
		go s.pass(told)
	}
}

// pass tells what another one hears.
func (s *sight) pass(told *Reports) {
	defer s.end()
	for {
		report, err := told.Next()
		switch {
		case errors.Is(err, ErrNonsense): // whoever runs in the worker can write there
		case err != nil:
			return
		default:
			s.tellInTurn(report)
		}
	}
}
