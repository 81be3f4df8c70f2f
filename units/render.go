package units

import (
	"embed"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed *.tmpl
var templates embed.FS

// marker begins the first line of each file that we write. By it a later version knows its own files, so it stays as it is.
const marker = `# Written by "gateway install"`

// stopMargin is what the launcher needs after the worker's stop timeout to kill the rest and to exit. OpenClaw ends
// itself 5 s before the unit's TimeoutStopSec, so it is ready before its own timeout has passed.
const stopMargin = 3 * time.Second

// NeededStopLimit is the TimeoutStopSec that a worker with this stop.timeout needs, and that [Render] writes.
func NeededStopLimit(stopTimeout time.Duration) time.Duration { return stopTimeout + stopMargin }

// Params is what the units depend on.
type Params struct {
	Scope       Scope
	Executable  string           // absolute path of the gateway program
	Config      string           // absolute path of the configuration; empty: the scope's default, found by the launcher
	RunAs       string           // user name or uid, in system scope only; empty: root
	Listen      []netip.AddrPort // one ListenStream each, at least one
	DualStack   bool             // the IPv6 wildcard takes IPv4 clients too; then there may be none beside its port
	StopTimeout time.Duration    // how long the worker has to stop; the unit's limit is 3 s more
	Hardened    bool             // with all that a worker such as OpenClaw can bear, which ends sudo
	Home        string           // of the service's user, for a hardened one in system scope
	Writable    []string         // where besides a hardened worker may write; absolute
}

// A File is a unit file: its name, which is [Socket] or [Service], and its text.
type File struct {
	Name    string
	Content []byte
}

// Render returns the socket unit and the service unit, in this order. Nothing in the parameters can become a setting or
// a specifier of its own: what cannot be quoted is an error, and so are a name that OpenClaw would take for its own
// process, and an empty or repeated listen address.
func Render(p Params) ([]File, error) {
	values, err := values(p)
	if err != nil {
		return nil, fmt.Errorf("render the units: %w", err)
	}
	service, err := sandbox(p)
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", Service, err)
	}
	var files []File
	for _, name := range []string{Socket, Service} {
		template, err := templates.ReadFile(name + ".tmpl")
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", name, err)
		}
		switch {
		case name == Service:
			values["SANDBOX"] = service
		case p.Scope == System:
			values["SANDBOX"] = socketSandbox
		}
		// Not text/template, which calls methods by their names: the linker then keeps every method of all that the program
		// is made of, and the launcher takes far more memory.
		text := os.Expand(string(template), func(key string) string {
			value, known := values[key]
			if !known {
				err = fmt.Errorf("render %s: its template has a ${%s}", name, key)
			}
			return value
		})
		if err != nil {
			return nil, err
		}
		files = append(files, File{Name: name, Content: []byte(text)})
	}
	return files, nil
}

// Lines of the service that only one of the scopes has.
const (
	systemNetwork = `
# The worker may dial out as soon as it starts. The socket does not wait for the network: clients queue meanwhile.
Wants=network-online.target
After=network-online.target`
	userState = ` The state directory is ~/.config/openclaw-gateway, beside the configuration: since systemd 254 by a
# link from ~/.local/state.`
)

// values are what stands for each ${KEY} of the templates. Every string is quoted for the place where it stands.
func values(p Params) (map[string]string, error) {
	v := map[string]string{"MARKER": marker, "SCOPE": string(p.Scope), "NETWORK": "", "STATE": "", "CONFIG": "", "USER": "", "SANDBOX": ""}
	switch p.Scope {
	case System:
		v["SYSTEMCTL"], v["NETWORK"] = "systemctl", systemNetwork
	case User:
		v["SYSTEMCTL"], v["STATE"] = "systemctl --user", userState
	default:
		return nil, unknownScope(p.Scope)
	}
	var err error
	if v["EXECUTABLE"], err = quoteExecutable(p.Executable); err != nil {
		return nil, err
	}
	if p.Config != "" {
		quoted, err := quoteArgument(p.Config)
		if err != nil {
			return nil, fmt.Errorf("the config's path: %w", err)
		}
		if !filepath.IsAbs(p.Config) {
			return nil, fmt.Errorf("the config's path %q is not absolute", p.Config)
		}
		v["CONFIG"] = " --config " + quoted
	}
	if err := checkRunAs(p.Scope, p.RunAs); err != nil {
		return nil, err
	}
	if p.RunAs != "" {
		v["USER"] = "\nUser=" + p.RunAs
	}
	streams, reclaimed, err := listenStreams(p.Listen, p.DualStack)
	if err != nil {
		return nil, err
	}
	v["ADDRESSES"] = strings.Join(reclaimed, " ")
	v["BIND"] = "# An IPv6 address takes IPv6 clients only, so that 0.0.0.0 and [::] can stand side by side.\nBindIPv6Only=ipv6-only"
	if p.DualStack {
		v["BIND"] = "# A port alone is for IPv4 clients, too.\nBindIPv6Only=both"
	}
	v["LISTEN"] = "\nListenStream=" + strings.Join(streams, "\nListenStream=")
	if p.StopTimeout < 0 {
		return nil, fmt.Errorf("the stop timeout %v is negative", p.StopTimeout)
	}
	v["TIMEOUT_STOP"] = seconds(NeededStopLimit(p.StopTimeout))
	return v, nil
}

