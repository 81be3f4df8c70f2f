package listener

import (
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
)

// Unaccepted reports whether a connection to this machine has not been accepted
// yet, named by its two ends. It need not be one to these sockets.
func (Set) Unaccepted(server, client netaddr.Address) (bool, error) {
	return sockdiag.Unaccepted(server, client)
}
