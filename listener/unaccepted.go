package listener

import (
	"net/netip"

	"openclaw-gateway/listener/sockdiag"
)

// Unaccepted reports whether a connection to this machine has not been accepted
// yet, named by its two ends. It need not be one to these sockets.
func (Set) Unaccepted(server, client netip.AddrPort) (bool, error) {
	return sockdiag.Unaccepted(server, client)
}
