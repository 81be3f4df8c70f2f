package worker

import (
	"os"
	"testing"

	"openclaw-gateway/worker/handoff"
)

// The test binary is its own shim, and its own worker: see program_test.go.
func TestMain(m *testing.M) {
	switch {
	case handoff.IsShim():
		os.Exit(handoff.RunShim())
	case len(os.Args) > 2 && os.Args[1] == programArgument:
		os.Exit(runProgram(os.Args[2], os.Args[3:]))
	default:
		os.Exit(m.Run())
	}
}
