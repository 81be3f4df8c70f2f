// Package load is a client that asks a server again and again, each time over a new TCP connection, and accounts for
// every request: so that a test can say "no client was refused" while it restarts, kills or misconfigures the server.
package load
