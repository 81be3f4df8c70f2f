package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/lazy"
	"openclaw-gateway/netaddr"
)

// Listener is one entry of listen.
type Listener struct {
	Address netaddr.Address
	// DualStack says that the address, the IPv6 wildcard, takes IPv4 clients too: "*:18789".
	DualStack bool
	Name      string         // for LISTEN_FDNAMES; "" where none is given
	Access    netaddr.Access // of a unix socket
}

// String is how it is written in the file.
func (l Listener) String() string {
	text := say.Address(l.Address, l.DualStack)
	entries := []string{fmt.Sprintf("address: %q", text)}
	for _, entry := range []struct{ key, value string }{
		{"mode", l.Access.Mode}, {"user", l.Access.User}, {"group", l.Access.Group}, {"name", l.Name},
	} {
		if entry.value != "" {
			value := entry.value
			if entry.key == "mode" {
				value = strconv.Quote(value)
			}
			entries = append(entries, entry.key+": "+value)
		}
	}
	if len(entries) == 1 {
		return text
	}
	return "{" + strings.Join(entries, ", ") + "}"
}

// listened makes what else there is of c.Listeners.
func (c *Config) listened() {
	c.Listen, c.DualStack, c.Names, c.Access = nil, false, map[netaddr.Address]string{}, map[netaddr.Address]netaddr.Access{}
	for _, l := range c.Listeners {
		c.Listen = append(c.Listen, l.Address)
		c.DualStack = c.DualStack || l.DualStack
		if l.Name != "" {
			c.Names[l.Address] = l.Name
		}
		if l.Address.IsUnix() {
			c.Access[l.Address] = l.Access
		}
	}
}

// Wants says whether an address is one of listen, dual-stack or not.
func (c *Config) Wants(address netaddr.Address) bool { return slices.Contains(c.Listen, address) }

// shownEntries are how an entry is written that is more than an address.
const shownEntries = `{address: "127.0.0.1:18789", name: web} or {address: "unix:/run/app.sock", mode: "0660", group: www-data}`

// parseListener accepts an address, or a mapping of an address and what goes with it.
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
		number, isNumber := value.(int)
		switch {
		case !slices.Contains([]string{"address", "name", "mode", "user", "group"}, key):
			return nil, fmt.Errorf("%q is unknown here: an entry is an address, or %s", say.Cut(key, shownLimit), shownEntries)
		case isNumber && (key == "user" || key == "group"):
			text = strconv.Itoa(number)
		case !isText:
			return nil, fmt.Errorf("%s wants a text: put it in quotes", key)
		}
		texts[key] = text
	}
	if texts["address"] == "" {
		return nil, fmt.Errorf("has no address: write %s", shownEntries)
	}
	listener, err := parseAddress(texts["address"])
	if err != nil {
		return listener, err
	}
	listener.Name, listener.Access = texts["name"], netaddr.Access{Mode: texts["mode"], User: texts["user"], Group: texts["group"]}
	if listener.Name != "" && !socketName().MatchString(listener.Name) {
		return listener, fmt.Errorf("%q cannot be the name of a socket: at most 255 letters, digits and signs of ASCII, no colon", listener.Name)
	}
	return listener, checkAccess(listener)
}

// socketMode is a mode of three digits behind a 0, as chmod(1) takes it; userName is a name, or a number, of a user or a group.
var (
	socketMode = lazy.Regexp(`^0?[0-7]{3}$`)
	userName   = lazy.Regexp(`^([a-zA-Z_][a-zA-Z0-9_.-]{0,30}\$?|[0-9]{1,9})$`)
)

func checkAccess(l Listener) error {
	access := l.Access
	switch {
	case !l.Address.IsUnix() && access != (netaddr.Access{}):
		return fmt.Errorf("%s has no mode, user or group: those are a unix socket's", l.Address)
	case access.Mode != "" && !socketMode().MatchString(access.Mode):
		return fmt.Errorf(`mode %q is none of a socket: write it as "0660"`, access.Mode)
	case access.User != "" && !userName().MatchString(access.User):
		return fmt.Errorf("user %q is no name of a user", access.User)
	case access.Group != "" && !userName().MatchString(access.Group):
		return fmt.Errorf("group %q is no name of a group", access.Group)
	}
	return nil
}

func isAddress(text string) bool {
	_, err := netaddr.Parse(text)
	return err == nil
}

// socketName is what LISTEN_FDNAMES takes (fdname_is_valid in systemd's src/basic/fd-util.c).
var socketName = lazy.Regexp(`^[ -9;-~]{1,255}$`)

