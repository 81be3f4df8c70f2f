package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/sockets"
	"openclaw-gateway/test/wait"
	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/generation"
	"openclaw-gateway/worker/handoff"
)

// bound is how long a test waits for what has to happen.
const bound = 30 * time.Second

// quietRace keeps a program that is built with the race detector from sleeping
// for a second at its end.
const quietRace = "GORACE=atexit_sleep_ms=0"

// rig is a supervisor with sockets of its own, and what it says.
type rig struct {
	*recorder
	t          *testing.T
	spec       generation.Spec
	options    Options
	queues     *testQueues
	log        *lockedBuffer
	supervisor *Supervisor
	stop       context.CancelFunc
	hurry      chan struct{}
	done       chan struct{} // closed when Run has returned
	why        ends.Reason   // what it has returned
}

// newRig prepares a supervisor for a worker on one socket, with settings under
// which nothing happens by time alone.
func newRig(t *testing.T, command []string) *rig {
	t.Helper()
	sockets := []handoff.Socket{listen(t, "127.0.0.1")}
	r := &rig{
		recorder: newRecorder(), t: t, queues: &testQueues{sockets: sockets}, log: new(lockedBuffer),
		hurry: make(chan struct{}, 1), done: make(chan struct{}),
	}
	r.spec = generation.Spec{
		Sockets: sockets, Queues: r.queues, Command: command, Directory: t.TempDir(), Environment: []string{quietRace},
		Handoff: handoff.ListenFDs, Probe: generation.ProbeAdopted, ReadyTimeout: time.Hour,
		StopSignal: unix.SIGTERM, StopTimeout: time.Hour,
		Backoff: generation.Backoff{Min: time.Hour, Max: time.Hour, ResetAfter: time.Hour}, FatalExitCodes: []int{78},
	}
	r.options = Options{
		Options: generation.Options{
			Log:   slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			Place: func() (string, error) { return r.options.Directory, nil }, AnswerTimeout: 50 * time.Millisecond,
			ListensOn: func(int) []netaddr.Address { return nil }, Serving: func([]int) bool { return false }, Extended: func(time.Duration) {},
		},
		Directory: t.TempDir(), AtOnce: true, Observe: r.observe, Ended: func(ends.Exit) {},
	}
	return r
}

func (r *rig) run() {
	r.t.Helper()
	var ctx context.Context
	ctx, r.stop = context.WithCancel(context.Background())
	r.supervisor = New(r.spec, r.options)
	go func() {
		defer close(r.done)
		r.why = r.supervisor.Run(ctx, r.hurry)
	}()
	r.t.Cleanup(func() {
		r.stop()
		select {
		case r.hurry <- struct{}{}:
		default:
		}
		r.awaitEnd()
		if r.t.Failed() {
			r.t.Logf("statuses:\n%s\nlog:\n%s", r.recorder, r.log)
		}
	})
}

// held are the addresses of its sockets.
func (r *rig) held() []netaddr.Address {
	var held []netaddr.Address
	for _, socket := range r.spec.Sockets {
		held = append(held, socket.Address)
	}
	return held
}

func (r *rig) awaitEnd() {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(bound):
		r.t.Fatalf("Run has not returned after %s; statuses:\n%s\nlog:\n%s", bound, r.recorder, r.log)
	}
}

// await returns the next status that is in the state.
func (r *rig) await(state State) Status {
	r.t.Helper()
	return r.awaitThat(state.String(), func(s Status) bool { return s.State == state })
}

func (r *rig) awaitThat(what string, match func(Status) bool) Status {
	r.t.Helper()
	status, ok := r.next(match)
	if !ok {
		r.t.Fatalf("not %s within %s; statuses:\n%s\nlog:\n%s", what, bound, r.recorder, r.log)
	}
	return status
}

// outcome returns what a request led to.
func (r *rig) outcome(reply <-chan error) error {
	r.t.Helper()
	select {
	case err := <-reply:
		return err
	case <-time.After(bound):
		r.t.Fatalf("no outcome within %s; statuses:\n%s\nlog:\n%s", bound, r.recorder, r.log)
		return nil
	}
}

