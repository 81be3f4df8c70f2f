package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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

// restartsOf is what the clients of one system have seen over all its runs.
type restartsOf struct {
	restarts, requests int
	waits, silences    samples        // the longest of each run
	lost               map[string]int // by what happened to them
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

// measureRestarts runs every system rounds times, in turns, and restarts each one under load.
func measureRestarts(b testing.TB, systems []system, rounds, times int) (results map[string]*restartsOf, versions map[string]string, broken map[string]error) {
	m := boot(b, machine.Options{})
	versions, broken = installAll(b, m, systems)
	results = map[string]*restartsOf{}
	for _, s := range systems {
		results[s.name] = &restartsOf{}
	}
	for round := range rounds {
		for _, s := range systems {
			if broken[s.name] != nil {
				continue
			}
			report, done, err := restartUnderLoad(b, m, s, times)
			progress("%s, run %d: %d restarts, %s", s.name, round+1, done, report)
			if done > 0 {
				results[s.name].add(report, done)
			}
			if err != nil {
				broken[s.name] = err
				progress("%s: %v", s.name, err)
			}
		}
	}
	return results, versions, broken
}

// restartUnderLoad returns what the clients have seen, and how many restarts were done.
func restartUnderLoad(b testing.TB, m *machine.Machine, s system, times int) (report load.Report, done int, err error) {
	ctx, cancel := context.WithTimeout(b.Context(), 2*restartBound)
	defer cancel()
	defer func() { err = errors.Join(err, s.stop(m)) }()
	worker, err := s.start(ctx, m)
	if err != nil {
		return report, 0, err
	}
	answers := make(chan int, 1)
	l := load.Start(b.Context(), load.Options{URL: "http://" + s.address + "/", Dial: m.DialContext, Answered: func(body string) {
		if pid, err := workerPID(body); err == nil {
			select {
			case answers <- pid:
			default: // nobody waits for it
			}
		}
	}})
	for done < times && err == nil {
		if worker, err = s.next(b, m, l, worker, answers); err == nil {
			done++
		}
	}
	return l.Stop(), done, err
}

// next restarts the system, and returns when the old worker has ended, another one has answered, and clients are served.
func (s system) next(b testing.TB, m *machine.Machine, l *load.Load, worker int, answers <-chan int) (int, error) {
	ctx, cancel := context.WithTimeout(b.Context(), restartBound)
	defer cancel()
	pidfd, err := openWorker(b, m, worker)
	if err != nil {
		return 0, err
	}
	defer unix.Close(pidfd)
	if err := l.WaitOK(ctx, 20); err != nil {
		return 0, err
	}
	if _, err := m.Output(s.restart[0], s.restart[1:]...); err != nil {
		return 0, err
	}
	if err := awaitEnd(ctx, pidfd); err != nil {
		return 0, fmt.Errorf("wait for the end of worker %d: %w", worker, err)
	}
	for next := worker; ; {
		select {
		case next = <-answers:
		case <-ctx.Done():
			return 0, fmt.Errorf("no other worker has answered: %w", ctx.Err())
		}
		if next != worker {
			return next, l.WaitOK(ctx, 20)
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

// restarts is the part of the report about restarts under load.
func restarts(b *testing.B, r *report) {
	const rounds, times = 3, 5
	systems := all(bootMS)
	results, versions, broken := measureRestarts(b, systems, rounds, times)
	table := table{
		title: "Restarts under load",
		text: fmt.Sprintf("%d restarts in each of %d runs, in turns; the worker takes %d ms to boot, and answers what it has accepted before it ends. "+
			"Four clients at a time open a new connection for each request, and give up after 10 s. The longest wait is that of any client; the "+
			"longest silence is the time in which nobody was answered.", times, rounds, bootMS),
		head: []string{"system", "longest wait against the socket unit's", "longest wait", "longest silence", "clients lost", "requests", "restarts"},
	}
	reference := results[plainSocket(bootMS).name].waits.median()
	for _, s := range systems {
		result := results[s.name]
		err := broken[s.name]
		bar := bar{name: s.name, wait: result.waits.median(), worst: result.waits.worst(), lost: result.allLost()}
		row := []string{s.label(versions), "–", "–", "–", "–", "–", "0"}
		if result.restarts > 0 {
			row = []string{
				s.label(versions), ratio(result.waits.median(), reference), result.waits.String(), result.silences.String(),
				losses(result.lost), fmt.Sprint(result.requests), fmt.Sprint(result.restarts),
			}
		}
		if err != nil {
			row[len(row)-1] += "; then it failed: " + reason(err)
			bar.failed = reason(err)
		}
		table.rows = append(table.rows, row)
		r.bars = append(r.bars, bar)
	}
	r.tables = append(r.tables, table)
	us := results[systems[0].name]
	r.aims = append(r.aims, aim{
		what: "longest wait in a restart under load", ratio: ratio(us.waits.median(), reference),
		ours: us.waits.String() + "; lost: " + losses(us.lost),
		than: "systemd socket unit: " + results[plainSocket(bootMS).name].waits.String(), want: "nobody lost",
	})
	if err := broken[systems[0].name]; err != nil {
		b.Error(err)
	}
}
