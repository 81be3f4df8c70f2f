package logging

import (
	"bufio"
	"io"
	"log/slog"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestUnread: where nobody reads standard error, whoever logs does not wait, and the end of the process only so long; who reads in the end is
// told how much is lost.
func TestUnread(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			reader, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			defer writer.Close()
			log, flush := New(format, slog.LevelInfo, writer)
			const lines = 3 * queueLength // each of 100 bytes and more, for a pipe of 64 KiB
			done := make(chan struct{})
			go func() {
				defer close(done)
				with := log.With("with", strings.Repeat("x", 100))
				for n := range lines {
					with.Info("line", "number", n)
				}
				flush()
			}()
			select {
			case <-done:
			case <-time.After(20 * time.Second):
				t.Fatal("whoever logs waits for a reader")
			}
			var last string
			got := make(chan string, lines+1)
			go func() {
				defer close(got)
				for text := bufio.NewScanner(reader); text.Scan(); {
					got <- text.Text()
				}
			}()
			flush() // so there is room
			log.Warn("last")
			flush()
			if err := writer.Close(); err != nil {
				t.Fatal(err)
			}
			read, lost := 0, 0
			for line := range got {
				read++
				if told := regexp.MustCompile(`lines_lost_before"?[=:](\d+)`).FindStringSubmatch(line); told != nil {
					n, err := strconv.Atoi(told[1])
					if err != nil {
						t.Fatal(err)
					}
					lost += n
				}
				last = line
			}
			if read <= queueLength || lost == 0 || read+lost != lines+1 || !strings.Contains(last, "last") {
				t.Errorf("of %d lines %d are read and %d lost, the last one is %s", lines+1, read, lost, last)
			}
		})
	}
}

// TestFlushed: what was logged before the end is written.
func TestFlushed(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	log, flush := New("text", slog.LevelInfo, writer)
	for range 100 {
		log.Info("one")
	}
	flush()
	writer.Close()
	if text, err := io.ReadAll(reader); err != nil || strings.Count(string(text), "msg=one\n") != 100 {
		t.Errorf("%v:\n%s", err, text)
	}
}
