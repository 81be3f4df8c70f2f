package handoff_test

import (
	"os"
	"testing"

	"openclaw-gateway/worker/handoff"
)

// TestMain makes the test's own program the shim, as the launcher's is.
func TestMain(m *testing.M) {
	if handoff.IsShim() {
		os.Exit(handoff.RunShim())
	}
	if path := os.Getenv(chooseEnv); path != "" {
		os.Exit(chooseAsAnybody(path))
	}
	os.Exit(m.Run())
}
