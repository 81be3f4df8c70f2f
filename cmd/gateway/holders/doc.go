// Package holders says who holds an address, of TCP or of a unix socket, and what each of them is to us: the service manager,
// our launcher, its worker, an orphan, a rival, or somebody foreign. An orphan may be ended, so this is where proof is asked for.
//
// A listening address leads to its sockets, a socket to its inode, and an inode to every process that has it open: one
// pass over /proc/PID/fd.
//
// What cannot be seen is counted and never taken for nothing: an ordinary user may not look into the processes of
// others, and a socket always has a holder.
package holders
