package passed

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"
)

// read reads from a pipe until its end, and stands still where it is to.
func read(reader *os.File, pause *Pause, said chan<- byte) {
	defer pause.Leave()
	one := make([]byte, 1)
	for {
		_, err := reader.Read(one)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			pause.Point()
		case err != nil:
			return
		default:
			said <- one[0]
		}
	}
}

func TestPause(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	var pause Pause
	said := make(chan byte)
	go read(reader, &pause, said)
	interrupt := func() { _ = reader.SetReadDeadline(time.Unix(1, 0)) }

	_, _ = writer.Write([]byte{1})
	tired, cancel := context.WithCancelCause(t.Context())
	cancel(os.ErrProcessDone)
	if err := pause.Begin(tired, interrupt); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("one whose reader has something in hand began: %v", err)
	}
	_ = reader.SetReadDeadline(time.Time{})
	pause.End()
	if got := <-said; got != 1 {
		t.Errorf("read %d", got)
	}

	for range 3 {
		if err := pause.Begin(t.Context(), interrupt); err != nil {
			t.Fatal(err)
		}
		_, _ = writer.Write([]byte{2})
		select {
		case <-said:
			t.Error("it is read during the pause")
		default:
		}
		_ = reader.SetReadDeadline(time.Time{})
		pause.End()
		if got := <-said; got != 2 {
			t.Errorf("read %d", got)
		}
	}

	_ = writer.Close()
	if err := pause.Begin(t.Context(), interrupt); err != nil {
		t.Errorf("nobody reads any more: %v", err)
	}
	pause.End()
}
