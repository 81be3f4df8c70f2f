package install

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/openclaw/dotenv"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
)

// neighbour is another instance, which keeps its port.
type neighbour struct {
	name   instance.Name
	whose  string // "the system scope", "user alice"
	listen []netaddr.Address
	narrow bool // its IPv6 wildcard takes no IPv4 clients
	target client.Target
}

// neighbours are those that have a port, or get it at the next boot: in this scope, in the caller's others and, for root, in
// those of other users that have theirs. Below a root of another system they are those of the same scope.
func (in *Installer) neighbours(ctx context.Context, scope units.Scope, dir string) (all []neighbour, err error) {
	if in.Root != "" {
		streams, err := units.Streams(in.Root, dir)
		for name, lines := range streams {
			if name == in.Name {
				continue
			}
			n := neighbour{name: name, whose: fmt.Sprintf("the %s scope", scope), narrow: true}
			for _, line := range lines {
				if strings.HasPrefix(line, "/") {
					n.listen = append(n.listen, netaddr.Unix(line))
				} else if port, err := strconv.ParseUint(line, 10, 16); err == nil {
					n.listen, n.narrow = append(n.listen, netaddr.From(netip.IPv6Unspecified(), uint16(port))), false
				} else if address, err := netaddr.Parse(line); err == nil {
					n.listen = append(n.listen, address)
				}
			}
			all = append(all, n)
		}
		slices.SortFunc(all, func(a, b neighbour) int { return cmp.Compare(a.name, b.name) })
		return all, err
	}
	targets := client.Choice{}.Targets(ctx)
	for _, t := range slices.Concat(targets, client.Choice{}.Others(ctx)) {
		if !t.Wants || t.Scope == scope && t.Instance == in.Name && !t.Theirs() || t.Theirs() && !holds(t) {
			continue
		}
		whose := fmt.Sprintf("the %s scope", t.Scope)
		if t.Scope == units.User {
			whose = "user " + systemd.UserName(t.Manager().UID)
		}
		all = append(all, neighbour{t.Instance, whose, t.Listen, t.IPv6Only, t})
	}
	return all, nil
}

// holds reports whether another user's instance really has an address: what that one only asks for keeps nobody from it.
func holds(t client.Target) bool {
	return slices.ContainsFunc(t.Listen, func(address netaddr.Address) bool {
		listening, err := sockdiag.Listening(address)
		return err == nil && slices.ContainsFunc(listening, func(s sockdiag.Socket) bool { return int(s.UID) == t.UID })
	})
}

// overlaps reports whether the sockets of both cannot stand side by side.
func (n *neighbour) overlaps(address netaddr.Address, dualStack bool) bool {
	return slices.ContainsFunc(n.listen, func(own netaddr.Address) bool {
		return netaddr.Overlap(own, !n.narrow, address, dualStack)
	})
}

// refuseTaken refuses an address that another instance has: only one of them could have it, and which would be a matter of
// who is first.
func refuseTaken(to *installation, neighbours []neighbour) error {
	for _, n := range neighbours {
		taken := slices.DeleteFunc(slices.Clone(to.listen), func(a netaddr.Address) bool { return !n.overlaps(a, to.dualStack) })
		if len(taken) > 0 {
			return fmt.Errorf("nothing is installed: %s %s for %s of %s: name another port in listen of %s, or take that one out first",
				say.Addresses(taken), say.Are(len(taken)), n.name.Socket(), n.whose, to.config)
		}
	}
	return nil
}

// refuseListening refuses the path of a unix socket on which somebody else listens: systemd would take it from them.
func (in *Installer) refuseListening(ctx context.Context, to *installation) error {
	for _, address := range to.listen {
		if in.Root != "" || !address.IsUnix() || !listens(ctx, address) {
			continue
		}
		own := client.NewTarget(ctx, to.scope, in.Name)
		if own.SocketState == "active" && slices.Contains(own.Listen, address) {
			continue
		}
		who := "somebody"
		if listening, err := sockdiag.Listening(address); err == nil && len(listening) > 0 {
			// A drop-in that was taken out named it perhaps: the launcher has whatever its socket unit still holds.
			link := fmt.Sprintf("socket:[%d]", listening[0].Inode)
			if has, err := sockdiag.Descriptors(ctx, own.Unit.MainPID, map[string]uint64{link: listening[0].Inode}); err == nil && len(has) > 0 {
				continue
			}
			who = "a process of user " + systemd.UserName(int(listening[0].UID))
		}
		return fmt.Errorf("nothing is installed: %s listens on %s, and systemd would take that path away: end it first, or name another path in listen of %s", who, address, to.config)
	}
	return nil
}

