// Package handoff is how a worker comes by the listening sockets that the
// launcher holds. The worker is never patched: it either speaks the
// sd_listen_fds protocol (ListenFDs), or is a Node.js program whose listen calls
// are answered with an inherited descriptor by a small preloaded script (Preload).
//
// What becomes another program, or starts it, gets both (Auto).
//
// To the generation all are a Handoff: what is inherited, what is told, what is
// reported.
//
// LISTEN_PID of that protocol is the worker's own pid, which has to be in its
// environment. So such a worker is started through a shim: the launcher's own
// program, which learns the command over a socket, when the launcher knows the
// pid, and becomes it by execve(2). The command is not in the shim's argv because
// an OpenClaw gateway kills processes whose command line looks like a gateway's.
package handoff
