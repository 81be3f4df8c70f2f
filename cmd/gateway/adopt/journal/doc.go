// Package journal keeps what an adoption changes, so that it can be put back whatever has ended it: a failure, a signal, a power
// cut. What lies at a path is kept before it is touched, and what is there afterwards is written down, each on the disk before the
// next: so what is at a path now tells how far it came, and nothing has to be marked as done.
//
// It lies where nobody but its owner writes: root for the system's units, the user for its own. What was there is below "before"
// with the path that it had, so that a person finds it without this program.
package journal
