package handoff

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"deps.dev/util/semver"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/passed"
)

// Event is what a worker did with a listening address.
type Event string

// The events that a report can tell of.
const (
	Listening Event = "listening" // it listens; Held says whether on a socket of the launcher's
	Closed    Event = "closed"    // it has stopped listening there
	Failed    Event = "failed"    // it could not listen; Code says why
	Arrived   Event = "arrived"   // it wants to listen on the address, and waits at the gate
	Exhausted Event = "exhausted" // it has listened too often; only a new process can do so again
	Loaded    Event = "loaded"    // it is Node.js, and will tell
	Cache     Event = "cache"     // where it keeps what it has compiled
	Runtime   Event = "runtime"   // which Node.js runs an OpenClaw, and which that needs

	// Of Intercept.
	Unseen       Event = "unseen"       // somebody cannot be looked into, and gets no socket; Detail says who and why
	NoPrivileges Event = "noprivileges" // no_new_privs was set for the filter
	Unfiltered   Event = "unfiltered"   // the worker has been started without the filter; Detail says why
	Unprivileged Event = "unprivileged" // the same, where it was not to cost anything
)

// Report is one event, as the preloaded script tells it.
type Report struct {
	Event   Event           `json:"event"`
	Address netaddr.Address `json:"address"`
	// Held says that the address is one of the launcher's.
	Held bool `json:"held"`
	// Narrow says that the worker asked for IPv4 clients as well, which the address does not take.
	Narrow bool `json:"narrow"`
	// Ephemeral says that the worker left the choice of the port to the kernel.
	Ephemeral bool `json:"ephemeral"`
	// Code is the system's name for the error, EADDRINUSE for one.
	Code string `json:"code"`

	// Of Cache.
	Directory string `json:"directory"` // of this Node.js alone
	Filled    bool   `json:"filled"`    // something of an earlier life is in it

	Detail string `json:"-"` // for people; never the worker's own words
	Bound  bool   `json:"-"` // the kernel has told of it, and not the worker
	V6Only bool   `json:"-"` // of Failed: it has asked for IPv6 clients alone, as far as is known

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
	if _, err := semver.NPM.Parse(release); err != nil {
		return true
	}
	suits, err := semver.NPM.ParseConstraint(needs)
	return err != nil || suits.Match(release)
}

// Reports is what a worker is known to do: the launcher's end of the pipe on which it reports, or what the launcher itself sees.
type Reports struct {
	file  *os.File
	lines *bufio.Reader
	begun []byte // of a line that has been read in part
	pause passed.Pause
	seen  *sight // nil: there is a pipe
}

func newReports(file *os.File) *Reports { return &Reports{file: file, lines: bufio.NewReader(file)} }

// Next waits for the next report. The error is io.EOF when nobody can report any more, and os.ErrClosed after Close; any other
// one wraps [ErrNonsense], and the next report may be a good one.
func (r *Reports) Next() (Report, error) {
	if r.seen != nil {
		return r.seen.next()
	}
	line, tooLong, err := r.readLine()
	switch {
	case err != nil:
		r.pause.Leave()
		if errors.Is(err, os.ErrClosed) {
			return Report{}, os.ErrClosed
		}
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

// readLine reads one line, of which no more than fits is kept. It stands still where it is to, with what it has of one.
func (r *Reports) readLine() (line []byte, tooLong bool, err error) {
	for {
		part, err := r.lines.ReadSlice('\n')
		if len(r.begun)+len(part) > r.lines.Size() {
			tooLong, part = true, nil
		}
		r.begun = append(r.begun, part...)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			r.pause.Point()
		case errors.Is(err, bufio.ErrBufferFull):
		case err != nil:
			return nil, false, err
		default:
			line, r.begun = r.begun, nil
			return line, tooLong, nil
		}
	}
}

// ErrNonsense says that a line is no report: a program can write to the descriptor what it likes.
var ErrNonsense = errors.New("read what the worker listens on")

// longestSaid is how many characters of such a line are told.
const longestSaid = 200

// Close ends a Next that waits.
func (r *Reports) Close() error {
	if r.seen != nil {
		r.seen.close()
		return nil
	}
	return r.file.Close()
}