// want fails when err does not say all of the texts; without any, err must be nil.
func (r *rig) want(err error, texts ...string) {
	r.t.Helper()
	if len(texts) == 0 && err != nil {
		r.t.Errorf("outcome: %v", err)
	}
	for _, text := range texts {
		if err == nil || !strings.Contains(err.Error(), text) {
			r.t.Errorf("outcome %v, want %q in it", err, text)
		}
	}
}

// get asks the worker, on a connection of its own.
func (r *rig) get(path string) (string, error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.spec.Sockets[0].Address.String()+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Close = true
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return string(body), err
}

func (r *rig) wantAnswer(path, want string) {
	r.t.Helper()
	if got, err := r.get(path); err != nil || !strings.Contains(got, want) {
		r.t.Fatalf("GET %s: %q, %v; want %q in it; statuses:\n%s\nlog:\n%s", path, got, err, want, r.recorder, r.log)
	}
}

// exit makes the worker exit.
func (r *rig) exit(code int) {
	r.t.Helper()
	_, _ = r.get(fmt.Sprintf("/exit/%d", code)) // it cannot answer
}

// recorder keeps every status.
type recorder struct {
	mu     sync.Mutex
	seen   []Status
	looked int           // how many of them next has looked at
	more   chan struct{} // closed when there is another one
}

func newRecorder() *recorder { return &recorder{more: make(chan struct{})} }

func (r *recorder) observe(status Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, status)
	close(r.more)
	r.more = make(chan struct{})
}

// next waits for the next status that matches, after the one that it returned last.
func (r *recorder) next(match func(Status) bool) (Status, bool) {
	limit := time.After(bound)
	for {
		r.mu.Lock()
		for r.looked < len(r.seen) {
			status := r.seen[r.looked]
			r.looked++
			if match(status) {
				r.mu.Unlock()
				return status, true
			}
		}
		more := r.more
		r.mu.Unlock()
		select {
		case <-more:
		case <-limit:
			return Status{}, false
		}
	}
}

func (r *recorder) all() []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Status(nil), r.seen...)
}

// states returns the states in their order, one that repeats once.
func (r *recorder) states() []State {
	var states []State
	for _, status := range r.all() {
		if len(states) == 0 || states[len(states)-1] != status.State {
			states = append(states, status.State)
		}
	}
	return states
}

func (r *recorder) String() string {
	var text strings.Builder
	for _, s := range r.all() {
		fmt.Fprintf(&text, "%s generation=%d pid=%d failures=%d last_exit=%+v problem=%q\n",
			s.State, s.Generation, s.PID, s.Failures, s.LastExit, s.Problem)
	}
	return text.String()
}

// lockedBuffer is a log that can be read while it is written.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
	more   chan struct{} // closed when there is more; nil when nobody waits
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.more != nil {
		close(b.more)
		b.more = nil
	}
	return b.buffer.Write(p)
}

// awaitLog waits until the text is in the log.
func (r *rig) awaitLog(text string) {
	r.t.Helper()
	limit := time.After(bound)
	for {
		r.log.mu.Lock()
		if strings.Contains(r.log.buffer.String(), text) {
			r.log.mu.Unlock()
			return
		}
		if r.log.more == nil {
			r.log.more = make(chan struct{})
		}
		more := r.log.more
		r.log.mu.Unlock()
		select {
		case <-more:
		case <-limit:
			r.t.Fatalf("not in the log within %s: %s; statuses:\n%s\nlog:\n%s", bound, text, r.recorder, r.log)
		}
	}
}

