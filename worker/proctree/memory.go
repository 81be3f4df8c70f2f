package proctree

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// What a process was started with is in its memory, and while the kernel holds the lock on that (mmap_lock) for a read from a file
// system of the process's own (FUSE), whoever else looks waits, as ps(1) does. So the answer is given up after a while; the
// thread stays until the kernel lets it go, and as long as it does, that process is not asked anew.
const (
	memoryLimit   = 500 * time.Millisecond // for the first; half of it for the next, so that all together cost little more than two
	memoryThreads = 1000                   // of the 10,000 that the Go runtime may have
)

var (
	waiting  sync.Map // pid: chan memory, which will have the answer
	waitings atomic.Int64
)

type memory struct {
	content []byte
	err     error
}

// head returns the beginning of one of a process's files that show its memory. The error is os.ErrDeadlineExceeded where the
// kernel does not answer.
func head(pid int, name string, limit int64) ([]byte, error) {
	return inTime(pid, func() ([]byte, error) {
		content, err := os.Open(file(pid, name))
		if err != nil {
			return nil, err
		}
		defer content.Close()
		return io.ReadAll(io.LimitReader(content, limit))
	})
}

func inTime(pid int, look func() ([]byte, error)) ([]byte, error) {
	late := fmt.Errorf("the memory of process %d: %w", pid, os.ErrDeadlineExceeded)
	n := waitings.Load()
	if _, already := waiting.Load(pid); already || n >= memoryThreads {
		return nil, late
	}
	answer := make(chan memory, 1)
	go func() {
		content, err := look()
		answer <- memory{content, err}
		if waiting.CompareAndDelete(pid, answer) {
			waitings.Add(-1)
		}
	}()
	limit := time.NewTimer(memoryLimit >> min(n, 5))
	defer limit.Stop()
	select {
	case found := <-answer:
		return found.content, found.err
	case <-limit.C:
	}
	if _, other := waiting.LoadOrStore(pid, answer); !other {
		waitings.Add(1)
	}
	select { // it may have come before that was stored, and nobody else takes it out then
	case found := <-answer:
		if waiting.CompareAndDelete(pid, answer) {
			waitings.Add(-1)
		}
		return found.content, found.err
	default:
		return nil, late
	}
}
