package generation

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/passed"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/notify"
	"openclaw-gateway/worker/proctree"
	"openclaw-gateway/worker/tree"
)

// TestResume: a generation that was passed on is followed to its end, one that had loaded its modules ahead too: nothing of that was passed on.
func TestResume(t *testing.T) {
	t.Parallel()
	child := exec.Command("sleep", "infinity")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Process.Kill() })
	there, err := proctree.Find(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := notify.New(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	told, err := socket.Save(new(passed.Files))
	if err == nil {
		told.FD, err = unix.Dup(told.FD) // which is not closed with the program, as one that was passed
	}
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	held := netaddr.MustParse("127.0.0.1:1")
	around := Surroundings{Options: Options{Log: log}, Trees: tree.New(log, nil, t.TempDir()), Events: make(chan Event)}
	spec := Spec{Sockets: []handoff.Socket{{Address: held}}, Queues: new(queues)}
	saved := Saved{
		Number: 3, PID: there.PID, Start: there.Start, Since: time.Now(), Ahead: true, Listening: []netaddr.Address{held},
		Handoff: handoff.Saved{Kind: handoff.ListenFDs}, Notify: told,
	}
	other := saved
	other.Start++
	if _, err := Resume(other, spec, around, nil); err == nil {
		t.Error("another process with its pid is taken for it")
	}
	g, err := Resume(saved, spec, around, nil)
	if err != nil {
		t.Fatal(err)
	}
	if g.Stage != Ready || !g.Prewarmed() || !g.Listening[held] {
		t.Errorf("it is %+v", g)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case e := <-around.Events:
			if e.Kind != Ended {
				continue
			}
			if e.Exit.Signal != unix.SIGKILL {
				t.Errorf("it ended with %+v", e.Exit)
			}
			if _, err := os.Stat(socket.Path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("its notify socket is left: %v", err)
			}
			return
		case <-time.After(30 * time.Second):
			t.Fatal("its end is not noticed")
		}
	}
}
