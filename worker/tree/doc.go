// Package tree is what belongs to a generation of the worker: a process and all that comes of it. It is found by control group,
// by descent and by mark, has a signal sent to all of it, and ends with its last process.
package tree
