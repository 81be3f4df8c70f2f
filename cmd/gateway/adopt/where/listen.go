package where

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/lazy"
	"openclaw-gateway/netaddr"
)

// Binding is where OpenClaw listens, and what it has to be told so that it goes on to.
type Binding struct {
	Listen []netaddr.Address
	Bind   string // of --bind
	Why    string
}

// Machine is what OpenClaw looks at to choose an address.
type Machine struct {
	Tailnet   netip.Addr // this machine's in Tailscale's network; none where there is none
	Container bool       // it looks like one
}

// Bind derives the addresses from what is said (resolveGatewayBindHost and resolveGatewayListenHosts of 2026.9.6): --bind, else
// gateway.bind of OpenClaw's configuration, else loopback, and auto in what looks like a container.
func Bind(said []string, own Settings, port int, here Machine) (b Binding, err error) {
	mode := cmp.Or(openclaw.Option(said, "--bind"), own.Bind)
	switch {
	case openclaw.Option(said, "--bind") != "":
		b.Why = "--bind of its command is " + mode
	case own.Bind != "":
		b.Why = fmt.Sprintf("gateway.bind of %s is %s", own.Path, mode)
	default:
		b.Why = "neither its command nor its configuration says where it listens"
		tailscale := cmp.Or(openclaw.Option(said, "--tailscale"), own.Tailscale, "off")
		if mode = "loopback"; here.Container && tailscale == "off" {
			mode = "auto"
		}
	}
	if mode == "auto" {
		mode = "loopback"
		if here.Container {
			mode = "lan"
			b.Why += ", and this looks like a container"
		}
	}
	at := func(ip netip.Addr) netaddr.Address { return netaddr.From(ip, uint16(port)) }
	ipv4 := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	b.Bind = mode
	switch mode {
	case "loopback":
		b.Listen = []netaddr.Address{at(ipv4), at(netip.IPv6Loopback())}
		b.Why += ": for this machine alone"
	case "lan":
		b.Listen = []netaddr.Address{at(netip.IPv4Unspecified())}
		b.Why += ": every address of this machine"
	case "tailnet":
		if !here.Tailnet.IsValid() {
			return b, fmt.Errorf("%s, and this machine has no address in Tailscale's network now (100.64.0.0/10): run `tailscale up`, or set gateway.bind to another one, and run this again", b.Why)
		}
		b.Listen = []netaddr.Address{at(here.Tailnet), at(ipv4)}
		b.Why += ": this machine's address there, and 127.0.0.1 besides"
	case "custom":
		host, err := netip.ParseAddr(own.CustomHost)
		if err != nil || !host.Is4() {
			return b, fmt.Errorf("%s, and gateway.customBindHost is %q, which is no IPv4 address: set it in %s, and run this again", b.Why, own.CustomHost, own.Path)
		}
		b.Listen = []netaddr.Address{at(host)}
		if host != ipv4 && !host.IsUnspecified() {
			b.Listen = append(b.Listen, at(ipv4))
		} else if host == ipv4 {
			b.Listen = append(b.Listen, at(netip.IPv6Loopback()))
		}
		b.Why += ": gateway.customBindHost, and 127.0.0.1 besides"
	default:
		return b, errors.New(b.Why + ", which OpenClaw does not know: loopback, lan, tailnet, custom or auto")
	}
	return b, nil
}

// Here looks at this machine as OpenClaw does (pickPrimaryTailnetIPv4 and isContainerEnvironment of 2026.9.6).
func Here(environment []string) (m Machine) {
	tailnet := netip.MustParsePrefix("100.64.0.0/10")
	addresses, _ := net.InterfaceAddrs()
	for _, address := range addresses {
		if prefix, err := netip.ParsePrefix(address.String()); err == nil && tailnet.Contains(prefix.Addr()) && !m.Tailnet.IsValid() {
			m.Tailnet = prefix.Addr()
		}
	}
	m.Container = ValueOf(environment, "FLY_MACHINE_ID") != "" && ValueOf(environment, "FLY_APP_NAME") != "" ||
		slices.ContainsFunc([]string{"/.dockerenv", "/run/.containerenv"}, exists)
	if content, err := os.ReadFile("/proc/1/cgroup"); err == nil {
		m.Container = m.Container || inContainer().Match(content)
	}
	return m
}

var inContainer = lazy.Regexp(`/docker/|cri-containerd-[0-9a-f]|containerd/[0-9a-f]{64}|/kubepods[/.]|\blxc\b`)
