package proctree

import (
	"errors"
	"os"
	"testing"
	"time"
)

// TestMemory: a process whose memory the kernel does not show costs a while once, and the others little.
func TestMemory(t *testing.T) {
	release := make(chan struct{})
	never := func() ([]byte, error) {
		<-release
		return nil, nil
	}
	start := time.Now()
	for pid := range 20 {
		for range 3 {
			if _, err := inTime(-pid-1, never); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("process %d: %v", -pid-1, err)
			}
		}
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if argv := Argv(os.Getpid()); len(argv) == 0 {
		t.Error("another process is not seen meanwhile")
	}
	close(release)
	for deadline := time.Now().Add(10 * time.Second); waitings.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d are waited for still", waitings.Load())
		}
	}
	if _, err := inTime(-1, func() ([]byte, error) { return nil, nil }); err != nil {
		t.Errorf("when the kernel has answered: %v", err)
	}
}
