package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
)

const (
	bootMS = 300
	// restartBound is for one restart of the small worker; a system that needs longer has failed.
	restartBound = 40 * time.Second
)

// trial is what systems are put through, in turns, under load: in each of their runs so many restarts, each of them beside an open
// stream, or so many crashes.
type trial struct {
	rounds, times int
	stream, crash bool
}

// restartsOf is what the clients of one system have seen over all its runs.
type restartsOf struct {
	restarts, requests int
	waits, silences    samples        // the longest of each run
	answers            samples        // from each restart, or crash, to the first answer of the next worker
	lost               map[string]int // by what happened to them
	streams            int            // that broke off
}

func (r restartsOf) allLost() (sum int) {
	for n := range maps.Values(r.lost) {
		sum += n
	}
	return sum
}

// losses says what happened to those who were lost.
func losses(lost map[string]int) string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(lost)) {
		if lost[what] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", lost[what], what))
		}
	}
	if len(parts) == 0 {
		return "0"
	}
	return strings.Join(parts, ", ")
}

func (r *restartsOf) add(report load.Report, restarts int) {
	r.restarts += restarts
	r.requests += report.Requests
	r.waits = append(r.waits, report.LongestWait)
	r.silences = append(r.silences, report.LongestSilence)
	if r.lost == nil {
		r.lost = map[string]int{}
	}
	r.lost["refused"] += report.Refused
	r.lost["reset"] += report.Reset
	r.lost["hung"] += report.Hung
	for status, n := range report.Status {
		r.lost[fmt.Sprintf("with status %d", status)] += n
	}
	for text, n := range report.Other {
		r.lost[text] += n
	}
}

// measure puts every system through the trial.
func (t trial) measure(b testing.TB, m *machine.Machine, systems []system) (results map[string]*restartsOf, versions map[string]string, broken map[string]error) {
	versions, broken = installAll(b, m, systems)
	results = map[string]*restartsOf{}
	for _, s := range systems {
		results[s.name] = &restartsOf{}
	}
	for round := range t.rounds {
		for _, s := range systems {
			if broken[s.name] != nil {
				continue
			}
			if err := t.run(b, m, s, results[s.name], round+1); err != nil {
				broken[s.name] = err
				progress("%s: %v", s.name, err)
			}
		}
	}
	return results, versions, broken
}

// run puts a system through the trial once, and adds what was seen to the result.
func (t trial) run(b testing.TB, m *machine.Machine, s system, result *restartsOf, round int) (err error) {
	defer func() { err = errors.Join(err, s.stop(m)) }()
	run, worker, err := t.begin(b, m, s, result)
	if err != nil {
		return err
	}
	done := 0
	for done < t.times && err == nil {
		if worker, err = run.next(b, worker); err == nil {
			done++
		}
	}
	report := run.load.Stop()
	progress("%s, run %d: %d times, %s", s.name, round, done, report)
	if done > 0 {
		result.add(report, done)
	}
	return err
}

// begin starts a system, and then the load.
func (t trial) begin(b testing.TB, m *machine.Machine, s system, result *restartsOf) (run *running, worker int, err error) {
	ctx, cancel := context.WithTimeout(b.Context(), restartBound)
	defer cancel()
	if worker, err = s.start(ctx, m); err != nil {
		return nil, 0, err
	}
	run = &running{trial: t, system: s, m: m, result: result, seen: seen{first: map[int]time.Time{}, changed: make(chan struct{}, 1)}}
	run.load = load.Start(b.Context(), load.Options{URL: "http://" + s.address + "/", Dial: m.DialContext, Answered: run.seen.note})
	return run, worker, nil
}

// running is a system under load.
type running struct {
	trial
	system
	m      *machine.Machine
	load   *load.Load
	seen   seen
	result *restartsOf
}

// next ends the worker, and returns when it has ended, another one has answered, and clients are served.
func (r *running) next(b testing.TB, worker int) (pid int, err error) {
	ctx, cancel := context.WithTimeout(b.Context(), restartBound)
	defer cancel()
	pidfd, err := openWorker(b, r.m, worker)
	if err != nil {
		return 0, err
	}
	defer unix.Close(pidfd)
	if r.crash {
		if err := r.rest(ctx, r.m); err != nil {
			return 0, err
		}
	}
	if err := r.load.WaitOK(ctx, 20); err != nil {
		return 0, err
	}
	var stream <-chan error
	if r.stream {
		if stream, err = openStream(ctx, r.m, r.address); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	if r.crash {
		err = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
	} else {
		_, err = r.m.Output(r.restart[0], r.restart[1:]...)
	}
	if err == nil {
		err = awaitEnd(ctx, pidfd)
	}
	if err != nil {
		return 0, fmt.Errorf("end worker %d: %w", worker, err)
	}
	pid, first, err := r.seen.other(ctx, worker, start)
	if err != nil {
		return 0, err
	}
	r.result.answers = append(r.result.answers, first.Sub(start))
	if r.stream && <-stream != nil {
		r.result.streams++
	}
	return pid, r.load.WaitOK(ctx, 20)
}

// seen is who has answered, and when first.
type seen struct {
	mu      sync.Mutex
	first   map[int]time.Time
	changed chan struct{} // has room for one
}

func (s *seen) note(body string) {
	pid, err := workerPID(body)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.first[pid]; known {
		return
	}
	s.first[pid] = time.Now()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// other waits for the first answer of another worker, after start.
func (s *seen) other(ctx context.Context, worker int, start time.Time) (pid int, first time.Time, err error) {
	for {
		s.mu.Lock()
		for pid, first := range s.first {
			if pid != worker && first.After(start) {
				s.mu.Unlock()
				return pid, first, nil
			}
		}
		s.mu.Unlock()
		select {
		case <-s.changed:
		case <-ctx.Done():
			return 0, time.Time{}, fmt.Errorf("no other worker has answered: %w", ctx.Err())
		}
	}
}

// openWorker returns a pidfd of a process by the machine's pid.
func openWorker(b testing.TB, m *machine.Machine, pid int) (pidfd int, err error) {
	for _, p := range m.Processes(b) {
		if p.PID == pid {
			return unix.PidfdOpen(p.HostPID, 0)
		}
	}
	return 0, fmt.Errorf("worker %d answers and is not there", pid)
}

// awaitEnd waits until a process has ended: pidfd_open(2), its descriptor is readable then.
func awaitEnd(ctx context.Context, pidfd int) error {
	deadline, _ := ctx.Deadline()
	for {
		left := max(0, time.Until(deadline))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(left.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n == 0:
			return context.DeadlineExceeded
		default:
			return nil
		}
	}
}
