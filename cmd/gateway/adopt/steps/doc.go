// Package steps carries a plan out, takes it back where that fails, and undoes it. What is half done always goes back: whoever
// comes next, by the same command, finds the journal and puts back what was there before anything else.
package steps
