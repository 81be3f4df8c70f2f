// Package wait bounds what a test waits for. It imports nothing of ours, so that every package can be tested with it.
package wait

import (
	"testing"
	"time"
)

// Within fails the test when what it does is not done in time, or fails.
func Within(t testing.TB, bound time.Duration, what string, do func() error) {
	t.Helper()
	result := make(chan error, 1)
	go func() { result <- do() }()
	select {
	case err := <-result:
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	case <-time.After(bound):
		t.Fatalf("not within %s: %s", bound, what)
	}
}
