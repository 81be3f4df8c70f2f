// Package handoff is how a worker comes by the listening sockets that the
// launcher holds. The worker is never patched: it either speaks the
// sd_listen_fds protocol (ListenFDs), or is a Node.js program whose listen calls
// are answered with an inherited descriptor by a small preloaded script (Preload).
//
// Every command is started through a shim: the launcher's own program, which
// learns the command over a socket, does what only the worker's own process can
// do (LISTEN_PID must be its pid), and then becomes the command by execve(2).
// The command is not in the shim's argv because an OpenClaw gateway kills
// processes whose command line looks like a gateway's.
package handoff
