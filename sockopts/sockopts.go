// Package sockopts is what a listening socket has of options that matter to the next one who listens on it: those that the
// connections inherit which are accepted from it, and those that its queue obeys. They belong to the socket, which all
// generations of a worker share, so one generation's would be the next one's too.
package sockopts

import (
	"encoding/json"
	"fmt"

	"golang.org/x/sys/unix"
)

// integers are the options that are a number, socket(7), tcp(7), ip(7) and ipv6(7). IP_TOS sets SO_PRIORITY, so that comes later.
var integers = [...]struct{ level, name int }{
	{unix.IPPROTO_IP, unix.IP_TOS},
	{unix.IPPROTO_IP, unix.IP_TTL},
	{unix.IPPROTO_IPV6, unix.IPV6_TCLASS},
	{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS},
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE},
	{unix.SOL_SOCKET, unix.SO_OOBINLINE},
	{unix.SOL_SOCKET, unix.SO_PRIORITY},
	{unix.SOL_SOCKET, unix.SO_RCVLOWAT},
	{unix.SOL_SOCKET, unix.SO_MARK},
	{unix.SOL_SOCKET, unix.SO_BUSY_POLL},
	{unix.IPPROTO_TCP, unix.TCP_NODELAY},
	{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT},
	{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT},
	{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL},
	{unix.IPPROTO_TCP, unix.TCP_KEEPCNT},
	{unix.IPPROTO_TCP, unix.TCP_SYNCNT},
	{unix.IPPROTO_TCP, unix.TCP_LINGER2},
	{unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP},
	{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT},
	{unix.IPPROTO_TCP, unix.TCP_FASTOPEN},
	{unix.IPPROTO_TCP, unix.TCP_MAXSEG},
}

// noSegment is what a socket tells of TCP_MAXSEG of which nobody has set it (TCP_MSS_DEFAULT of linux/tcp.h): to set that would bind its
// connections to it, and 0 takes it back.
const noSegment = 536

// timeouts are the options that are a struct timeval.
var timeouts = [...]int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO}

// buffers are the sizes that the kernel chooses by itself until somebody asks for one: then the bit of SO_BUF_LOCK is set
// (Linux 5.14, SOCK_SNDBUF_LOCK and SOCK_RCVBUF_LOCK in include/uapi/linux/socket.h).
var buffers = [...]struct{ name, bit int }{{unix.SO_SNDBUF, 1}, {unix.SO_RCVBUF, 2}}

// State is what a socket has of these options. The zero State has none, and applies none.
type State struct {
	integers   [len(integers)]value
	timeouts   [len(timeouts)]unix.Timeval
	timed      bool
	linger     *unix.Linger
	buffers    [len(buffers)]int
	locks      value // of SO_BUF_LOCK
	congestion string
}

// value is that of an option; not known where the socket is none that has it.
type value struct {
	number int
	known  bool
}

func get(fd, level, name int) value {
	number, err := unix.GetsockoptInt(fd, level, name)
	return value{number, err == nil}
}

// Read reads the options of a socket.
func Read(fd int) (s State) {
	for i, option := range integers {
		s.integers[i] = get(fd, option.level, option.name)
	}
	s.timed = true
	for i, name := range timeouts {
		if timeout, err := unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, name); err == nil {
			s.timeouts[i] = *timeout
		} else {
			s.timed = false
		}
	}
	if linger, err := unix.GetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER); err == nil {
		s.linger = linger
	}
	s.locks = get(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK)
	for i, buffer := range buffers {
		s.buffers[i] = get(fd, unix.SOL_SOCKET, buffer.name).number
	}
	s.congestion, _ = unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	return s
}

