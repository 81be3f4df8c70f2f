package client

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/api"
)

// TestSilentLauncher: one that accepts and says nothing costs no more than the
// bound.
func TestSilentLauncher(t *testing.T) {
	path := filepath.Join(t.TempDir(), api.ControlSocket)
	socket, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*AnswerLimit)
	defer cancel()
	err = Target{Control: path}.Ask(ctx, "/status", new(api.Status))
	if !errors.Is(err, ErrSilent) || ctx.Err() != nil || !strings.Contains(err.Error(), path) {
		t.Errorf("asking it: %v", err)
	}
}
