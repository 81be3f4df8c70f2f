// Package listener keeps the listening sockets: it inherits them from systemd
// and verifies each one, or binds them when the launcher is run by hand. It
// notices a waiting client without accepting it, and that nobody has been
// connected for a while, and gives every generation the sockets in the state in
// which they came.
//
// The sockets are shared: systemd, the launcher and the worker hold the same
// open file description, so a flag that one of them sets is set for all, and
// none of them owns it alone. That is why this package never turns them into a
// net.Listener: doing so would make them non-blocking for the worker as well.
package listener
