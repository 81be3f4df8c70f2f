package worker

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/why"
)

// defaultRelistenTimeout is how long a worker may live on without a listener that
// it had: a server that restarts within its process listens again.
const defaultRelistenTimeout = 10 * time.Second

// defaultClashTimeout is how long a worker that wanted an address which clashes with a held one may take to listen on that
// instead: nothing else can come of it, and clients wait.
const defaultClashTimeout = 5 * time.Second

// takeReport takes in what the handoff reports.
func (g *generation) takeReport(e event) {
	before, stuck := len(g.elsewhere), g.stuck()
	again := slices.Contains(g.closed, e.report.Address)
	if err := g.remember(e.report); err != nil {
		g.stopUnready(event{err: err})
		return
	}
	if g.stage == starting && g.closedEarly && g.listensEverywhere() {
		g.becomeReady(event{})
		return
	}
	if g.stage == ready && e.report.Event == handoff.Listening && g.listening[e.report.Address] {
		g.lengthenQueues()
		if again {
			g.options.Log.Info("worker listens again", g.told("address", e.report.Address)...)
		}
	}
	if g.stage == starting && g.stuck() != stuck {
		left := time.Until(g.since.Add(g.spec.ReadyTimeout)) // for one that has found its way
		if g.stuck() {
			left = min(left, cmp.Or(g.options.clashTimeout, defaultClashTimeout))
		}
		g.setLimit(max(left, 1)) // 0 would be for ever
	}
	g.watchListeners()
	if g.stage == ready {
		g.noteUnserved()
	}
	if len(g.elsewhere) > before && g.stage == starting && len(g.listening) == 0 {
		g.options.Log.Info("worker listens on another address", "generation", g.number, "address", e.report.Address)
		g.tell(event{kind: reported, text: g.explain(nil)})
	}
}

// noteUnserved takes note of the addresses on which a ready worker does not listen because this machine did not have them.
func (g *generation) noteUnserved() {
	unserved := slices.DeleteFunc(g.missing(), func(a netip.AddrPort) bool { return !g.absent[a] })
	switch {
	case len(unserved) == 0:
		g.unserved = nil
	case g.unserved == nil || !slices.Equal(*g.unserved, unserved):
		g.unserved = &unserved
		g.options.Log.Info("worker does not listen where this machine has no address", g.told("address", join(unserved))...)
	}
}

// stuck reports whether the worker listens nowhere because of a clash.
func (g *generation) stuck() bool { return g.clash.IsValid() && len(g.listening) == 0 }

// watchListeners sees to it that a worker which has closed a listener does not
// live on without it for long.
func (g *generation) watchListeners() {
	switch {
	case g.stage != ready:
	case len(g.closed) == 0 && g.relisten != nil:
		g.relisten.Stop()
		g.relisten = nil
	case len(g.closed) > 0 && g.relisten == nil:
		g.options.Log.Warn("worker has closed a listener", g.told("address", join(g.closed))...)
		timeout := cmp.Or(g.options.relistenTimeout, defaultRelistenTimeout)
		err := fmt.Errorf("it has closed its listener on %s and has not listened again for %s", join(g.closed), timeout)
		g.relisten = time.AfterFunc(timeout, func() { g.send(event{kind: cannotServe, err: err}) })
	}
}

// listensEverywhere reports whether the worker listens on every held address that this machine has had since it started, as
// far as its handoff tells. Where it has had none of them it is enough that the worker listens on such a port elsewhere.
func (g *generation) listensEverywhere() bool {
	missing := g.missing()
	for _, address := range missing {
		if !g.absent[address] {
			g.absent[address] = g.spec.Queues.Absent(address)
		}
		if !g.absent[address] {
			return false
		}
	}
	return len(missing) < len(g.spec.Sockets) || slices.ContainsFunc(g.elsewhere, func(a netip.AddrPort) bool {
		return slices.ContainsFunc(missing, func(held netip.AddrPort) bool { return held.Port() == a.Port() })
	})
}

// missing returns the held addresses on which the worker does not listen, as far as its handoff tells.
func (g *generation) missing() []netip.AddrPort {
	return slices.DeleteFunc(addresses(g.spec.Sockets), func(a netip.AddrPort) bool { return g.listening[a] })
}

