package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/test/fixtures"
	"openclaw-gateway/units"
)

// TestUnasked: a manager that does not answer is not one that knows no unit.
func TestUnasked(t *testing.T) {
	t.Setenv("GATEWAY_LISTEN", "127.0.0.1:1")
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	fixtures.SilentManager(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	at := newTarget(ctx, units.User)
	const want = "the manager of the user scope does not answer"
	if at.unasked == nil || !strings.HasPrefix(at.unasked.Error(), want) {
		t.Fatalf("newTarget says %v", at.unasked)
	}
	s := statusOf(t.Context(), at)
	if s.Verdict != VerdictDegraded || s.exit() != 1 || len(s.Problems) == 0 || !strings.HasPrefix(s.Problems[0], want) {
		t.Errorf("the status is %s (exit status %d) with %q", s.Verdict, s.exit(), s.Problems)
	}
	if err := at.ask(t.Context(), "/status", new(Status)); !errors.Is(err, errNotRunning) || strings.Contains(err.Error(), "gateway install") {
		t.Errorf("the launcher: %v", err)
	}
}

// TestNoManager: a user without a manager has nothing installed, and that is all.
func TestNoManager(t *testing.T) {
	t.Setenv("GATEWAY_LISTEN", "127.0.0.1:1")
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	at := newTarget(t.Context(), units.User)
	if s := statusOf(t.Context(), at); at.unasked != nil || s.Verdict != VerdictDown || s.exit() != 3 {
		t.Errorf("%v: %s (exit status %d)", at.unasked, s.Verdict, s.exit())
	}
}
