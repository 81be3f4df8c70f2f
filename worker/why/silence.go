package why

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/handoff"
)

// Silence is a worker that does not serve, as far as is known what it does instead.
type Silence struct {
	Wanted    []handoff.Socket  // where it has to listen
	Missing   []netaddr.Address // those of them on which it does not
	Adopted   []netaddr.Address // the sockets on which it does
	Elsewhere []netaddr.Address // where it listens besides
	Chance    []netaddr.Address // those of them that may be others at the next start: the kernel has chosen the port
	Clash     netaddr.Address   // an address in use that it wanted besides
	V6Only    bool              // that was asked for IPv6 clients alone
	Displaced string            // that somebody else listens at a path; "": nobody does
	Both      netaddr.Address   // where it listens for the clients of both families; those of Waiting would not be served
	Waiting   netaddr.Address
	Notify    bool   // it is to say READY=1
	Obstacle  string // what is in the way of the handoff; "": nothing
	Tells     bool   // it tells where it listens
	Probed    string // what the last request was answered with; "": it was not
	Command   []string
	Handoff   handoff.Kind
}

// String says what kept it from serving, and the line to change.
func (s Silence) String() string {
	var holds []string
	for _, socket := range s.Wanted {
		holds = append(holds, shown(socket))
	}
	held := strings.Join(holds, " and ")
	switch {
	case s.Clash.IsValid():
		return fmt.Sprintf("it wanted to listen on %s, which overlaps %s that the launcher holds: make the worker listen on %s, or set listen to %s",
			s.Clash, held, held, s.instead())
	// With an answer to the probe, another port is not what is wrong.
	case len(s.Elsewhere) > 0 && len(s.Adopted) == 0 && s.Probed == "":
		what := "port"
		if slices.ContainsFunc(slices.Concat(s.Elsewhere, s.Missing), netaddr.Address.IsUnix) {
			what = "address"
		}
		advice := "set its " + what + " in worker.command"
		if stay := slices.DeleteFunc(slices.Clone(s.Elsewhere), func(a netaddr.Address) bool { return slices.Contains(s.Chance, a) }); len(stay) > 0 {
			advice += ", or set listen to " + joinTexts(stay, s.asListen)
		}
		return fmt.Sprintf("it listens on %s, not on %s: %s", Join(s.Elsewhere), held, advice)
	case s.Displaced != "":
		return s.Displaced
	case s.Notify:
		return "it has not said READY=1 to its NOTIFY_SOCKET, as ready.probe asks of it"
	case s.Both.IsValid():
		return fmt.Sprintf("it listens with one socket, %s, for the clients of both families, and those of %s would wait for ever: set listen to %s",
			s.Both, s.Waiting, AsListen(s.Both))
	case s.Obstacle != "" && len(s.Missing) > 0:
		other := s
		other.Obstacle = ""
		return s.Obstacle + "; if it is not that, " + other.String()
	case s.Tells && len(s.Missing) > 0 && len(s.Adopted) > 0:
		return fmt.Sprintf("it listens on %s only: make it listen on %s too, or take that out of listen", Join(s.Adopted), Join(s.Missing))
	case s.Tells && len(s.Missing) > 0:
		return joined(fmt.Sprintf("it has not listened on %s", held), Away(s.Command, s.Handoff))
	case s.Probed != "":
		return s.Probed
	default:
		away := cmp.Or(Away(s.Command, s.Handoff), "does it accept sockets by the listen-fds protocol? (worker.handoff)")
		return joined(fmt.Sprintf("it has not taken a connection on %s", held), away)
	}
}

// asListen is AsListen of one of the addresses elsewhere: the IPv6 wildcard takes no IPv4 clients beside that of IPv4.
func (s Silence) asListen(address netaddr.Address) string {
	if address.Addr() == netip.IPv6Unspecified() && slices.Contains(s.Elsewhere, netaddr.AllOfIPv4(address.Port())) {
		return fmt.Sprintf("%q", address)
	}
	return AsListen(address)
}

// instead is what to write in listen where there is a clash. A server that listens without a host may do so with a socket for each family
// (getaddrinfo(3), as asyncio does), in any order: it wants the IPv6 wildcard of IPv6 clients alone, or both.
func (s Silence) instead() string {
	port := s.Clash.Port()
	both := fmt.Sprintf("[%q, %q]", netaddr.AllOfIPv4(port), netaddr.From(netip.IPv6Unspecified(), port))
	switch {
	case s.V6Only && s.Clash.Addr() == netip.IPv6Unspecified():
		return both
	case s.Clash == netaddr.AllOfIPv4(port) && slices.ContainsFunc(s.Wanted, func(w handoff.Socket) bool { return w.Address.Port() == port && w.Address.Addr().Is6() }):
		return fmt.Sprintf("%s, or, if it listens without a host, to %s", AsListen(s.Clash), both)
	}
	return AsListen(s.Clash)
}

// joined puts an advice behind what it is about.
func joined(text, advice string) string {
	if advice == "" {
		return text
	}
	return text + ": " + advice
}

// Join lists addresses for a person.
func Join(addresses []netaddr.Address) string { return joinTexts(addresses, netaddr.Address.String) }

func joinTexts(addresses []netaddr.Address, text func(netaddr.Address) string) string {
	words := make([]string, 0, len(addresses))
	for _, address := range addresses {
		words = append(words, text(address))
	}
	return strings.Join(words, " and ")
}

// AsListen is what to write in listen for an address on which a worker listens by itself: the IPv6 wildcard takes IPv4
// clients too, unless a program asks for less.
func AsListen(address netaddr.Address) string {
	if address.Addr() == netip.IPv6Unspecified() {
		return fmt.Sprintf("%q", shown(handoff.Socket{Address: address, DualStack: true}))
	}
	return address.String()
}

// shown is how listen names a socket.
func shown(socket handoff.Socket) string {
	if socket.DualStack {
		return fmt.Sprintf("*:%d", socket.Address.Port())
	}
	return socket.Address.String()
}

// WithoutGate says that a way to hand over the sockets has no place where a worker could be held.
func WithoutGate(kind handoff.Kind) string {
	switch kind {
	case handoff.Auto:
		return "whether the worker becomes a Node.js, which can be held before it listens, is not known"
	case handoff.Preload:
		return "the Node.js that is started is not what listens on the sockets, and only that can be held before it does"
	}
	return fmt.Sprintf("nothing can hold a worker before it listens that takes the sockets by %s (worker.handoff: intercept could, if it can bind its address itself)", kind)
}
