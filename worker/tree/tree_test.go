package tree

import (
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestSaveBesideReap: an upgrade may save the trees while it is looked for what a generation beside has left.
func TestSaveBesideReap(t *testing.T) {
	trees := New(slog.New(slog.DiscardHandler), NewReaper(), t.TempDir())
	tree, err := trees.Generation(1)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("sleep", "1000") // whose it is has to be looked for
	child.Env = Environment(os.Environ(), tree.Environment...)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	looked, saved := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(looked)
		for range 10 {
			tree.Left(0)
		}
	}()
	go func() {
		defer close(saved)
		for {
			select {
			case <-looked:
				return
			default:
				if _, err := trees.Save(); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	select {
	case <-saved:
	case <-time.After(20 * time.Second):
		t.Fatal("a save and a look wait for each other")
	}
}
