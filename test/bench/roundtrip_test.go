package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"openclaw-gateway/test/machine"
)

// roundTrips measures 64 bytes to the worker and back, over a connection that is open. Through HAProxy, for comparison,
// they pass another process.
func roundTrips(b *testing.B, r *report) {
	const (
		batches = 300
		size    = 200
	)
	unpin, err := pin()
	if err != nil {
		b.Fatal(err)
	}
	defer unpin()
	m := boot(b, machine.Options{})
	systems := []system{ours(0), direct(0), haproxy(0), intercepting(0)}
	versions, broken := installAll(b, m, systems)
	ctx, cancel := context.WithTimeout(b.Context(), 2*time.Minute)
	defer cancel()
	conns := make([]net.Conn, len(systems))
	for i, s := range systems {
		err := broken[s.name]
		if err == nil {
			_, err = s.start(ctx, m)
		}
		if err == nil {
			conns[i], err = echo(ctx, m, s.address)
		}
		if err != nil {
			broken[s.name] = err
			continue
		}
		defer conns[i].Close()
	}
	if err := errors.Join(broken[systems[0].name], broken[systems[1].name], broken[systems[3].name]); err != nil {
		b.Fatal(err)
	}
	medians := make([]samples, len(systems))
	const warmUp = 10 // batches, for the workers' code
	for batch := range warmUp + batches {
		// Whom a batch follows shows in its figures, so the order is another each time.
		for _, i := range rand.Perm(len(conns)) {
			if conns[i] == nil {
				continue
			}
			took, err := pingPong(conns[i], size)
			if err != nil {
				b.Fatalf("%s: %v", systems[i].name, err)
			}
			if batch >= warmUp {
				medians[i] = append(medians[i], took.median())
			}
		}
	}
	table := table{
		title: "64 bytes to the worker and back",
		text:  fmt.Sprintf("Over an open connection: %d batches of %d each, in turns, all on one processor. The figures are those of the batches' medians.", batches, size),
		head:  []string{"way", "against the worker alone", "round trip"},
	}
	for i, s := range systems {
		row := []string{s.label(versions), ratio(medians[i].median(), medians[1].median()), medians[i].String()}
		if err := broken[s.name]; err != nil {
			row[1], row[2] = "–", reason(err)
		}
		table.rows = append(table.rows, row)
	}
	r.tables = append(r.tables, table)
	for _, way := range []struct {
		name string
		ours samples
		want string
	}{{"", medians[0], "1.0"}, {", by intercept", medians[3], "at most 1.02"}} {
		r.aims = append(r.aims, aim{
			what: "64 bytes to the worker and back" + way.name, ratio: ratio(way.ours.median(), medians[1].median()), want: way.want,
			ours: way.ours.String(), than: "the same worker without it: " + medians[1].String(),
		})
	}
}

// pin keeps this process, and all that it starts, on one processor until it is undone. Whether a client shares one with its
// worker makes more of a difference than what is measured, and the scheduler decides it once for a long time.
func pin() (undo func(), err error) {
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, os.NewSyscallError("sched_getaffinity", err)
	}
	for cpu := range 8 * int(unsafe.Sizeof(before)) {
		if before.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := setAffinity(&one); err != nil {
		return nil, err
	}
	return func() { _ = setAffinity(&before) }, nil
}

// setAffinity is for all threads of this process. A new one inherits that of the thread that makes it, so the second round
// finds those that were made during the first.
func setAffinity(set *unix.CPUSet) error {
	for range 2 {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, thread := range threads {
			tid, err := strconv.Atoi(thread.Name())
			if err != nil {
				return err
			}
			if err := unix.SchedSetaffinity(tid, set); err != nil && !errors.Is(err, unix.ESRCH) {
				return os.NewSyscallError("sched_setaffinity", err)
			}
		}
	}
	return nil
}

func pingPong(conn net.Conn, times int) (samples, error) {
	ping, pong := bytes.Repeat([]byte("gateway "), 8), make([]byte, 64)
	took := make(samples, times)
	for i := range took {
		start := time.Now()
		if _, err := conn.Write(ping); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(conn, pong); err != nil {
			return nil, err
		}
		took[i] = time.Since(start)
	}
	if !bytes.Equal(ping, pong) {
		return nil, fmt.Errorf("%q came back as %q", ping, pong)
	}
	return took, nil
}
