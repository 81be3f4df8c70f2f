// Package generation is one life of the worker, from its start to the end of its last process: a machine with a stage, a timer and a
// table (table.go). It is made from a spec, gets the sockets by its handoff, perhaps at a gate beside another one, is ready, and is
// stopped. Whoever owns it calls it on one goroutine alone, gives it each event that is for it (Handle), and is told what has become
// of it. What watches the worker meanwhile has goroutines of its own, which send events.
package generation
