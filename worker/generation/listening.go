package generation

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/probe"
	"openclaw-gateway/worker/why"
)

// defaultRelistenTimeout is how long a worker may live on without a listener that
// it had: a server that restarts within its process listens again.
const defaultRelistenTimeout = 10 * time.Second

// defaultClashTimeout is how long a worker that wanted an address which clashes with a held one may take to listen on that
// instead: nothing else can come of it, and clients wait.
const defaultClashTimeout = 5 * time.Second

// takeReport takes in what the handoff reports.
func (g *Generation) takeReport(e Event) {
	before, stuck := len(g.elsewhere), g.stuck()
	again := slices.Contains(g.closed, e.Report.Address)
	if err := g.remember(e.Report); err != nil {
		g.stopUnready(Event{Err: err})
		return
	}
	if g.Stage == Starting && g.closedEarly && g.listensEverywhere() {
		g.becomeReady(Event{})
		return
	}
	if g.Stage == Ready && e.Report.Event == handoff.Listening && g.Listening[e.Report.Address] {
		g.lengthenQueues()
		if again {
			g.Options.Log.Info("worker listens again", g.Told("address", e.Report.Address)...)
		}
	}
	if g.Stage == Starting && g.stuck() != stuck {
		left := time.Until(g.Since.Add(g.Spec.ReadyTimeout)) // for one that has found its way
		if g.stuck() {
			left = min(left, cmp.Or(g.Options.ClashTimeout, defaultClashTimeout))
		}
		g.SetLimit(max(left, 1)) // 0 would be for ever
	}
	g.watchListeners()
	if g.Stage == Ready {
		g.noteUnserved()
	}
	if len(g.elsewhere) > before && g.Stage == Starting && len(g.Listening) == 0 {
		g.Options.Log.Info("worker listens on another address", "generation", g.Number, "address", e.Report.Address)
		if !g.Gated {
			g.tell(Event{Kind: Reported, Generation: g.Number, Text: g.explain(nil)})
		}
	}
}

// noteUnserved takes note of the addresses on which a ready worker does not listen because this machine did not have them, as far as
// its handoff tells: by listen-fds it has got all sockets.
func (g *Generation) noteUnserved() {
	unserved := slices.DeleteFunc(g.missing(), func(a netaddr.Address) bool { return !g.absent[a] })
	switch {
	case len(unserved) == 0, !g.tells():
		g.Unserved = nil
	case g.Unserved == nil || !slices.Equal(*g.Unserved, unserved):
		g.Unserved = &unserved
		g.Options.Log.Info("worker does not listen where this machine has no address", g.Told("address", why.Join(unserved))...)
	}
}

// noteServed has nobody get for a bind what the worker was passed and serves on, beside the one that has it. READY=1 and a path of the
// configuration do not show that it does, and some say that before they bind: those have some time.
func (g *Generation) noteServed(answered bool) {
	switch {
	case g.Kind() != handoff.ListenFDs:
	case answered:
		g.Handoff.Served()
	default:
		time.AfterFunc(cmp.Or(g.Options.RelistenTimeout, defaultRelistenTimeout), g.Handoff.Served)
	}
}

// stuck reports whether the worker listens nowhere because of a clash, or with one socket where it would have to have two.
func (g *Generation) stuck() bool {
	return g.clash.IsValid() && len(g.Listening) == 0 || g.both.IsValid() && !g.Listening[netaddr.AllOfIPv4(g.both.Port())]
}

// watchListeners sees to it that a worker which has closed a listener does not
// live on without it for long.
func (g *Generation) watchListeners() {
	switch {
	case g.Stage != Ready:
	case len(g.closed) == 0 && g.relisten != nil:
		g.relisten.Stop()
		g.relisten = nil
	case len(g.closed) > 0 && g.relisten == nil:
		g.Options.Log.Warn("worker has closed a listener", g.Told("address", why.Join(g.closed))...)
		timeout := cmp.Or(g.Options.RelistenTimeout, defaultRelistenTimeout)
		err := fmt.Errorf("it has closed its listener on %s and has not listened again for %s", why.Join(g.closed), timeout)
		g.relisten = time.AfterFunc(timeout, func() {
			g.send(Event{Kind: CannotServe, Err: err, Report: handoff.Report{Event: handoff.Closed}})
		})
	}
}

