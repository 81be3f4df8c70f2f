// Package hello is the built-in server that runs as the worker while worker.command is empty, so that a first try of the
// gateway needs nothing else.
//
// It behaves as a good worker does: it takes the sockets that are passed to it as sd_listen_fds(3) says and never binds,
// says READY=1 by sd_notify(3), answers the two health paths of OpenClaw, and when it is to stop finishes what it has
// begun. What it has not accepted stays in the queue of the shared sockets for its successor.
package hello
