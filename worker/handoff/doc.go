// Package handoff is how a worker comes by the listening sockets that the
// launcher holds. The worker is never patched: it either speaks the
// sd_listen_fds protocol (ListenFDs), or is a Node.js program whose listen calls
// are answered with an inherited descriptor by a small preloaded script (Preload).
//
// Every command is started through a shim: the launcher's own program, which
// learns the command over a socket and becomes it by execve(2). So the launcher
// knows the worker's pid before the worker does anything, and can put it into
// LISTEN_PID.
// The command is not in the shim's argv because an OpenClaw gateway kills
// processes whose command line looks like a gateway's.
package handoff