// listensEverywhere reports whether the worker listens on every held address that this machine has had since it started, as
// far as its handoff tells. Where it has had none of them it is enough that the worker listens on such a port elsewhere.
func (g *Generation) listensEverywhere() bool {
	missing := g.missing()
	for _, address := range missing {
		if !g.absent[address] {
			g.absent[address] = g.Spec.Queues.Absent(address)
		}
		if !g.absent[address] {
			return false
		}
	}
	return len(missing) < len(g.wanted()) || slices.ContainsFunc(g.elsewhere, func(a netaddr.Address) bool {
		return slices.ContainsFunc(missing, func(held netaddr.Address) bool { return held.Port() == a.Port() })
	})
}

// missing returns the held addresses on which the worker does not listen, as far as its handoff tells.
func (g *Generation) missing() []netaddr.Address {
	return slices.DeleteFunc(addresses(g.wanted()), func(a netaddr.Address) bool { return g.Listening[a] })
}

// wanted are the sockets on which the worker has to listen.
func (g *Generation) wanted() []handoff.Socket {
	return slices.DeleteFunc(slices.Clone(g.Spec.Sockets), func(s handoff.Socket) bool { return s.Besides })
}

// remember takes in what a report says. It returns an error when the worker can no
// longer serve.
func (g *Generation) remember(report handoff.Report) error {
	held := slices.Contains(addresses(g.Spec.Sockets), report.Address)
	switch report.Event {
	case handoff.Listening:
		switch {
		case held:
			g.Listening[report.Address] = true
			g.Bound = g.Bound || report.Bound
			switch {
			case report.Narrow && slices.Contains(addresses(g.Spec.Sockets), netaddr.AllOfIPv4(report.Address.Port())):
				g.both = report.Address
			case report.Narrow:
				g.Warning = fmt.Sprintf("the worker asks for IPv4 clients as well, and %s takes IPv6 ones alone, so they are refused: set listen to %s",
					report.Address, why.AsListen(report.Address))
			}
			g.closed = slices.DeleteFunc(g.closed, func(address netaddr.Address) bool { return address == report.Address })
		case !report.Ephemeral:
			g.elsewhere, g.besides = noted(g.elsewhere, report.Address), noted(g.besides, report.Address)
		}
	case handoff.Closed:
		if held && g.takeClosed(report) {
			g.closed = append(g.closed, report.Address)
		} else if !held {
			g.takeClosed(report)
		}
	case handoff.Failed:
		if report.Code == "EADDRINUSE" && g.clashes(report) {
			g.clash, g.clashV6Only = report.Address, report.V6Only
		}
	case handoff.Exhausted:
		if !held {
			break
		}
		return fmt.Errorf("the worker has listened on %s so often that this process has no socket left for it", report.Address)
	case handoff.Cache:
		g.Cached = report.Filled
		if filepath.Dir(report.Directory) == g.Cache {
			g.Part = filepath.Base(report.Directory)
		}
	case handoff.Loaded:
		g.loaded = true
	case handoff.Unseen:
		g.obstacle = report.Detail
		g.Options.Log.Warn("something of the worker's may bind without the held sockets", g.Told("problem", report.Detail)...)
	case handoff.Unfiltered:
		g.obstacle = report.Detail
		g.Options.Log.Info("worker starts without intercept", g.Told("problem", report.Detail)...)
	case handoff.Unprivileged:
		g.unfiltered = true
	case handoff.NoPrivileges:
		g.Deprived = true
		if !g.Served { // once
			g.Options.Log.Info("worker runs with no_new_privs, as intercept needs it here: sudo, su, ping and the like stop working in it", g.Told()...)
		}
	case handoff.Runtime:
		g.OpenClaw = report.OpenClaw
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

// mostNoted is how many addresses are known besides the held ones, as to package intercept: a worker may make a unix socket with a new
// name for each job.
const mostNoted = 256

func noted(known []netaddr.Address, address netaddr.Address) []netaddr.Address {
	if len(known) >= mostNoted || slices.Contains(known, address) {
		return known
	}
	return append(known, address)
}

// takeClosed takes in that the worker no longer listens somewhere, and reports whether it did before.
func (g *Generation) takeClosed(report handoff.Report) bool {
	if report.Event != handoff.Closed {
		return false
	}
	before := len(g.besides)
	g.besides = slices.DeleteFunc(g.besides, func(address netaddr.Address) bool { return address == report.Address })
	listened := g.Listening[report.Address]
	delete(g.Listening, report.Address)
	return listened || len(g.besides) < before
}

// clashes reports whether what could not be listened on is not one of the held addresses but overlaps one:
// the same port, and one of the two is for all addresses of the machine. The IPv6 wildcard of IPv6 clients alone is another one than
// that of both families.
func (g *Generation) clashes(report handoff.Report) bool {
	address := report.Address
	return slices.ContainsFunc(g.Spec.Sockets, func(s handoff.Socket) bool {
		return (s.Address != address || s.DualStack && report.V6Only) && s.Address.Port() == address.Port() &&
			(s.Address.Addr().IsUnspecified() || address.Addr().IsUnspecified())
	})
}

// Clashes reports whether the worker wanted to listen on an address that overlaps a held one.
func (g *Generation) Clashes() bool { return g.clash.IsValid() }

// explain says what kept the worker from serving, as far as is known; listens
// holds the addresses on which its processes were seen to listen.
func (g *Generation) explain(listens []netaddr.Address) string {
	silence := why.Silence{
		Wanted: g.wanted(), Missing: g.missing(), Clash: g.clash, V6Only: g.clashV6Only, Notify: g.Spec.Probe == ProbeNotify, Obstacle: g.obstacle, Tells: g.tells(), Probed: g.Probed,
		Command: g.Spec.Command, Handoff: g.Kind(),
	}
	for _, address := range slices.Concat(g.elsewhere, listens) {
		if !slices.Contains(silence.Elsewhere, address) {
			silence.Elsewhere = append(silence.Elsewhere, address)
			if !slices.Contains(g.elsewhere, address) && g.byChance(address.Port()) {
				silence.Chance = append(silence.Chance, address)
			}
		}
	}
	for _, address := range addresses(g.Spec.Sockets) {
		if g.Listening[address] {
			silence.Adopted = append(silence.Adopted, address)
		}
	}
	if g.both.IsValid() && g.stuck() {
		silence.Both, silence.Waiting = g.both, netaddr.AllOfIPv4(g.both.Port())
	}
	if at := slices.IndexFunc(g.wanted(), func(s handoff.Socket) bool { return s.Address.IsUnix() && g.Spec.Queues.Displaced(s.Address) }); at >= 0 {
		silence.Displaced = probe.Displaced(g.wanted()[at].Address)
	}
	return silence.String()
}

// byChance reports whether a port is one that the kernel gives to whoever asks for none (ip_local_port_range, ip(7)), and nothing that the
// worker is given names it.
func (g *Generation) byChance(port uint16) bool {
	first, last := uint16(32768), uint16(60999)
	if content, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(string(content), &first, &last)
	}
	return port >= first && port <= last && !slices.ContainsFunc(slices.Concat(g.Spec.Command, g.Spec.Environment), func(word string) bool {
		return strings.Contains(word, strconv.Itoa(int(port)))
	})
}

func addresses(sockets []handoff.Socket) []netaddr.Address {
	result := make([]netaddr.Address, 0, len(sockets))
	for _, socket := range sockets {
		result = append(result, socket.Address)
	}
	return result
}
