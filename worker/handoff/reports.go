package handoff

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
)

// Event is what a worker did with a listening address.
type Event string

// The events that a report can tell of.
const (
	Listening Event = "listening" // it listens; Held says whether on a socket of the launcher's
	Closed    Event = "closed"    // it has stopped listening on a socket of the launcher's
	Failed    Event = "failed"    // it could not listen; Code says why
	Exhausted Event = "exhausted" // it has listened too often; only a new process can do so again
)

// Report is one event, as the preloaded script tells it.
type Report struct {
	Event   Event          `json:"event"`
	Address netip.AddrPort `json:"address"`
	// Held says that the address is one of the launcher's.
	Held bool `json:"held"`
	// Ephemeral says that the worker left the choice of the port to the kernel.
	Ephemeral bool `json:"ephemeral"`
	// Code is the system's name for the error, EADDRINUSE for one.
	Code string `json:"code"`
}

// Reports is the launcher's end of the pipe on which a worker reports.
type Reports struct {
	file    *os.File
	scanner *bufio.Scanner
}

func newReports(file *os.File) *Reports {
	return &Reports{file: file, scanner: bufio.NewScanner(file)}
}

// Next waits for the next report. It returns io.EOF when nobody can report any
// more; any other error is a worker that talks nonsense.
func (r *Reports) Next() (Report, error) {
	if !r.scanner.Scan() {
		if err := r.scanner.Err(); err != nil {
			return Report{}, fmt.Errorf("read what the worker listens on: %w", err)
		}
		return Report{}, io.EOF
	}
	var report Report
	if err := json.Unmarshal(r.scanner.Bytes(), &report); err != nil {
		return Report{}, fmt.Errorf("read what the worker listens on: %w", err)
	}
	return report, nil
}

// Close ends a Next that waits.
func (r *Reports) Close() error { return r.file.Close() }
