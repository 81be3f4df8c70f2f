// Package check is "gateway config check": what is wrong with a file, what cannot work on this machine, and what the running
// launcher would do with it.
package check
