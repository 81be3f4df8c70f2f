package units

import (
	"embed"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"openclaw-gateway/lazy"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/units/instance"
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
	Name        instance.Name
	Scope       Scope
	Executable  string                             // absolute path of the gateway program
	Config      string                             // absolute path of the configuration; empty: the scope's default, found by the launcher
	RunAs       string                             // user name or uid, in system scope only; empty: root
	Listen      []netaddr.Address                  // one ListenStream each, at least one
	DualStack   bool                               // the IPv6 wildcard takes IPv4 clients too; then there may be none beside its port
	Access      map[netaddr.Address]netaddr.Access // who may connect to a unix socket; by default the user of the service alone
	StopTimeout time.Duration                      // how long the worker has to stop; the unit's limit is 3 s more
	Hardened    bool                               // with all that a worker such as OpenClaw can bear, which ends sudo
	Home        string                             // of the service's user, for a hardened one in system scope
	Writable    []string                           // where besides a hardened worker may write; absolute
}

// A File is a unit file: its name and its text.
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
		return nil, fmt.Errorf("render %s: %w", p.Name.Service(), err)
	}
	var files []File
	for _, name := range []string{p.Name.Socket(), p.Name.Service()} {
		template, err := templates.ReadFile(instance.Default.Directory() + filepath.Ext(name) + ".tmpl")
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", name, err)
		}
		switch {
		case name == p.Name.Service():
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
	userState = ` The state directory is ~/.config/%s, beside the configuration: since systemd 254 by a
# link from ~/.local/state.`
	// A user's services require basic.target and so want sockets.target (systemd.service(5), "Default Dependencies"; the system's
	// require sysinit.target alone). What an active target wants systemd (252 to 257) does not start with it, but where two
	// want each other, as our socket and a service that is enabled do.
	userWantedBy = `# Not sockets.target: with a service that is enabled, the start of any other one would open the port again after a stop.
WantedBy=default.target`
)