// Apply gives a socket the options of another one, or those that it had itself, and reports how many of them it did not have.
// What the kernel refuses stays as it is: a priority above 6 and a mark are a privilege's, as they were for who has set them
// first, and a window that was once clamped can be clamped to another size only.
func (s State) Apply(fd int) (changed int) {
	had := Read(fd)
	count := func(err error) {
		if err == nil {
			changed++
		}
	}
	for i, option := range integers {
		// What is the same is not set again: that would pin what follows a sysctl.
		if want := s.integers[i]; want.known && want != had.integers[i] {
			if option.name == unix.TCP_MAXSEG && option.level == unix.IPPROTO_TCP && want.number == noSegment {
				want.number = 0
			}
			count(unix.SetsockoptInt(fd, option.level, option.name, want.number))
		}
	}
	for i, name := range timeouts {
		if s.timed && s.timeouts[i] != had.timeouts[i] {
			count(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, name, &s.timeouts[i]))
		}
	}
	if s.linger != nil && had.linger != nil && *s.linger != *had.linger {
		count(unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, s.linger))
	}
	if s.locks.known && had.locks.known {
		for i, buffer := range buffers {
			asked := (s.locks.number|had.locks.number)&buffer.bit != 0
			if asked && s.buffers[i] != had.buffers[i] {
				count(unix.SetsockoptInt(fd, unix.SOL_SOCKET, buffer.name, s.buffers[i]/2)) // the kernel doubles it, socket(7)
			}
		}
		if now := get(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK); now != s.locks {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK, s.locks.number)
		}
	}
	if s.congestion != "" && s.congestion != had.congestion {
		count(unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, s.congestion))
	}
	return changed
}

// Over returns the options that somebody has set, which are those that a fresh socket has not, and those of the base where nobody has.
func (s State) Over(base, fresh State) State {
	for i := range s.integers {
		if s.integers[i] == fresh.integers[i] {
			s.integers[i] = base.integers[i]
		}
	}
	s.timed = s.timed && base.timed
	for i := range s.timeouts {
		if s.timeouts[i] == fresh.timeouts[i] {
			s.timeouts[i] = base.timeouts[i]
		}
	}
	if s.linger != nil && fresh.linger != nil && *s.linger == *fresh.linger {
		s.linger = base.linger
	}
	for i, buffer := range buffers {
		if s.locks.number&buffer.bit == 0 {
			s.buffers[i] = base.buffers[i]
			s.locks.number |= base.locks.number & buffer.bit
		}
	}
	if s.congestion == fresh.congestion {
		s.congestion = base.congestion
	}
	return s
}

// kept is a State as text. An option is named by its numbers, "level:name", which are the kernel's.
type kept struct {
	Integers   map[string]int              `json:"integers"`
	Timeouts   [len(timeouts)]unix.Timeval `json:"timeouts"`
	Timed      bool                        `json:"timed"`
	Linger     *unix.Linger                `json:"linger"`
	Buffers    [len(buffers)]int           `json:"buffers"`
	Locks      *int                        `json:"locks"`
	Congestion string                      `json:"congestion"`
}

func key(level, name int) string { return fmt.Sprintf("%d:%d", level, name) }

// MarshalJSON implements json.Marshaler.
func (s State) MarshalJSON() ([]byte, error) {
	k := kept{Integers: map[string]int{}, Timeouts: s.timeouts, Timed: s.timed, Linger: s.linger, Buffers: s.buffers, Congestion: s.congestion}
	for i, option := range integers {
		if value := s.integers[i]; value.known {
			k.Integers[key(option.level, option.name)] = value.number
		}
	}
	if s.locks.known {
		k.Locks = &s.locks.number
	}
	return json.Marshal(k)
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *State) UnmarshalJSON(text []byte) error {
	var k kept
	if err := json.Unmarshal(text, &k); err != nil {
		return err
	}
	*s = State{timeouts: k.Timeouts, timed: k.Timed, linger: k.Linger, buffers: k.Buffers, congestion: k.Congestion}
	for i, option := range integers {
		number, known := k.Integers[key(option.level, option.name)]
		s.integers[i] = value{number, known}
	}
	if k.Locks != nil {
		s.locks = value{*k.Locks, true}
	}
	return nil
}
