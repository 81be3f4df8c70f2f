package passed

import (
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// closes reports whether a descriptor is closed on execve(2).
func closes(t *testing.T, fd int) bool {
	t.Helper()
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil {
		t.Fatal(err)
	}
	return flags&unix.FD_CLOEXEC != 0
}

func TestOpen(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer writer.Close()
	var files Files
	fd, err := files.Add(reader)
	if err != nil {
		t.Fatal(err)
	}
	undo, err := files.Open()
	if err != nil || closes(t, fd) {
		t.Fatalf("it is closed on execve: %v", err)
	}
	undo()
	if !closes(t, fd) {
		t.Error("it stays open on execve, although that has not come")
	}
	_ = writer.Close()
	if _, err := files.Add(writer); err == nil {
		t.Error("one that is closed is added")
	}
}

func TestTake(t *testing.T) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	file, err := Take(ends[0], "reports")
	if err != nil || !closes(t, ends[0]) {
		t.Fatalf("not closed on execve: %v", err)
	}
	defer file.Close()
	if _, err := Take(ends[0], "reports"); err == nil || !strings.Contains(err.Error(), "program's own") {
		t.Errorf("taken twice: %v", err)
	}
	if _, err := Take(1<<20, "reports"); err == nil {
		t.Error("what is not open is taken")
	}
	if _, err := unix.Write(ends[1], []byte("said")); err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(ends[1])
	if said, err := io.ReadAll(file); err != nil || string(said) != "said" {
		t.Errorf("read %q, %v", said, err)
	}
}

// TestTakeShared: a listening socket that a worker has made non-blocking stays so, and Go's poller does not get it.
func TestTakeShared(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	fd := -1
	raw, err := listener.(*net.TCPListener).SyscallConn()
	if err == nil {
		err = raw.Control(func(own uintptr) { fd, err = unix.Dup(int(own)) }) // without close-on-exec
	}
	if err != nil || fd < 0 {
		t.Fatal(fd, err)
	}
	file, err := TakeShared(fd, "listener")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.SetDeadline(time.Unix(0, 0)); err == nil {
		t.Error("it is in Go's poller")
	}
	own, err := file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = own.Control(func(number uintptr) {
		if nonblocking, err := unix.FcntlInt(number, unix.F_GETFL, 0); err != nil || nonblocking&syscall.O_NONBLOCK == 0 {
			t.Errorf("its mode has changed: %v", err)
		}
		if !closes(t, int(number)) {
			t.Error("it is not closed on execve")
		}
	})
}
