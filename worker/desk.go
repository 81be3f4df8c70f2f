package worker

import (
	"time"
)

// deskPause is the longest wait for the next generation that clients spend in
// the queue; for a longer one the front desk opens.
const deskPause = 2 * time.Second

// updateDesk has the clients answered, until the state changes, where the next
// generation is a long way off and the spec wants it.
func (s *Supervisor) updateDesk() {
	wanted := s.wantsDesk()
	switch {
	case wanted && s.shut == nil:
		// The first client is answered at once, with what is known by then.
		s.publish()
		s.shut = s.options.OpenDesk()
	case !wanted:
		s.closeDesk()
	}
}

func (s *Supervisor) wantsDesk() bool {
	return s.spec.FrontDesk && (s.phase == failed || s.nextAt.Sub(s.since) > deskPause)
}

func (s *Supervisor) closeDesk() {
	if s.shut != nil {
		s.shut()
		s.shut = nil
	}
}
