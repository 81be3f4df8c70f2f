package control

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/launcher/runtimedir"
)

// TestSecond: where a launcher answers there is no second one; what a dead one left is replaced.
func TestSecond(t *testing.T) {
	directory, log := &runtimedir.Directory{Own: t.TempDir()}, slog.New(slog.DiscardHandler)
	path := filepath.Join(directory.Own, api.ControlSocket)
	first, err := New(directory, log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(directory, log); err == nil || !strings.Contains(err.Error(), "another launcher") {
		t.Errorf("a second one: %v", err)
	}
	first.socket.SetUnlinkOnClose(false)
	first.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	second, err := New(directory, log)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
}
