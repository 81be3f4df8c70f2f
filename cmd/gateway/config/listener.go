package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"openclaw-gateway/cmd/gateway/say"
)

// Listener is one entry of listen.
type Listener struct {
	Address netip.AddrPort
	// DualStack says that the address, the IPv6 wildcard, takes IPv4 clients too: "*:18789".
	DualStack bool
	Name      string // for LISTEN_FDNAMES; "" where none is given
}

// String is how it is written in the file.
func (l Listener) String() string {
	text := say.Address(l.Address, l.DualStack)
	if l.Name != "" {
		text = fmt.Sprintf("{address: %q, name: %q}", text, l.Name)
	}
	return text
}

// clashes says whether the kernel refuses to bind the two together.
func (l Listener) clashes(other Listener) bool {
	return Clash(l.Address, other.Address) || (l.DualStack || other.DualStack) && l.Address.Port() == other.Address.Port()
}

// listened makes what else there is of c.Listeners.
func (c *Config) listened() {
	c.Listen, c.DualStack, c.Names = nil, false, map[netip.AddrPort]string{}
	for _, l := range c.Listeners {
		c.Listen = append(c.Listen, l.Address)
		c.DualStack = c.DualStack || l.DualStack
		if l.Name != "" {
			c.Names[l.Address] = l.Name
		}
	}
}

// parseListener accepts an address, or a mapping of an address and a name.
func parseListener(from reflect.Value) (any, error) {
	if text, ok := from.Interface().(string); ok {
		return parseAddress(text)
	}
	entries, ok := from.Interface().(map[string]any)
	if !ok {
		return nil, fmt.Errorf(`want an address such as "127.0.0.1:18789", not %s`, typeOf(from))
	}
	texts := map[string]string{}
	for key, value := range entries {
		text, isText := value.(string)
		switch {
		case key != "address" && key != "name":
			return nil, fmt.Errorf(`%q is unknown here: an entry is an address, or {address: "127.0.0.1:18789", name: web}`, cut(key, shownLimit))
		case !isText:
			return nil, fmt.Errorf("%s wants a text: put it in quotes", key)
		}
		texts[key] = text
	}
	if texts["address"] == "" {
		return nil, fmt.Errorf(`has no address: write {address: "127.0.0.1:18789", name: web}`)
	}
	listener, err := parseAddress(texts["address"])
	listener.Name = texts["name"]
	if err == nil && listener.Name != "" && !socketName.MatchString(listener.Name) {
		err = fmt.Errorf("%q cannot be the name of a socket: at most 255 letters, digits and signs of ASCII, no colon", listener.Name)
	}
	return listener, err
}

// socketName is what LISTEN_FDNAMES takes (fdname_is_valid in systemd's src/basic/fd-util.c).
var socketName = regexp.MustCompile(`^[ -9;-~]{1,255}$`)

// parseAddress accepts an IP address or *, and a port. Names of hosts are refused: what they stand for can change, and one name can
// stand for several addresses, while each address is one socket.
func parseAddress(text string) (Listener, error) {
	if strings.HasPrefix(text, "unix:") || strings.HasPrefix(text, "/") {
		return Listener{}, fmt.Errorf("%q is a unix socket: only TCP is handed over, so name an IP address and a port", text)
	}
	for _, kind := range []string{"udp:", "tcp:"} {
		rest, given := strings.CutPrefix(text, kind)
		switch {
		case given && kind == "udp:":
			return Listener{}, fmt.Errorf("%q is of UDP, which has no connections that could wait for a worker: only TCP is handed over", text)
		case given:
			return Listener{}, fmt.Errorf("%q: leave out %s, and write %s", text, kind, rest)
		}
	}
	port, dual := strings.CutPrefix(text, "*:")
	written := text
	if dual {
		written = "[::]:" + port
	}
	address, err := netip.ParseAddrPort(written)
	if err != nil {
		port := text[strings.LastIndex(text, ":")+1:]
		if _, err := netip.ParseAddrPort("[::1]:" + port); err != nil {
			port = "18789"
		}
		return Listener{}, fmt.Errorf("%q is not an IP address with a port from 1 to 65535: use 127.0.0.1:%s or [::1]:%s",
			text, port, port)
	}
	if address.Port() == 0 {
		return Listener{}, fmt.Errorf("%q has port 0: choose one from 1 to 65535", text)
	}
	if address.Addr().Is4In6() {
		return Listener{}, fmt.Errorf("%q is an IPv4 address in the form of IPv6: write %s",
			text, netip.AddrPortFrom(address.Addr().Unmap(), address.Port()))
	}
	return Listener{Address: address, DualStack: dual}, nil
}

func (l *loader) checkListen(key string) {
	all := l.config.Listeners
	if len(all) == 0 {
		l.report(key, `is empty: name at least one address, such as ["127.0.0.1:18789"]`)
	}
	dual := slices.IndexFunc(all, func(l Listener) bool { return l.DualStack })
	for i, one := range all {
		shown := say.Address(one.Address, one.DualStack)
		for _, earlier := range all[:i] {
			other := say.Address(earlier.Address, earlier.DualStack)
			switch {
			case shown == other:
				l.report(element(key, i), "%s is there twice", shown)
			case one.clashes(earlier):
				l.report(element(key, i), "%s and %s cannot be bound together: the one for all addresses holds the other", shown, other)
			}
		}
		// BindIPv6Only= is the whole unit's (systemd.socket(5)).
		if !one.DualStack && one.Address.Addr() == netip.IPv6Unspecified() && dual >= 0 && one.Address.Port() != all[dual].Address.Port() {
			l.report(element(key, i), "%s takes IPv6 alone, and %s both: one socket unit cannot have the two. Write \"*:%d\" here",
				shown, all[dual], one.Address.Port())
		}
	}
	l.config.listened()
}
