package worker

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestProbeNotify(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"self", "child", "flood", "tool"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			gate := fifo(t)
			r := newRig(t, command(t, "serve", "notify="+how, "gate="+gate))
			r.spec.Probe = ProbeNotify
			r.run()
			r.await(Starting)
			opened := time.Now()
			open(t, gate)
			if s := r.await(Ready); s.Since.Before(opened) {
				t.Errorf("ready before it said so: %+v", s)
			}
			// It is not stuck in a message that nobody takes.
			r.wantAnswer("/", "generation 1,")
			if s := r.ended(); s.LastExit.Signal != unix.SIGTERM {
				t.Errorf("end of the generation: %+v", s.LastExit)
			}
		})
	}
}

// TestProbeAutoNotify: READY=1 counts although the worker takes no connection.
func TestProbeAutoNotify(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", "/ready"} {
		t.Run("path "+path, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, command(t, "deaf", "notify=self"))
			r.spec.Probe, r.spec.ReadyPath = ProbeAuto, path
			r.run()
			r.await(Ready)
		})
	}
}

// TestStrangerNotifies sends READY=1 from a process that is not the worker's.
func TestStrangerNotifies(t *testing.T) {
	t.Parallel()
	socket, err := newNotifySocket(t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(socket.path); err != nil || info.Mode().Type() != os.ModeSocket {
		t.Fatal(info, err)
	}
	// The worker is a child of this process, which is therefore a stranger.
	line := command(t, "deaf", "notify=self", "trap=SIGTERM:0")
	child := exec.Command(line[0], line[1:]...)
	child.Env = append(os.Environ(), quietRace, "NOTIFY_SOCKET="+socket.path)
	conn, err := net.Dial("unixgram", socket.path)
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
		socket.watch(child.Process.Pid, func(line string) {
			if line == "READY=1" {
				said <- struct{}{}
			}
		})
	}()
	select {
	case <-said:
	case <-time.After(bound):
		t.Error("the worker's own READY=1 was not taken")
	}
	if err := socket.Close(); err != nil {
		t.Error(err)
	}
	<-ended
	if len(said) > 0 {
		t.Error("a stranger's READY=1 was taken for the worker's")
	}
	if _, err := os.Stat(socket.path); !os.IsNotExist(err) {
		t.Errorf("the socket's file is left: %v", err)
	}
}

func TestNotifySocketLeft(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	first, err := newNotifySocket(directory, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer first.conn.Close()
	second, err := newNotifySocket(directory, 1)
	if err != nil {
		t.Fatalf("with the file of a killed launcher: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}
