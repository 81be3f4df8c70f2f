package handoff

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Event is what a worker did with a listening address.
type Event string

// The events that a report can tell of.
const (
	Listening Event = "listening" // it listens; Held says whether on a socket of the launcher's
	Closed    Event = "closed"    // it has stopped listening on a socket of the launcher's
	Failed    Event = "failed"    // it could not listen; Code says why
	Exhausted Event = "exhausted" // it has listened too often; only a new process can do so again
	Loaded    Event = "loaded"    // it is Node.js, and will tell
	Runtime   Event = "runtime"   // which Node.js runs an OpenClaw, and which that needs
)

// Report is one event, as the preloaded script tells it.
type Report struct {
	Event   Event          `json:"event"`
	Address netip.AddrPort `json:"address"`
	// Held says that the address is one of the launcher's.
	Held bool `json:"held"`
	// Narrow says that the worker asked for IPv4 clients as well, which the address does not take.
	Narrow bool `json:"narrow"`
	// Ephemeral says that the worker left the choice of the port to the kernel.
	Ephemeral bool `json:"ephemeral"`
	// Code is the system's name for the error, EADDRINUSE for one.
	Code string `json:"code"`

	// Of Runtime.
	Program string `json:"program"` // of Node.js
	Version string `json:"version"` // 24.21.0
	Needs   string `json:"needs"`   // the versions of Node.js that it runs on, as npm writes them: >=24.16.0 <25
	OpenClaw
}

// OpenClaw is which OpenClaw a worker runs; zero where that is not known.
type OpenClaw struct {
	Release string `json:"openclaw"` // 2026.9.6
	Entry   string `json:"entry"`    // the file that was started, links on the way and all
}

// Unsuited says why the Node.js of a Runtime report is none that the program runs on; "" where it is one, or where that
// cannot be told.
func (r Report) Unsuited() string {
	if Suits(r.Version, r.Needs) {
		return ""
	}
	return fmt.Sprintf("%s is Node.js %s, and OpenClaw %s needs %s: name such a one in worker.command", r.Program, r.Version, r.Release, r.Needs)
}

// Suits reports whether a version of Node.js is in a range as npm writes it; true where one of them is unknown or is none.
func Suits(version, needs string) bool {
	// A nightly build counts as the release that it is on the way to.
	release, _, _ := strings.Cut(version, "-")
	is, err := semver.NewVersion(release)
	if err != nil {
		return true
	}
	suits, err := semver.NewConstraint(needs)
	return err != nil || suits.Check(is)
}

// Reports is the launcher's end of the pipe on which a worker reports.
type Reports struct {
	file  *os.File
	lines *bufio.Reader
}

func newReports(file *os.File) *Reports { return &Reports{file: file, lines: bufio.NewReader(file)} }

// Next waits for the next report. The error is io.EOF when nobody can report any more, and os.ErrClosed after Close; any other
// one wraps [ErrNonsense], and the next report may be a good one.
func (r *Reports) Next() (Report, error) {
	line, err := r.lines.ReadSlice('\n')
	tooLong := errors.Is(err, bufio.ErrBufferFull)
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = r.lines.ReadSlice('\n')
	}
	switch {
	case errors.Is(err, os.ErrClosed):
		return Report{}, os.ErrClosed
	case err != nil:
		return Report{}, io.EOF
	case tooLong:
		return Report{}, fmt.Errorf("%w: a line of more than %d bytes", ErrNonsense, r.lines.Size())
	}
	var report Report
	if err := json.Unmarshal(line, &report); err != nil {
		return Report{}, fmt.Errorf("%w: %.*q: %w", ErrNonsense, longestSaid, line, err)
	}
	return report, nil
}

// ErrNonsense says that a line is no report: a program can write to the descriptor what it likes.
var ErrNonsense = errors.New("read what the worker listens on")

// longestSaid is how many characters of such a line are told.
const longestSaid = 200

// Close ends a Next that waits.
func (r *Reports) Close() error { return r.file.Close() }
