package handoff

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
)

// TestManyReports: what a worker writes besides waits until it is heard, and not in the launcher's memory.
func TestManyReports(t *testing.T) {
	t.Parallel()
	const many = 20_000
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	told, s := newReports(reader), newSight()
	defer told.Close()
	go func() {
		_, err := writer.Write(bytes.Repeat([]byte(`{"event":"listening","address":"127.0.0.1:1"}`+"\n"), many))
		if err := errors.Join(err, writer.Close()); err != nil {
			t.Error(err)
		}
	}()
	go s.pass(told)
	s.mu.Lock()
	for len(s.reports) < mostUnheard {
		s.changed.Wait()
	}
	s.mu.Unlock()
	for n := 0; ; n++ {
		s.mu.Lock()
		waiting := len(s.reports)
		s.mu.Unlock()
		if waiting > mostUnheard {
			t.Fatalf("%d reports wait, want %d at the most", waiting, mostUnheard)
		}
		if _, err := s.next(); err != nil {
			if !errors.Is(err, io.EOF) || n != many {
				t.Errorf("heard %d reports of %d, then: %v", n, many, err)
			}
			return
		}
	}
}

// TestUnheardReports: the end does not wait for who has more to say.
func TestUnheardReports(t *testing.T) {
	t.Parallel()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	told, s := newReports(reader), newSight()
	defer told.Close()
	go func() {
		for err == nil {
			_, err = writer.WriteString(`{"event":"listening","address":"127.0.0.1:1"}` + "\n")
		}
	}()
	passed := make(chan struct{})
	go func() {
		s.pass(told)
		close(passed)
	}()
	s.mu.Lock()
	for len(s.reports) < mostUnheard {
		s.changed.Wait()
	}
	s.mu.Unlock()
	s.close()
	_ = told.Close()
	<-passed
}
