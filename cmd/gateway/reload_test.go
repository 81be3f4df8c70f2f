package main

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/worker"
)

// silentManager is the socket of a user's manager that takes whoever connects and
// says nothing; the environment leads there.
func silentManager(t *testing.T) {
	t.Helper()
	directory := t.TempDir()
	if err := os.Mkdir(filepath.Join(directory, "systemd"), 0o700); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", filepath.Join(directory, "systemd/private"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	t.Setenv("XDG_RUNTIME_DIR", directory)
}

// TestProblemsSilentManager: what the units lack stays in the status while systemd
// does not say whether that still holds, and the status does not wait for it.
func TestProblemsSilentManager(t *testing.T) {
	silentManager(t)
	l, _, at := rigControl(t)
	l.held.kind, l.held.pid = bySystemd, 2 // of a user
	l.latest.Store(&edition{cfg: config.Default(), spec: worker.Spec{Edition: 1}, lacks: []lack{{"stop.timeout", "stop.timeout is too long"}}})
	began := time.Now()
	var s Status
	if err := at.ask(t.Context(), "/status", &s); err != nil {
		t.Fatalf("after %s: %v", time.Since(began), err)
	}
	if !slices.Contains(s.Problems, "stop.timeout is too long") {
		t.Errorf("the problems are %q", s.Problems)
	}
}
