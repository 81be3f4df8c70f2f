package client

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
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

// TestOlderLauncher is not asked for the holders of its sockets.
func TestOlderLauncher(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), api.ControlSocket)
	socket, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	older := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var s api.Status
		if r.URL.Query().Get("holders") != "no" {
			s.Notes = []string{"a process could not be looked into"}
		}
		_ = json.NewEncoder(w).Encode(s)
	})}
	go func() { _ = older.Serve(socket) }()
	defer older.Close()
	if s, err := (Target{Control: path}).Status(t.Context()); err != nil || len(s.Notes) > 0 {
		t.Errorf("its status is %+v, %v", s, err)
	}
}
