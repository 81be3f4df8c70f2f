package status

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
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
	at := client.NewTarget(ctx, units.User, "")
	const want = "the manager of the user scope does not answer"
	if at.Unasked == nil || !strings.HasPrefix(at.Unasked.Error(), want) {
		t.Fatalf("newTarget says %v", at.Unasked)
	}
	s := Of(t.Context(), at)
	if s.Verdict != api.VerdictDegraded || s.ExitStatus() != 1 || len(s.Problems) == 0 || !strings.HasPrefix(s.Problems[0], want) {
		t.Errorf("the status is %s (exit status %d) with %q", s.Verdict, s.ExitStatus(), s.Problems)
	}
	if err := at.Ask(t.Context(), "/status", new(api.Status)); !errors.Is(err, client.ErrNotRunning) || strings.Contains(err.Error(), "gateway install") {
		t.Errorf("the launcher: %v", err)
	}
}

// TestNoManager: a user without a manager has nothing installed, and that is all.
func TestNoManager(t *testing.T) {
	t.Setenv("GATEWAY_LISTEN", "127.0.0.1:1")
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	at := client.NewTarget(t.Context(), units.User, "")
	if s := Of(t.Context(), at); at.Unasked != nil || s.Verdict != api.VerdictDown || s.ExitStatus() != 3 {
		t.Errorf("%v: %s (exit status %d)", at.Unasked, s.Verdict, s.ExitStatus())
	}
}
