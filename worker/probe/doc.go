// Package probe makes the launcher's own requests to a worker: whether it has taken the
// sockets, whether it is ready, whether it still answers. Such a request stands in the
// same queue as the clients, so each is accounted for until it has left that.
package probe
