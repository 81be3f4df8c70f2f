package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Options says whom to ask, and how hard. Only URL must be set.
type Options struct {
	// URL is what each request GETs. Redirects are not followed: their status counts.
	URL string
	// Dial opens the connections; nil is a net.Dialer's DialContext.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Loops is how many requests are under way at once; 0 is 4.
	Loops int
	// Limit is after how long a request counts as hung; 0 is 10 s.
	Limit time.Duration
	// Pause is how long each loop rests between two requests, so that refused ones do not spin; 0 is 5 ms.
	Pause time.Duration
	// Answered, if set, gets the body of each answer with 200 (at most 1 KiB), from the loops' goroutines.
	Answered func(body string)
}

// Load is a client at work.
type Load struct {
	opts   Options
	client *http.Client
	cancel context.CancelFunc
	loops  sync.WaitGroup
	ended  chan struct{} // closed when no loop runs any more

	mu      sync.Mutex
	report  Report
	start   time.Time
	lastOK  time.Time
	changed chan struct{} // closed, and replaced, at each request's end
}

// Start sends requests until Stop or until ctx ends. Either lets the requests under way come to their own end, which takes
// up to Options.Limit: a request broken off would count as nothing.
func Start(ctx context.Context, opts Options) *Load {
	if opts.Dial == nil {
		opts.Dial = (&net.Dialer{}).DialContext
	}
	if opts.Loops == 0 {
		opts.Loops = 4
	}
	if opts.Limit == 0 {
		opts.Limit = 10 * time.Second
	}
	if opts.Pause == 0 {
		opts.Pause = 5 * time.Millisecond
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &Load{
		opts: opts,
		client: &http.Client{
			// With keep-alives a request would fail, or be repeated unseen, on a connection of the server's earlier life.
			Transport:     &http.Transport{DialContext: opts.Dial, DisableKeepAlives: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		cancel:  cancel,
		ended:   make(chan struct{}),
		report:  Report{Status: map[int]int{}, Other: map[string]int{}},
		start:   time.Now(),
		changed: make(chan struct{}),
	}
	l.lastOK = l.start
	l.report.Clients = make([]Client, opts.Loops)
	for n := range opts.Loops {
		l.loops.Go(func() { l.loop(ctx, &l.report.Clients[n]) })
	}
	go func() {
		l.loops.Wait()
		close(l.ended)
	}()
	return l
}

// Stop ends the load and returns what has become of every request.
func (l *Load) Stop() Report {
	l.cancel()
	<-l.ended
	return l.Report()
}

// Report is what has become of the requests that have ended so far.
func (l *Load) Report() Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.report
	r.Status, r.Other, r.Clients = maps.Clone(r.Status), maps.Clone(r.Other), slices.Clone(r.Clients)
	return r
}

// WaitOK returns when n more requests have been answered with 200 than at the call: so the client was, and is, at work.
// The error, when ctx or the load ends before, tells the report.
func (l *Load) WaitOK(ctx context.Context, n int) error {
	want := l.Report().OK + n
	return l.wait(ctx, func(r Report) (missing int) { return want - r.OK })
}

// WaitEach returns when each client has an answer with 200 to a request that it has begun since: so whatever has become of those of
// before is counted.
func (l *Load) WaitEach(ctx context.Context) error {
	before := l.Report().Clients
	return l.wait(ctx, func(r Report) (missing int) {
		for n, client := range r.Clients {
			missing += max(0, before[n].OK+2-client.OK) // the first one may have been under way
		}
		return missing
	})
}

// wait returns when no answer is missing any more.
func (l *Load) wait(ctx context.Context, missing func(Report) int) error {
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		if missing(l.Report()) <= 0 {
			return nil
		}
		var err error
		select {
		case <-changed:
			continue
		case <-l.ended:
			err = errors.New("the load has ended")
		case <-ctx.Done():
			err = ctx.Err()
		}
		// What came at the same moment counts.
		report := l.Report()
		if n := missing(report); n > 0 {
			return fmt.Errorf("%d further answers are missing: %w: %s", n, err, report)
		}
		return nil
	}
}

func (l *Load) loop(ctx context.Context, client *Client) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		// With both ready, select may take the timer.
		if ctx.Err() != nil {
			return
		}
		start := time.Now()
		status, body, err := l.get()
		l.count(client, status, err, time.Since(start))
		if err == nil && status == http.StatusOK && l.opts.Answered != nil {
			l.opts.Answered(body)
		}
		pause.Reset(l.opts.Pause)
	}
}

// get sends one request and reads the whole answer, of which it returns the beginning.
func (l *Load) get() (status int, body string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), l.opts.Limit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.opts.URL, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := l.client.Do(request)
	if err == nil {
		defer response.Body.Close()
		status = response.StatusCode
		var beginning []byte
		if beginning, err = io.ReadAll(io.LimitReader(response.Body, 1024)); err == nil {
			_, err = io.Copy(io.Discard, response.Body)
		}
		body = string(beginning)
	}
	// The transport may report the broken connection instead of the reason why it broke it.
	if err != nil && ctx.Err() != nil {
		return 0, "", ctx.Err()
	}
	return status, body, err
}

func (l *Load) count(client *Client, status int, err error, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.report
	r.Requests++
	if err == nil && status == http.StatusOK {
		client.OK++
	} else {
		client.Lost++
	}
	r.LongestWait = max(r.LongestWait, took)
	r.Elapsed = time.Since(l.start)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		r.Refused++
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		r.Reset++
	case errors.Is(err, context.DeadlineExceeded):
		r.Hung++
	case err != nil:
		r.Other[innermost(err)]++
	case status == http.StatusOK:
		r.OK++
		r.LongestOK = max(r.LongestOK, took)
		now := time.Now()
		r.LongestSilence = max(r.LongestSilence, now.Sub(l.lastOK))
		l.lastOK = now
	default:
		r.Status[status]++
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// innermost leaves out the addresses that the errors around it tell: they have another port each time.
func innermost(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