// parseAddress accepts an IP address or *, and a port, or unix: and a path. Names of hosts are refused: what they stand for can change, and one name can
// stand for several addresses, while each address is one socket.
func parseAddress(text string) (Listener, error) {
	if path, isUnix := strings.CutPrefix(text, "unix:"); isUnix {
		return parsePath(text, path)
	}
	if strings.HasPrefix(text, "/") {
		return Listener{}, fmt.Errorf("%q: a unix socket is written as \"unix:%s\"", text, filepath.Clean(text))
	}
	for _, kind := range []string{"udp:", "tcp:", "http:", "https:", "ws:", "wss:"} {
		rest, given := strings.CutPrefix(text, kind)
		rest, slashes := strings.CutPrefix(rest, "//")
		if given && slashes {
			kind += "//"
		}
		rest = strings.TrimSuffix(rest, "/")
		switch {
		case given && strings.HasPrefix(kind, "udp:"):
			return Listener{}, fmt.Errorf("%q is of UDP, which has no connections that could wait for a worker: name an address of TCP, or a unix socket", text)
		case given && (kind == "tcp:" || slashes && isAddress(rest)):
			return Listener{}, fmt.Errorf("%q: leave out %s, and write %s", text, kind, rest)
		}
	}
	port, dual := strings.CutPrefix(text, "*:")
	written := text
	if dual {
		written = "[::]:" + port
	}
	address, err := netaddr.Parse(written)
	if err != nil {
		port := text[strings.LastIndex(text, ":")+1:]
		if _, err := netaddr.Parse("[::1]:" + port); err != nil {
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
			text, netaddr.From(address.Addr().Unmap(), address.Port()))
	}
	return Listener{Address: address, DualStack: dual}, unreachable(text, address)
}

// unreachable says why nobody could connect to an address: the kernel takes it, or refuses the whole socket unit for it.
func unreachable(text string, address netaddr.Address) error {
	addr, port := address.Addr(), address.Port()
	switch {
	case addr.IsMulticast():
		return fmt.Errorf("%q is a multicast address, to which nobody can connect: name one that this machine has", text)
	case addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%q is the broadcast address, to which nobody can connect: name one that this machine has, or 0.0.0.0:%d for all", text, port)
	case addr.Is6() && addr.IsLinkLocalUnicast() && addr.Zone() == "":
		return fmt.Errorf("%q is an address of a single link, and does not say which: write [::]:%d for all addresses, or [%s%%INTERFACE]:%d for a launcher that is run by hand",
			text, port, addr, port)
	case addr.Zone() != "" && !addr.IsLinkLocalUnicast():
		return fmt.Errorf("%q has a zone, which only an address of a single link has: write %s", text, netaddr.From(addr.WithZone(""), port))
	}
	return nil
}

// longestPath is how many bytes the path of a unix socket may have (sun_path in unix(7), without the zero byte at its end).
const longestPath = 107

// parsePath accepts the path of a unix socket, and writes it as systemd does, without doubled slashes.
func parsePath(text, path string) (Listener, error) {
	clean := filepath.Clean(path)
	refuse := func(why string, with ...any) (Listener, error) {
		return Listener{}, fmt.Errorf("%q: "+why, append([]any{say.Cut(text, shownLimit)}, with...)...)
	}
	switch {
	case strings.HasPrefix(path, "@"):
		return refuse("an abstract socket has no file, so everybody could connect to it: write a path, such as unix:/run/%s.sock", "app")
	case strings.HasPrefix(path, "~"):
		return refuse("~ is known to shells alone: write the whole path")
	case !filepath.IsAbs(path):
		return refuse("the path of a unix socket begins with /: write the whole path")
	case slices.Contains(strings.Split(path, "/"), ".."):
		return refuse("systemd takes no .. in a path: write it without, as %s", netaddr.Unix(clean))
	case strings.HasSuffix(path, "/"):
		return refuse("is a directory: name the socket in it")
	case !utf8.ValidString(path) || strings.ContainsFunc(path, unicode.IsControl) || strings.TrimSpace(path) != path:
		return refuse("the path has characters in it, or spaces at its end, that a unit file cannot hold")
	case len(clean) > longestPath:
		return refuse("the path has %d bytes, and the kernel takes %d for a socket: name a shorter one", len(clean), longestPath)
	}
	return Listener{Address: netaddr.Unix(clean)}, nil
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
			case netaddr.Overlap(one.Address, one.DualStack, earlier.Address, earlier.DualStack):
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
