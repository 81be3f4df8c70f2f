// Package holders says who holds a TCP address, without lsof or ss, and who is connected to it.
//
// A listening address leads to its sockets, a socket to its inode, and an inode to every process that has it open. The
// first step is one question to the kernel over NETLINK_SOCK_DIAG, filtered by port there, whose answer also carries the
// accept queue and the backlog; the second is one pass over /proc/PID/fd.
//
// What cannot be seen is counted and never taken for nothing: an ordinary user may not look into the processes of
// others, and a socket always has a holder.
package holders
