// Package recording records, in a test machine, what a person sees who types commands, and writes docs/incident.svg and
// docs/restart.svg. "make recording" runs it; it is a Go benchmark, as those of test/bench are, so that "make check" compiles
// and vets it and no more.
package recording
