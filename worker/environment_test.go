package worker

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"openclaw-gateway/worker/tree"
)

func TestEnvironmentOrder(t *testing.T) {
	t.Parallel()
	got := tree.Environment([]string{"A=1", "LISTEN_FDS=2", "B=2", "NOTIFY_SOCKET=/x", "A=3", "NOTIFY_SOCKETS=4"}, "B=5", "LISTEN_FDS=6")
	if diff := cmp.Diff([]string{"A=3", "B=5", "NOTIFY_SOCKETS=4", "LISTEN_FDS=6"}, got); diff != "" {
		t.Error(diff)
	}
}
