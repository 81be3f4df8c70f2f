package intercept

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"openclaw-gateway/netaddr"
)

// match says for which held socket an unbound one is to be exchanged that is about to be bound, or with which one that address
// overlaps, so that the kernel refuses it (clash). Both are nil for what has nothing to do with any.
//
// A wildcard is not an address that is held: 0.0.0.0 is not 127.0.0.1. [::] that takes IPv4 clients, which is what most servers ask for
// that are given no host, is [::] alike, whether or not that does: listen decides from where the server can be reached. And never
// 0.0.0.0 with it: a server with one socket would leave the clients of the other to wait for ever.
func match(held []*held, asked sockaddr, own traits) (ours, clash *held) {
	switch {
	case own.kind != unix.SOCK_STREAM, own.protocol != unix.IPPROTO_TCP && own.protocol != unix.IPPROTO_MPTCP:
		return nil, nil // UDP (HTTP/3), SCTP
	case own.domain != asked.family, own.port != 0, asked.port == 0:
		return nil, nil // the kernel refuses it, or chooses a port
	case asked.ip.IsLinkLocalUnicast() && asked.family == unix.AF_INET6 && asked.scope == 0:
		return nil, nil
	}
	ip, mapped := asked.ip, asked.ip.Is4In6()
	if mapped {
		if own.v6only {
			return nil, nil // EINVAL
		}
		ip = ip.Unmap()
	}
	for _, h := range held {
		if h.port != asked.port || h.namespace != own.namespace || own.device != 0 && own.device != h.device {
			continue
		}
		narrower := ip == netip.IPv6Unspecified() && own.v6only && !h.v6only // the held one takes more than it asks for
		switch {
		case h.ip == ip && h.scope == asked.scope && !narrower:
			return h, nil
		case h.ip == ip && h.scope != asked.scope: // a link-local address of another interface
		case netaddr.Overlap(netaddr.From(h.ip, h.port), !h.v6only, netaddr.From(ip, h.port), !own.v6only):
			clash = h
		}
	}
	return nil, clash
}
