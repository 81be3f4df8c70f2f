package logging

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// journald takes streams at a path, as the real one does.
type journald struct {
	t *testing.T
	*net.UnixListener
}

func startJournald(t *testing.T, path string) journald {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return journald{t, l}
}

// accept takes a stream and expects these lines.
func (j journald) accept(lines ...string) net.Conn {
	j.t.Helper()
	conn, err := j.Accept()
	if err != nil {
		j.t.Fatal(err)
	}
	j.t.Cleanup(func() { conn.Close() })
	reader := bufio.NewReader(conn)
	for _, want := range lines {
		if got, err := reader.ReadString('\n'); err != nil || got != want+"\n" {
			j.t.Fatalf("the stream says %q, %v; want %q", got, err, want)
		}
	}
	return conn
}

func TestStreams(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stdout")
	t.Setenv("JOURNAL_STREAM", "1:2")
	j := startJournald(t, path)
	// This process's standard output and standard error are the test's own.
	inherited, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(inherited, &unix.SockaddrUnix{Name: path})
	}
	if err != nil {
		t.Fatal(err)
	}
	twin, err := unix.Dup(inherited)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, descriptor := range []int{inherited, twin} {
		defer unix.Close(descriptor)
	}
	defer file.Close()
	streams := &Streams{Identifier: "gateway", Unit: "x.service", path: path, descriptors: []int{inherited, twin, int(file.Fd())}}
	mend := func(when string, want bool, wantErr bool) {
		t.Helper()
		if mended, err := streams.Mend(); mended != want || (err != nil) != wantErr {
			t.Fatalf("%s: %t, %v", when, mended, err)
		}
	}
	stream := func() string {
		var stat unix.Stat_t
		if err := unix.Fstat(twin, &stat); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
	}
	write := func(text string) {
		t.Helper()
		for _, descriptor := range []int{inherited, twin, int(file.Fd())} {
			if _, err := unix.Write(descriptor, []byte(text+"\n")); err != nil {
				t.Fatalf("write %s: %v", text, err)
			}
		}
	}
	first := j.accept()
	mend("while it works", false, false)
	if got := os.Getenv("JOURNAL_STREAM"); got != "1:2" {
		t.Errorf("JOURNAL_STREAM is %s", got)
	}
	stop := func(conn net.Conn) {
		conn.Close()
		j.Close()
	}

	stop(first)
	mend("while there is no journald", false, true)
	write("lost")
	j = startJournald(t, path)
	mend("when it is there again", true, false)
	write("kept")
	if got := os.Getenv("JOURNAL_STREAM"); got != stream() {
		t.Errorf("JOURNAL_STREAM is %s, and the stream %s", got, stream())
	}
	second := j.accept("gateway", "x.service", "30", "1", "0", "0", "0", "kept", "kept")
	mend("while the new one works", false, false)

	stop(second)
	j = startJournald(t, path)
	mend("when it was started anew meanwhile", true, false)
	write("again")
	j.accept("gateway", "x.service", "30", "1", "0", "0", "0", "again", "again")
	if content, err := os.ReadFile(file.Name()); err != nil || string(content) != "lost\nkept\nagain\n" {
		t.Errorf("a file is not the journal's: %q, %v", content, err)
	}
}
