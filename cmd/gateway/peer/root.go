package peer

import (
	"os"
	"strings"
)

// Root returns the uid that root has in this process's user namespace.
func Root() uint32 {
	uidMap, _ := os.ReadFile("/proc/self/uid_map")
	return rootHere(string(uidMap))
}

// rootHere returns the uid that root has in the user namespace with that map of uids (user_namespaces(7)). Where root is not
// in it, as in that of a user's hardened service, it is everybody's who is not: the kernel's default for the sysctl
// kernel.overflowuid. There the mode of the directory is what keeps the others out.
func rootHere(uidMap string) uint32 {
	const nobody = 65534
	for line := range strings.Lines(uidMap) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] == "0" {
			return 0
		}
	}
	if uidMap == "" {
		return 0 // without user namespaces
	}
	return nobody
}
