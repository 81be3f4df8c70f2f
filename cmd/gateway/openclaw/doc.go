// Package openclaw knows what an OpenClaw gateway looks like from outside: as a
// process, and as a package on disk. What it says of a process is a proof, because
// processes are ended by it; where it is not sure it says no.
package openclaw
