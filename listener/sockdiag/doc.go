// Package sockdiag reads the kernel's table of TCP and unix sockets, without lsof or ss: who listens on an address, with which
// queue and backlog, what else keeps it from being bound, and who is connected.
//
// It is one question to the kernel over NETLINK_SOCK_DIAG, filtered by port there. The answer covers the network
// namespace of whoever asks.
package sockdiag
