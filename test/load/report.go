package load

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Report counts what has become of each request. The counts add up to Requests.
type Report struct {
	Requests int
	OK       int            // answered with 200
	Status   map[int]int    // answered with another status
	Refused  int            // ECONNREFUSED
	Reset    int            // ECONNRESET or EPIPE, connecting or later
	Hung     int            // no complete answer within the limit
	Other    map[string]int // another error, by its innermost text; "EOF" is a connection closed before the answer

	Clients []Client // what each of them has had

	Elapsed     time.Duration // from Start until the last request's end
	LongestOK   time.Duration // the longest that a request answered with 200 has taken
	LongestWait time.Duration // the longest that any request has taken
	// The longest time from one answer with 200, or from Start, to the next. With refused clients it is the outage, which
	// the longest wait is not.
	LongestSilence time.Duration
}

// Client is one of those that ask at the same time, each for one thing after the other.
type Client struct {
	OK   int // answered with 200
	Lost int // not
}

// Lost is the number of requests that were not answered with 200.
func (r Report) Lost() int { return r.Requests - r.OK }

// String is the report in one paragraph.
func (r Report) String() string {
	parts := []string{fmt.Sprintf("%d ok (200)", r.OK)}
	for _, status := range slices.Sorted(maps.Keys(r.Status)) {
		parts = append(parts, fmt.Sprintf("%d with status %d", r.Status[status], status))
	}
	parts = append(parts, fmt.Sprintf("%d refused", r.Refused), fmt.Sprintf("%d reset", r.Reset), fmt.Sprintf("%d hung", r.Hung))
	for _, text := range slices.Sorted(maps.Keys(r.Other)) {
		parts = append(parts, fmt.Sprintf("%d failed with %q", r.Other[text], text))
	}
	return fmt.Sprintf("%d requests in %v, each over a new connection: %s; the longest wait was %v, for a 200 %v.",
		r.Requests, r.Elapsed.Round(time.Millisecond), strings.Join(parts, ", "),
		r.LongestWait.Round(time.Millisecond), r.LongestOK.Round(time.Millisecond))
}