// values are what stands for each ${KEY} of the templates. Every string is quoted for the place where it stands.
func values(p Params) (map[string]string, error) {
	v := map[string]string{"MARKER": marker, "SCOPE": string(p.Scope), "NETWORK": "", "STATE": "", "CONFIG": "", "USER": "", "SANDBOX": "", "DIRECTORY": p.Name.Directory(), "TITLE": title(p.Name), "SOCKET_DESCRIPTION": SocketDescription(p.Name), "NAME": "", "RECLAIM": ""}
	if p.Name != instance.Default {
		v["NAME"] = " --name " + string(p.Name)
	}
	switch p.Scope {
	case System:
		v["SYSTEMCTL"], v["NETWORK"], v["WANTED_BY"] = "systemctl", systemNetwork, "WantedBy=sockets.target"
	case User:
		v["SYSTEMCTL"], v["STATE"], v["WANTED_BY"] = "systemctl --user", fmt.Sprintf(userState, p.Name.Directory()), userWantedBy
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
	if v["UNIX"], err = unixLines(p, v["EXECUTABLE"]); err != nil {
		return nil, err
	}
	if len(reclaimed) > 0 {
		v["RECLAIM"] = strings.Replace(reclaimLines, "ARGUMENTS", v["EXECUTABLE"]+" reclaim "+strings.Join(reclaimed, " "), 1)
	}
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
var userName = lazy.Regexp(`^[a-zA-Z0-9_][a-zA-Z0-9_.-]*\$?$`)

func checkRunAs(scope Scope, name string) error {
	switch {
	case name == "":
		return nil
	case scope != System:
		return fmt.Errorf("user %q: a user's own manager cannot run a service as somebody else", name)
	case !userName().MatchString(name):
		return fmt.Errorf("%q is not a user name", name)
	}
	return nil
}

// CheckListen says why no socket unit can be made for addresses that a launcher can bind itself.
func CheckListen(addresses []netaddr.Address, dualStack bool) error {
	_, _, err := listenStreams(addresses, dualStack)
	return err
}

// listenStreams writes addresses the way systemd.socket(5) wants them, and those that whoever is in their way is looked for on.
func listenStreams(addresses []netaddr.Address, dualStack bool) (streams, reclaimed []string, err error) {
	if len(addresses) == 0 {
		return nil, nil, errors.New("no address to listen on: set \"listen\" in the config")
	}
	for _, address := range addresses {
		if address.IsUnix() {
			path, err := unixPath(address.Path())
			if err != nil {
				return nil, nil, err
			}
			if slices.Contains(streams, path) {
				return nil, nil, fmt.Errorf("%s is listed twice to listen on: the second could not be bound", address)
			}
			streams = append(streams, path) // whoever listens there loses it to systemd
			continue
		}
		addr := address.Addr()
		switch {
		case !address.IsValid() || address.Port() == 0:
			return nil, nil, fmt.Errorf("cannot listen on %q: give an address and a port", address)
		case addr.Is4In6():
			return nil, nil, fmt.Errorf("cannot listen on %s: write it as %s", address, netaddr.From(addr.Unmap(), address.Port()))
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
		reclaimed = append(reclaimed, netaddr.From(netip.IPv4Unspecified(), address.Port()).String())
	}
	return streams, reclaimed, nil
}

// unixPath writes the path of a unix socket for ListenStream=, which takes specifiers and no quotes.
func unixPath(path string) (string, error) {
	if _, err := quote(path); err != nil {
		return "", err
	}
	switch {
	case !filepath.IsAbs(path) || filepath.Clean(path) != path:
		return "", fmt.Errorf("cannot listen on %s: the path is not a whole and plain one", netaddr.Unix(path))
	case strings.HasSuffix(path, `\`) || strings.TrimSpace(path) != path:
		return "", fmt.Errorf("cannot listen on %s: a unit file cannot hold a path with such an end", netaddr.Unix(path))
	case runtimeDirectory().MatchString(path):
		return "", fmt.Errorf("cannot listen on %s: that is the service's own directory, which goes whenever the service stops: name a path elsewhere", netaddr.Unix(path))
	}
	return strings.ReplaceAll(path, "%", "%%"), nil
}

// runtimeDirectory is that of the service.
var runtimeDirectory = lazy.Regexp(`^/run/(user/[0-9]+/)?openclaw-gateway(-[a-z0-9-]+)?/`)

// unixLines are the settings of the unix sockets. SocketMode= is one for all of them, so each is given its own afterwards: by
// this program, because chmod(1) would follow a symlink that somebody has put in its place, and without the sandbox of the unit,
// in which no file can be changed.
func unixLines(p Params, executable string) (string, error) {
	var lines strings.Builder
	for _, address := range p.Listen {
		if !address.IsUnix() {
			continue
		}
		if lines.Len() == 0 {
			lines.WriteString(unixSettings)
		}
		access := p.Access[address]
		if access.User == "" {
			access.User = p.RunAs
		}
		var options []string
		for _, option := range []struct{ name, value string }{{"mode", access.Mode}, {"user", access.User}, {"group", access.Group}} {
			if option.value == "" {
				continue
			}
			quoted, err := quoteArgument(option.value)
			if err != nil {
				return "", fmt.Errorf("the %s of %s: %w", option.name, address, err)
			}
			options = append(options, "--"+option.name, quoted)
		}
		if len(options) == 0 {
			continue
		}
		path, err := quoteArgument(address.Path())
		if err != nil {
			return "", err
		}
		privileged := "+"
		if p.Scope == User {
			privileged = ""
		}
		fmt.Fprintf(&lines, "\nExecStartPost=-%s%s grant %s %s", privileged, executable, strings.Join(options, " "), path)
	}
	return lines.String(), nil
}

// Lines of the socket that only some have.
const (
	unixSettings = `
# A unix socket is for its user alone until the lines below have said who else may connect. Its file goes with the unit.
SocketMode=0600
RemoveOnStop=yes`
	reclaimLines = `
# Runs before the bind. It ends an orphan: an OpenClaw that no unit keeps running and that holds an address. So starting this
# unit is enough to get the port back. The journal says what it has ended, or who is in the way and what to do. If it fails
# ("-"), the bind below decides.
ExecStartPre=-ARGUMENTS`
)

// seconds writes a duration for systemd.time(7), which takes fractions but has no use for less than a millisecond.
func seconds(d time.Duration) string {
	return strconv.FormatFloat(d.Round(time.Millisecond).Seconds(), 'f', -1, 64)
}
