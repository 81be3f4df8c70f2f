package worker

import (
	"os"
	"testing"
)

// The test binary is its own shim, and its own worker: see program_test.go.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 2 && os.Args[1] == programArgument:
		os.Exit(runProgram(os.Args[2], os.Args[3:]))
	default:
		os.Exit(m.Run())
	}
}