// quoteExecutable quotes the first word of an Exec line. systemd refuses quotes and backslashes in it however they are
// written ("Executable name contains special characters"), and expands a variable in argv[0] but not in the path.
func quoteExecutable(path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("the program's path %q is not absolute", path)
	}
	if strings.Contains(strings.ToLower(filepath.Base(path)), "openclaw") {
		return "", fmt.Errorf("the program's name %q contains \"openclaw\": a second OpenClaw would take the launcher for a stale gateway and kill it; rename it, for instance to gateway",
			filepath.Base(path))
	}
	if strings.ContainsAny(path, `"'\$`) {
		return "", fmt.Errorf("the program's path %q has a quote, a backslash or a dollar sign in it, which systemd does not take: move it elsewhere", path)
	}
	quoted, err := quote(path)
	if err != nil {
		return "", fmt.Errorf("the program's path: %w", err)
	}
	return quoted, nil
}

// userName is stricter than systemd, which takes what it can; shadow-utils create no other names.
var userName = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.-]*\$?$`)

func checkRunAs(scope Scope, name string) error {
	switch {
	case name == "":
		return nil
	case scope != System:
		return fmt.Errorf("user %q: a user's own manager cannot run a service as somebody else", name)
	case !userName.MatchString(name):
		return fmt.Errorf("%q is not a user name", name)
	}
	return nil
}

// listenStreams writes addresses the way systemd.socket(5) wants them, and those that whoever is in their way is looked for on.
func listenStreams(addresses []netip.AddrPort, dualStack bool) (streams, reclaimed []string, err error) {
	if len(addresses) == 0 {
		return nil, nil, errors.New("no address to listen on: set \"listen\" in the config")
	}
	for _, address := range addresses {
		addr := address.Addr()
		switch {
		case !address.IsValid() || address.Port() == 0:
			return nil, nil, fmt.Errorf("cannot listen on %q: give an address and a port", address)
		case addr.Is4In6():
			return nil, nil, fmt.Errorf("cannot listen on %s: write it as %s", address, netip.AddrPortFrom(addr.Unmap(), address.Port()))
		case addr.Zone() != "":
			// "Failed to parse address value …, ignoring: No such device" (systemd 252)
			return nil, nil, fmt.Errorf("cannot listen on %s: systemd drops an address whose interface is not there when it reads the unit; listen on [::]:%d instead",
				address, address.Port())
		case slices.Contains(reclaimed, address.String()):
			return nil, nil, fmt.Errorf("%s is listed twice to listen on: the second could not be bound", address)
		}
		reclaimed = append(reclaimed, address.String())
		if !dualStack || addr != netip.IPv6Unspecified() {
			streams = append(streams, address.String())
			continue
		}
		streams = append(streams, strconv.Itoa(int(address.Port())))
		reclaimed = append(reclaimed, netip.AddrPortFrom(netip.IPv4Unspecified(), address.Port()).String())
	}
	return streams, reclaimed, nil
}

// seconds writes a duration for systemd.time(7), which takes fractions but has no use for less than a millisecond.
func seconds(d time.Duration) string {
	return strconv.FormatFloat(d.Round(time.Millisecond).Seconds(), 'f', -1, 64)
}
