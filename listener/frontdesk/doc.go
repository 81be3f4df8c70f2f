// Package frontdesk answers clients in place of a worker that cannot: each gets
// HTTP 503 with Retry-After and a short text that says what failed, since when,
// and when it is tried next. It is open only while no worker can answer; what
// comes after it was closed stays in the kernel's queue for the next worker.
//
// The listening sockets are shared with systemd and with the workers, so they
// stay as they are, blocking or not. The desk polls them on a thread of its own
// and accepts what is there; only the accepted connections, which nobody else
// has, are given to Go's netpoller and to net/http.
package frontdesk