// letTimePass makes a generation believe that the timer of its state has fired, when
// the worker is where a test wants it; generation 0 is the supervisor.
func (r *rig) letTimePass(of int) {
	r.supervisor.around.Events <- generation.Event{Kind: generation.TimeUp, Generation: of}
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// listen holds a socket as systemd would.
func listen(t *testing.T, host string) handoff.Socket {
	t.Helper()
	held := sockets.Hold(t, host)[0]
	return handoff.Socket{File: held.File, Address: held.Address}
}

// queued returns how many connections wait to be accepted.
func queued(t *testing.T, socket handoff.Socket) int {
	t.Helper()
	queued, _ := sockets.Queue(t, socket.File)
	return queued
}

// testQueues is a holder that knows how often it was asked.
type testQueues struct {
	sockets []handoff.Socket
	// fail, where set, is what AwaitClient and Restore return.
	failAwait, failRestore error

	// idle is what AwaitIdle waits for; asked is told for how long it was asked to
	// wait, and whose connections not to count. nil: it fails.
	idle  chan struct{}
	asked chan idleAsked
	// stalls is where AwaitStall hears of a client that waits too long, and reliefs AwaitRelief that none does. nil: it fails.
	stalls, reliefs chan netaddr.Address

	absent []netaddr.Address // what this machine is said not to have

	mu                sync.Mutex
	restored, listens int
}

type idleAsked struct {
	idle time.Duration
	own  []netaddr.Address
}

func (q *testQueues) AwaitClient(ctx context.Context) error {
	if q.failAwait != nil {
		return q.failAwait
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	defer unix.Close(pipe[0])
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		unix.Close(pipe[1])
		close(closed)
	})
	defer func() {
		if stop() {
			unix.Close(pipe[1])
		} else {
			<-closed
		}
	}()
	polled := []unix.PollFd{{Fd: int32(pipe[0]), Events: unix.POLLIN}}
	for _, socket := range q.sockets {
		polled = append(polled, unix.PollFd{Fd: int32(socket.File.Fd()), Events: unix.POLLIN})
	}
	for {
		_, err := unix.Poll(polled, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		return ctx.Err()
	}
}

func (q *testQueues) AwaitIdle(ctx context.Context, idle time.Duration, own []netaddr.Address) error {
	if q.idle == nil {
		return errors.New("nothing can be seen")
	}
	q.asked <- idleAsked{idle, own}
	select {
	case <-q.idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (q *testQueues) AwaitStall(ctx context.Context, limit time.Duration) (netaddr.Address, time.Time, error) {
	if q.stalls == nil {
		return netaddr.Address{}, time.Time{}, errors.New("nothing can be seen")
	}
	select {
	case address := <-q.stalls:
		return address, time.Now().Add(-limit), nil
	case <-ctx.Done():
		return netaddr.Address{}, time.Time{}, ctx.Err()
	}
}

func (q *testQueues) AwaitRelief(ctx context.Context, _ time.Duration) error {
	select {
	case <-q.reliefs:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (q *testQueues) Queued() (int, error) {
	total := 0
	for _, socket := range q.sockets {
		info, err := unix.GetsockoptTCPInfo(int(socket.File.Fd()), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return 0, err
		}
		total += int(info.Unacked)
	}
	return total, nil
}

func (q *testQueues) Unaccepted(server, client netaddr.Address) (bool, error) {
	return sockets.Unaccepted(server, client)
}

func (q *testQueues) Restore() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.failRestore != nil {
		return q.failRestore
	}
	q.restored++
	var err error
	for _, socket := range q.sockets {
		err = errors.Join(err, unix.SetNonblock(int(socket.File.Fd()), false))
	}
	return err
}

func (q *testQueues) Listen() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.listens++
	var err error
	for _, socket := range q.sockets {
		err = errors.Join(err, unix.Listen(int(socket.File.Fd()), 128))
	}
	return err
}

func (q *testQueues) QueuedOn(netaddr.Address) (int, error) { return q.Queued() }

func (q *testQueues) Reach(address netaddr.Address) (netaddr.Address, bool) {
	return address, !q.Absent(address)
}

func (q *testQueues) Absent(address netaddr.Address) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Contains(q.absent, address)
}

// leave has the machine be without these addresses from now on.
func (q *testQueues) leave(addresses ...netaddr.Address) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.absent = addresses
}

func (*testQueues) Displaced(netaddr.Address) bool { return false }

// Discard is the holder's business, and tested there.
func (q *testQueues) Discard(_, _ netaddr.Address) error { return nil }

func (q *testQueues) counts() (restored, listens int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.restored, q.listens
}

// fifo makes a named pipe, at which a program waits or on which it tells.
func fifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// open lets the program that waits at the gate pass. It returns when the program
// has been there.
func open(t *testing.T, gate string) {
	t.Helper()
	within(t, "a program waits at the gate", func() error { return os.WriteFile(gate, nil, 0) })
}

// hear returns what a program tells.
func hear(t *testing.T, path string) string {
	t.Helper()
	var said []byte
	within(t, "a program tells something", func() (err error) {
		said, err = os.ReadFile(path)
		return err
	})
	return string(said)
}

func within(t *testing.T, what string, do func() error) {
	t.Helper()
	wait.Within(t, bound, what, do)
}
