package reclaim

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/units/instance"
	"openclaw-gateway/worker/proctree"
)

// Addresses are those of a command line, each once; "*:18789" is the port of both families.
func Addresses(args []string) ([]netaddr.Address, error) {
	var addresses []netaddr.Address
	for _, arg := range args {
		address, err := api.ParseAddress(arg)
		if err != nil || address.Port() == 0 && !filepath.IsAbs(address.Path()) {
			return nil, fmt.Errorf("%q is no address: write an IP address and a port, such as 127.0.0.1:18789 or [::1]:18789, or the path of a unix socket, such as unix:/run/app.sock", arg)
		}
		if !address.IsUnix() {
			address = netaddr.From(address.Addr().Unmap(), address.Port())
		}
		all := []netaddr.Address{address}
		if strings.HasPrefix(arg, "*:") {
			all = append(all, netaddr.From(netip.IPv4Unspecified(), address.Port()))
		}
		for _, address := range all {
			if !slices.Contains(addresses, address) {
				addresses = append(addresses, address)
			}
		}
	}
	return addresses, nil
}

// BeforeBind reports whether the socket unit has executed this process: then the
// unit itself does not hold the addresses yet, and whoever does is in its way.
func BeforeBind() bool {
	cgroup, err := os.ReadFile("/proc/self/cgroup")
	if err != nil || !proctree.ExecutedBySystemd() {
		return false
	}
	for line := range strings.Lines(string(cgroup)) {
		unit := filepath.Base(strings.TrimSuffix(line, "\n"))
		if _, ours := instance.OfUnit(unit); ours && filepath.Ext(unit) == ".socket" {
			return true
		}
	}
	return false
}
