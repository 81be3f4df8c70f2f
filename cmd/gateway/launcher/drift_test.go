package launcher

import (
	"slices"
	"testing"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
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
