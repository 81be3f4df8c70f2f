package main

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// TestSilentLauncher: one that accepts and says nothing costs no more than the
// bound.
func TestSilentLauncher(t *testing.T) {
	path := filepath.Join(t.TempDir(), controlSocket)
	socket, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*answerLimit)
	defer cancel()
	err = target{control: path}.ask(ctx, "/status", new(Status))
	if !errors.Is(err, errSilent) || ctx.Err() != nil || !strings.Contains(err.Error(), path) {
		t.Errorf("asking it: %v", err)
	}
}
