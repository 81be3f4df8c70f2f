package notify

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/worker/proctree"
)

// bound is how long a test waits for what has to happen.
const bound = 30 * time.Second

// The test binary is its own worker.
func TestMain(m *testing.M) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		os.Exit(m.Run())
	}
	conn, err := net.Dial("unixgram", path)
	if err == nil {
		_, err = conn.Write([]byte("READY=1"))
	}
	if err != nil {
		panic(err)
	}
	time.Sleep(time.Hour)
}

// TestStranger sends READY=1 from a process that is not the worker's.
func TestStranger(t *testing.T) {
	t.Parallel()
	socket, err := New(t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(socket.Path); err != nil || info.Mode() != os.ModeSocket|0o666 {
		t.Fatal(info, err)
	}
	// The worker is a child of this process, which is therefore a stranger.
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), "NOTIFY_SOCKET="+socket.Path)
	conn, err := net.Dial("unixgram", socket.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, message := range []string{"READY=1", "STATUS=x\nREADY=1\n", "", strings.Repeat("x", 8000)} {
		if _, err := conn.Write([]byte(message)); err != nil {
			t.Fatal(err)
		}
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	said, ended := make(chan struct{}, 10), make(chan struct{})
	go func() {
		defer close(ended)
		belongs := func(pid int) bool { return proctree.Descends(pid, child.Process.Pid) }
		socket.Watch(belongs, func(pid int, line string) {
			if line == "READY=1" && pid == child.Process.Pid {
				said <- struct{}{}
			}
		})
	}()
	select {
	case <-said:
	case <-time.After(bound):
		t.Error("the worker's own READY=1 was not taken")
	}
	socket.Flush()
	if err := socket.Close(); err != nil {
		t.Error(err)
	}
	<-ended
	if len(said) > 0 {
		t.Error("a stranger's READY=1 was taken for the worker's")
	}
	if _, err := os.Stat(socket.Path); !os.IsNotExist(err) {
		t.Errorf("the socket's file is left: %v", err)
	}
}

func TestSocketLeft(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	first, err := New(directory, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer first.conn.Close()
	second, err := New(directory, 1)
	if err != nil {
		t.Fatalf("with the file of a killed launcher: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}
