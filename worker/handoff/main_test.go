package handoff_test

import (
	"os"
	"testing"
)

// quick keeps the race detector from letting a process linger for a second.
const quick = "GORACE=atexit_sleep_ms=0"

// TestMain makes the test's own program the shim, as the launcher's is.
func TestMain(m *testing.M) {
	if path := os.Getenv(chooseEnv); path != "" {
		os.Exit(chooseAsAnybody(path))
	}
	os.Exit(m.Run())
}
