package logging

import (
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// receiver is a journal's socket, whose queue others fill.
type receiver struct {
	t      *testing.T
	socket int
	path   string
}

func newReceiver(t *testing.T) receiver {
	t.Helper()
	r := receiver{t: t, path: filepath.Join(t.TempDir(), "socket")}
	var err error
	if r.socket, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(r.socket) })
	if err := unix.Bind(r.socket, &unix.SockaddrUnix{Name: r.path}); err != nil {
		t.Fatal(err)
	}
	return r
}

// fill fills the queue with what others send: several, as the buffer of one may be smaller (net.unix.max_dgram_qlen).
func (r receiver) fill() {
	r.t.Helper()
	for sent := -1; sent != 0; {
		other, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			r.t.Fatal(err)
		}
		defer unix.Close(other)
		for sent = 0; err == nil; sent++ {
			err = unix.Sendto(other, []byte("x"), 0, &unix.SockaddrUnix{Name: r.path})
		}
		sent-- // the one that failed
		if !errors.Is(err, unix.EAGAIN) {
			r.t.Fatal(err)
		}
	}
}

// entries empties the queue and returns what there was but for what fill has sent.
func (r receiver) entries() (entries []string) {
	r.t.Helper()
	data, control := make([]byte, 1<<16), make([]byte, 64)
	for {
		n, controls, _, _, err := unix.Recvmsg(r.socket, data, control, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return entries
		}
		if err != nil {
			r.t.Fatal(err)
		}
		switch text := string(data[:n]); {
		case controls > 0:
			entries = append(entries, r.file(control[:controls]))
		case text != "x":
			entries = append(entries, text)
		}
	}
}

// file is what a sealed file has that was sent instead of an entry.
func (r receiver) file(control []byte) string {
	r.t.Helper()
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) != 1 {
		r.t.Fatal(messages, err)
	}
	files, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(files) != 1 {
		r.t.Fatal(files, err)
	}
	defer unix.Close(files[0])
	if seals, err := unix.FcntlInt(uintptr(files[0]), unix.F_GET_SEALS, 0); err != nil || seals&unix.F_SEAL_WRITE == 0 {
		r.t.Errorf("the file has the seals %x, %v", seals, err)
	}
	content := make([]byte, 4<<20)
	n, err := unix.Pread(files[0], content, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(content[:n])
}

// TestJournalFull: a line for which the journal has no room is lost, and nobody waits for it; the next one that is taken says so.
func TestJournalFull(t *testing.T) {
	r := newReceiver(t)
	var fallback strings.Builder
	log := slog.New(&journalHandler{level: slog.LevelInfo, fallback: slog.NewTextHandler(&fallback, nil), journal: newSender(r.path)})
	line := func(message string) {
		t.Helper()
		done := make(chan struct{})
		go func() {
			defer close(done)
			log.Info(message)
		}()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatalf("%q waits for the journal", message)
		}
	}
	r.fill()
	line("one")
	line("two")
	if got := r.entries(); len(got) > 0 {
		t.Errorf("the journal has %q", got)
	}
	line("three")
	line("four")
	got := r.entries()
	if len(got) != 2 || !strings.Contains(got[0], "MESSAGE=three lines_lost_before=2\n") || !strings.Contains(got[1], "MESSAGE=four\n") {
		t.Errorf("the journal has %q", got)
	}
	if err := unix.Unlink(r.path); err != nil {
		t.Fatal(err)
	}
	line("five")
	if text := fallback.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "msg=five") {
		t.Errorf("where no journal is to be reached: %q", text)
	}
}

// TestJournalRoom: a line that waits is taken as soon as there is room.
func TestJournalRoom(t *testing.T) {
	r := newReceiver(t)
	s := newSender(r.path)
	unlimited := unix.Timeval{}
	if err := unix.SetsockoptTimeval(s.socket, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unlimited); err != nil {
		t.Fatal(err)
	}
	r.fill()
	sent := make(chan error)
	go func() { sent <- s.send(map[string]string{"MESSAGE": "x"}, true) }()
	select {
	case err := <-sent:
		t.Fatalf("it does not wait for room: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	for {
		r.entries()
		select {
		case err := <-sent:
			if err != nil {
				t.Error(err)
			}
			return
		case <-time.After(20 * time.Second):
			t.Fatal("it waits on although there is room")
		}
	}
}

// TestJournalEntries: values of several lines have their length before them, and a long entry goes as a file.
func TestJournalEntries(t *testing.T) {
	r := newReceiver(t)
	log := slog.New(&journalHandler{level: slog.LevelInfo, fallback: slog.NewTextHandler(io.Discard, nil), journal: newSender(r.path)})
	log.Error("bad", "error", "a\nb")
	log.Error("long", "error", strings.Repeat("0123456789", 100_000))
	got := r.entries()
	if len(got) != 2 || !strings.Contains(got[0], "ERROR\n\x03\x00\x00\x00\x00\x00\x00\x00a\nb\n") ||
		!strings.Contains(got[0], "PRIORITY=3\n") || !strings.Contains(got[0], "SYSLOG_IDENTIFIER=gateway\n") {
		t.Fatalf("the journal has %.1000q", got)
	}
	if want := "ERROR=" + strings.Repeat("0123456789", 100_000) + "\n"; !strings.Contains(got[1], want) {
		t.Errorf("of a long one the journal has %d bytes", len(got[1]))
	}
}
