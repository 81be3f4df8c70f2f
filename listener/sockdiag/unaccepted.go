package sockdiag

import (
	"fmt"

	"openclaw-gateway/netaddr"
)

// Unaccepted reports whether the connection from client to server still stands in an accept queue. Such a connection has
// no inode (it is sock_i_ino, which is 0 until accept(2) makes a file of it). One that was accepted and closed has none
// either, but then is in a state that only close(2) leads to; while it waits it is established, or the client has given
// it up.
func Unaccepted(server, client netaddr.Address) (bool, error) {
	if server.IsUnix() {
		return unixUnaccepted(server, client)
	}
	entries, err := findOn(1<<tcpEstablished|1<<tcpCloseWait, server.Port())
	if err != nil {
		return false, fmt.Errorf("look for the connection from %s to %s: %w", client, server, err)
	}
	for _, e := range entries {
		if e.Address == asEntered(server) && e.remote == asEntered(client) {
			return e.Inode == 0, nil
		}
	}
	return false, nil
}

// asEntered is an address as the entries have it.
func asEntered(address netaddr.Address) netaddr.Address {
	return netaddr.From(address.Addr().Unmap().WithZone(""), address.Port())
}
