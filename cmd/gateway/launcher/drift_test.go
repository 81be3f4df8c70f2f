package launcher

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/fixtures"
	"openclaw-gateway/worker/generation"
)

// TestProblemsSilentManager: what the units lack stays in the status while systemd
// does not say whether that still holds, and the status does not wait for it.
func TestProblemsSilentManager(t *testing.T) {
	fixtures.SilentManager(t)
	l, _, at := rigControl(t)
	l.held.kind, l.held.manager = api.FromSystemd, 2 // of a user
	l.editions.latest.Store(&edition{cfg: config.Default(), spec: generation.Spec{Edition: 1}, drifts: []drift{{"stop.timeout", "stop.timeout is too long"}}})
	began := time.Now()
	var s api.Status
	if err := at.Ask(t.Context(), "/status", &s); err != nil {
		t.Fatalf("after %s: %v", time.Since(began), err)
	}
	if !slices.Contains(s.Problems, "stop.timeout is too long") {
		t.Errorf("the problems are %q", s.Problems)
	}
}

// TestClaimUnlocked: while systemd is asked why an edit cannot have its addresses, nobody waits for that, the supervisor least of all.
func TestClaimUnlocked(t *testing.T) {
	directory := t.TempDir()
	if err := os.Mkdir(filepath.Join(directory, "systemd"), 0o700); err != nil {
		t.Fatal(err)
	}
	manager, err := net.Listen("unix", filepath.Join(directory, "systemd/private"))
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("XDG_RUNTIME_DIR", directory)
	h := newHeldSockets(nil, source{kind: api.FromSystemd, manager: 2}, slog.New(slog.DiscardHandler)) // of a user
	claimed := make(chan error, 1)
	go func() {
		_, err := h.claim(1, wish{listen: []netaddr.Address{netaddr.MustParse("127.0.0.1:1")}})
		claimed <- err
	}()
	conn, err := manager.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if h.mu.TryLock() {
		h.mu.Unlock()
	} else {
		t.Error("it is asked with the lock")
	}
	_ = conn.Close()
	if err := <-claimed; err == nil || !strings.Contains(err.Error(), "nothing of the kind") {
		t.Errorf("an address that nobody holds: %v", err)
	}
}
