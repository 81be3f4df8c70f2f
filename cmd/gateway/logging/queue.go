package logging

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"sync/atomic"
	"time"
)

const (
	// queueLength is how many lines may wait for whoever reads standard error. Nobody does while a terminal is held (Ctrl-S), or
	// behind a pipe whose reader hangs, which the worker may have filled as well.
	queueLength = 1000
	// flushLimit is how long the last of them may take.
	flushLimit = time.Second
)

// queue has lines written by a goroutine of its own, as a write may wait for ever: whoever logs must not. What has no room is lost.
type queue struct {
	lines chan line
	lost  atomic.Int64 // since the last one that had room
}

// line is one, or the wish to know that all before it are written.
type line struct {
	text    []byte
	written chan struct{}
}

func newQueue(out io.Writer) *queue {
	q := &queue{lines: make(chan line, queueLength)}
	go func() {
		for line := range q.lines {
			if line.written != nil {
				close(line.written)
				continue
			}
			_, _ = out.Write(line.text) // where it fails there is nobody to tell
		}
	}()
	return q
}

// Write takes a line.
func (q *queue) Write(text []byte) (int, error) {
	select {
	case q.lines <- line{text: bytes.Clone(text)}:
	default:
		q.lost.Add(1)
	}
	return len(text), nil
}

// flush returns when all lines are written, or nobody reads them.
func (q *queue) flush() {
	limit := time.NewTimer(flushLimit)
	defer limit.Stop()
	written := make(chan struct{})
	select {
	case q.lines <- line{written: written}:
	case <-limit.C:
		return
	}
	select {
	case <-written:
	case <-limit.C:
	}
}

// tellLost adds how many lines before this one are lost, if any are.
func tellLost(record slog.Record, lost int64) slog.Record {
	if lost > 0 {
		record = record.Clone()
		record.AddAttrs(slog.Int64("lines_lost_before", lost))
	}
	return record
}

// tallied tells with a line how many before it had no room in the queue to which its handler writes.
type tallied struct {
	slog.Handler
	queue *queue
}

func (t tallied) Handle(ctx context.Context, record slog.Record) error {
	lost := t.queue.lost.Load()
	err := t.Handler.Handle(ctx, tellLost(record, lost))
	if lost > 0 {
		t.queue.lost.CompareAndSwap(lost, 0) // else this one is lost as well
	}
	return err
}

func (t tallied) WithAttrs(attrs []slog.Attr) slog.Handler {
	return tallied{t.Handler.WithAttrs(attrs), t.queue}
}

func (t tallied) WithGroup(name string) slog.Handler {
	return tallied{t.Handler.WithGroup(name), t.queue}
}
