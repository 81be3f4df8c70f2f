package reclaim

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/units"
	"openclaw-gateway/worker/proctree"
)

// Addresses are those of a command line, each once; "*:18789" is the port of both families.
func Addresses(args []string) ([]netip.AddrPort, error) {
	var addresses []netip.AddrPort
	for _, arg := range args {
		address, err := api.ParseAddress(arg)
		if err != nil || address.Port() == 0 {
			return nil, fmt.Errorf("%q is no address: write an IP address and a port, such as 127.0.0.1:18789 or [::1]:18789", arg)
		}
		address = netip.AddrPortFrom(address.Addr().Unmap(), address.Port())
		all := []netip.AddrPort{address}
		if strings.HasPrefix(arg, "*:") {
			all = append(all, netip.AddrPortFrom(netip.IPv4Unspecified(), address.Port()))
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
	return err == nil && proctree.ExecutedBySystemd() && strings.Contains(string(cgroup), "/"+units.Socket+"\n")
}
