package adopt

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/units"
	"openclaw-gateway/worker/proctree"
)

// environ is what tells the gateway that runs where its state is; nil where none runs.
func (d *derivation) environ() (said []string) {
	names := []string{"HOME"}
	for _, product := range openclaw.Names() {
		for _, name := range []string{"_HOME", "_STATE_DIR", "_CONFIG_PATH", "_PROFILE"} {
			names = append(names, strings.ToUpper(product)+name)
		}
	}
	all, _ := proctree.Environ(d.c.PID) // of one that has ended there is none
	for entry := range strings.SplitSeq(string(all), "\x00") {
		if name, _, _ := strings.Cut(entry, "="); slices.Contains(names, name) {
			said = append(said, entry)
		}
	}
	return said
}

// program is the file that the gateway that runs is; "" where that is not known.
func (c Candidate) program() string {
	path, _ := os.Readlink(filepath.Join("/proc", strconv.Itoa(c.PID), "exe"))
	return strings.TrimSuffix(path, " (deleted)")
}

// asItListens refuses where the gateway that runs listens elsewhere than ours would: whatever tells it so is not seen here, and its
// clients would be cut off, or strangers let in.
func (d *derivation) asItListens(ctx context.Context) error {
	if d.c.PID == 0 {
		return nil
	}
	open, err := sockdiag.OpenBy(ctx, processes(d.p["ControlGroup"])...)
	if err != nil || len(open) == 0 {
		return nil // it is only starting, or somebody else has the port, which is told later
	}
	mend := misplaced(d.Listen, open)
	if others, err := sockdiag.Listening(d.Listen[0]); mend == "" || err != nil || !listensAt(open, d.port) && len(others) > 0 {
		return nil
	}
	return fmt.Errorf("%s listens on %s, and going by its unit and its configuration that would be %s: whatever tells it so is not seen here. Add %s to its ExecStart= if it is to stay where it is, restart it, and run this again",
		d.c.described(), say.List(say.Texts(open)), say.List(say.Texts(d.Listen)), mend)
}

func listensAt(open []netaddr.Address, port int) bool {
	return slices.ContainsFunc(open, func(a netaddr.Address) bool { return int(a.Port()) == port })
}

// misplaced is the option that is missing where somebody listens elsewhere than is planned; "" where nothing is, or nobody knows yet: it
// may be starting. A gateway has other ports besides; a loopback address more or less lets nobody else in or out.
func misplaced(planned, open []netaddr.Address) string {
	if port := planned[0].Port(); !listensAt(open, int(port)) {
		open = slices.DeleteFunc(slices.Clone(open), func(a netaddr.Address) bool { return a.Port() >= sockdiag.Ephemeral })
		if len(open) == 0 {
			return ""
		}
		lowest := slices.MinFunc(open, func(a, b netaddr.Address) int { return int(a.Port()) - int(b.Port()) })
		return "--port " + strconv.Itoa(int(lowest.Port()))
	}
	reach := func(addresses []netaddr.Address) (outside []netip.Addr) {
		for _, a := range addresses {
			ip := a.Addr()
			switch {
			case a.Port() != planned[0].Port() || ip.IsLoopback():
				continue
			case ip.IsUnspecified():
				return []netip.Addr{netip.IPv4Unspecified()}
			}
			outside = append(outside, ip)
		}
		slices.SortFunc(outside, netip.Addr.Compare)
		return outside
	}
	is := reach(open)
	switch {
	case slices.Equal(reach(planned), is):
		return ""
	case len(is) == 0:
		return "--bind loopback"
	case is[0].IsUnspecified():
		return "--bind lan"
	default:
		return "--bind tailnet, or custom,"
	}
}

// ours puts what our unit has for the same thing in the place of what systemd has made for the old one alone: the folder of its
// credentials, and the directories of which ours has one more (systemd.exec(5)).
func (d *derivation) ours(context.Context) error {
	old, ours := "/credentials/"+d.c.name(), "/credentials/"+d.plan.Instance.Service()
	for _, words := range [][]string{d.Command, d.env.own} {
		for i := range words {
			words[i] = strings.ReplaceAll(words[i], old, ours)
		}
	}
	for _, kind := range []struct{ variable, property, base string }{
		{"STATE_DIRECTORY", "StateDirectory", "/var/lib"}, {"RUNTIME_DIRECTORY", "RuntimeDirectory", "/run"}, {"CACHE_DIRECTORY", "CacheDirectory", "/var/cache"},
	} {
		names := d.p.List(kind.property)
		if len(names) == 0 {
			continue
		}
		for i := range names {
			names[i] = filepath.Join(kind.base, names[i])
		}
		value := strings.Join(names, ":")
		if d.c.scope() == units.User { // where they are there is another thing in each version
			value, _ = proctree.Variable(d.c.PID, kind.variable)
		}
		if value == "" {
			d.plan.Lost = append(d.plan.Lost, Note{What: kind.variable, Why: "it names a directory of ours besides, and where the old one was is known only while that runs"})
			continue
		}
		d.env.own, d.env.names = append(d.env.own, kind.variable+"="+value), append(d.env.names, kind.variable)
	}
	return nil
}
