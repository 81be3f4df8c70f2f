package main

import "fmt"

// exitUsage is EX_USAGE of sysexits.h: the command line is not complete.
const exitUsage = 64

// exitStatus is an error with an exit status other than 1; err may be nil when
// everything has been said.
type exitStatus struct {
	status int
	err    error
}

func (e *exitStatus) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

func (e *exitStatus) Unwrap() error { return e.err }