// listens reports whether somebody listens on a unix socket, in whatever network namespace.
func listens(ctx context.Context, address netaddr.Address) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", address.Path())
	if err == nil {
		_ = conn.Close()
	}
	return !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist)
}

// refuseShared refuses an OpenClaw that has its state where another instance's has it: it would wait for the lock there for ever.
// What another user says of a directory counts for that user's own alone.
func (in *Installer) refuseShared(ctx context.Context, to *installation, neighbours []neighbour) error {
	own, is, err := in.dotEnv(ctx, *to)
	if err != nil || !is {
		return nil // leaveToUs says why
	}
	for _, n := range neighbours {
		other, err := n.dotEnv(ctx)
		if err == nil && other.Path == own.Path && (n.target.Scope == units.System || other.UID == own.UID) {
			return fmt.Errorf("nothing is installed: %s is the state directory of the OpenClaw of %s of %s already, and only one can run on it: give this one another, "+
				"by --profile in worker.command or OPENCLAW_STATE_DIR in worker.environment of %s", filepath.Dir(own.Path), n.name.Service(), n.whose, to.config)
		}
	}
	return nil
}

// dotEnv is the .env of the OpenClaw that it runs, as far as that can be told.
func (n *neighbour) dotEnv(ctx context.Context) (dotenv.File, error) {
	manager := n.target.Manager()
	uid := manager.UID
	if !manager.User {
		service, err := manager.Unit(ctx, n.name.Service(), "User")
		if err != nil {
			return dotenv.File{}, err
		}
		if name := service["User"]; name != "" {
			if uid = systemd.UserID(name); uid < 0 {
				return dotenv.File{}, fmt.Errorf("there is no user %s", name)
			}
		}
	}
	return dotenv.Configured(ctx, openclaw.Option(n.target.Runs, "--config"), uid)
}

// apart is how far the ports of two instances are from each other: an OpenClaw opens others behind its own.
const apart = 20

// example is the configuration to begin with: for a named instance with a port that no other one has.
func (in *Installer) example(neighbours []neighbour) []byte {
	first := config.Default().Listen[0].Port()
	port := first
	taken := func(port uint16) bool {
		return slices.ContainsFunc(neighbours, func(n neighbour) bool {
			return slices.ContainsFunc(n.listen, func(a netaddr.Address) bool { return a.Port() == port })
		})
	}
	if in.Name == instance.Default {
		return config.Example
	}
	for port += apart; taken(port); port += apart {
	}
	return bytes.ReplaceAll(config.Example, []byte(strconv.Itoa(int(first))), []byte(strconv.Itoa(int(port))))
}

// refuseOther refuses to have an installed instance read another configuration, which would take its port for that one.
func (in *Installer) refuseOther(scope units.Scope, installed units.Choice) error {
	if in.Config == "" || installed.Config == "" {
		return nil
	}
	path, err := in.configPath(scope)
	if err != nil || path == installed.Config {
		return err
	}
	if _, err := os.Stat(in.below(installed.Config)); errors.Is(err, fs.ErrNotExist) {
		return nil // it has been moved
	}
	with := func(verb string, more ...string) string {
		return systemd.Of(scope).As(in.EUID(), slices.Concat([]string{"gateway", verb, "--" + string(scope)}, more)...)
	}
	beside := with("install", "--name", "NAME", "--config", path)
	return fmt.Errorf("nothing is installed: %s of the %s scope is installed with %s: `%s` makes another instance beside it; "+
		"to have this one read %s instead, take it out first: `%s`", in.Name.Service(), scope, installed.Config, beside, filepath.Base(path),
		with("uninstall", in.Name.Flag()...))
}
