// Package launcher is "gateway run", the daemon: it inherits or binds the sockets, keeps the configuration's editions, has
// the worker supervised, and answers about itself from memory. It looks at nobody else's processes, and starts no
// tool.
//
// Run is the place to begin reading. An edit goes from the watched file to editions, from there as a spec to the supervisor,
// and comes back as a status to editions and to reporter, which tells systemd and whoever asks.
package launcher