// remember takes in what a report says. It returns an error when the worker can no
// longer serve.
func (g *generation) remember(report handoff.Report) error {
	held := slices.Contains(addresses(g.spec.Sockets), report.Address)
	switch report.Event {
	case handoff.Listening:
		switch {
		case held:
			g.listening[report.Address] = true
			if report.Narrow {
				g.warning = fmt.Sprintf("the worker asks for IPv4 clients as well, and %s takes IPv6 ones alone, so they are refused: set listen to %s",
					report.Address, asListen(report.Address))
			}
			g.closed = slices.DeleteFunc(g.closed, func(address netip.AddrPort) bool { return address == report.Address })
		case !report.Ephemeral && !slices.Contains(g.elsewhere, report.Address):
			g.elsewhere = append(g.elsewhere, report.Address)
		}
	case handoff.Closed:
		if g.listening[report.Address] {
			delete(g.listening, report.Address)
			g.closed = append(g.closed, report.Address)
		}
	case handoff.Failed:
		if report.Code == "EADDRINUSE" && g.clashes(report.Address) {
			g.clash = report.Address
		}
	case handoff.Exhausted:
		if !held {
			break
		}
		return fmt.Errorf("the worker has listened on %s so often that this process has no socket left for it", report.Address)
	case handoff.Loaded:
		g.loaded = true
	case handoff.Runtime:
		g.openclaw = report.OpenClaw
		if why := report.Unsuited(); why != "" {
			return errors.New(why)
		}
	}
	select {
	case <-g.adopted:
	default:
		if g.listensEverywhere() {
			close(g.adopted)
		}
	}
	return nil
}

// clashes reports whether address is not one of the held ones but overlaps one:
// the same port, and one of the two is for all addresses of the machine.
func (g *generation) clashes(address netip.AddrPort) bool {
	return slices.ContainsFunc(g.spec.Sockets, func(s handoff.Socket) bool {
		return s.Address != address && s.Address.Port() == address.Port() &&
			(s.Address.Addr().IsUnspecified() || address.Addr().IsUnspecified())
	})
}

// explain says what kept the worker from serving, as far as is known; listens
// holds the addresses on which its processes were seen to listen.
func (g *generation) explain(listens []netip.AddrPort) string {
	var holds []string
	for _, socket := range g.spec.Sockets {
		holds = append(holds, shown(socket))
	}
	held := strings.Join(holds, " and ")
	var elsewhere, adopted []netip.AddrPort
	missing := g.missing()
	for _, address := range slices.Concat(g.elsewhere, listens) {
		if !slices.Contains(elsewhere, address) {
			elsewhere = append(elsewhere, address)
		}
	}
	for _, address := range addresses(g.spec.Sockets) {
		if g.listening[address] {
			adopted = append(adopted, address)
		}
	}
	switch {
	case g.clash.IsValid():
		return fmt.Sprintf("it wanted to listen on %s, which overlaps %s that the launcher holds: make the worker listen on %s, or set listen to %s",
			g.clash, held, held, asListen(g.clash))
	// With an answer to the probe, another port is not what is wrong.
	case len(elsewhere) > 0 && len(adopted) == 0 && g.probed == "":
		return fmt.Sprintf("it listens on %s, not on %s: set its port in worker.command, or set listen to %s", join(elsewhere), held, joinTexts(elsewhere, asListen))
	case g.spec.Probe == ProbeNotify:
		return "it has not said READY=1 to its NOTIFY_SOCKET, as ready.probe asks of it"
	case g.kind() == handoff.Preload && len(missing) > 0 && len(adopted) > 0:
		return fmt.Sprintf("it listens on %s only: make it listen on %s too, or take that out of listen", join(adopted), join(missing))
	case g.kind() == handoff.Preload && len(missing) > 0:
		return joined(fmt.Sprintf("it has not listened on %s", held), why.Away(g.spec.Command, handoff.Preload))
	case g.probed != "":
		return g.probed
	default:
		away := cmp.Or(why.Away(g.spec.Command, g.kind()), "does it accept sockets by the listen-fds protocol? (worker.handoff)")
		return joined(fmt.Sprintf("it has not taken a connection on %s", held), away)
	}
}

// joined puts an advice behind what it is about.
func joined(text, advice string) string {
	if advice == "" {
		return text
	}
	return text + ": " + advice
}

func addresses(sockets []handoff.Socket) []netip.AddrPort {
	result := make([]netip.AddrPort, 0, len(sockets))
	for _, socket := range sockets {
		result = append(result, socket.Address)
	}
	return result
}

func join(addresses []netip.AddrPort) string { return joinTexts(addresses, netip.AddrPort.String) }

func joinTexts(addresses []netip.AddrPort, text func(netip.AddrPort) string) string {
	words := make([]string, 0, len(addresses))
	for _, address := range addresses {
		words = append(words, text(address))
	}
	return strings.Join(words, " and ")
}

// asListen is what to write in listen for an address on which a worker listens by itself: the IPv6 wildcard takes IPv4
// clients too, unless a program asks for less.
func asListen(address netip.AddrPort) string {
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
