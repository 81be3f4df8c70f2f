package launcher

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/state"
	"openclaw-gateway/listener"
	"openclaw-gateway/netaddr"
)

// TestKeepCame: in which state the sockets came is kept once, in a file of this user's alone.
func TestKeepCame(t *testing.T) {
	directory := t.TempDir()
	t.Setenv("STATE_DIRECTORY", directory)
	socket, err := listener.Bind(netaddr.MustParse("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.File.Close()
	sockets := listener.Set{socket}
	keepCame(sockets, slog.Default()).Wait()
	path := filepath.Join(directory, "sockets.json")
	first, err := os.Stat(path)
	if err != nil || first.Mode() != 0o600 {
		t.Fatalf("%v (%v)", first, err)
	}
	kept := state.Load(state.Came)
	if want, err := sockets.Came(kept); err != nil || string(want) != string(kept) {
		t.Errorf("%q is kept, want %q (%v)", kept, want, err)
	}
	keepCame(sockets, slog.Default()).Wait()
	if now, err := os.Stat(path); err != nil || !os.SameFile(now, first) {
		t.Errorf("it is written again (%v)", err)
	}
	// Another user's.
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if other := state.Load(state.Came); other != nil {
		t.Errorf("another user's counts: %q", other)
	}
	if err := errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	keepCame(sockets, slog.Default()).Wait()
	if content, err := os.ReadFile(path); err != nil || string(content) != string(kept) {
		t.Errorf("in the place of a pipe is %q (%v)", content, err)
	}
}
