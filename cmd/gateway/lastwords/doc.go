// Package lastwords finds in the journal what a worker has said last. It is asked by whoever wants to know, with that one's
// rights, and never by the launcher.
package lastwords
