package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/test/machine"
)

// idling measures what each system's own process costs while nothing happens: its memory, alone in the machine with a ready
// worker, and how often it wakes up in one minute, all in the same one. Beside them idles a Go program that does nothing.
func idling(b *testing.B, r *report) {
	const (
		minute  = time.Minute
		nothing = "a Go program that waits for a signal"
	)
	m := boot(b, machine.Options{})
	systems := []system{ours(0)}
	for _, s := range others(0) {
		if s.manager != "" {
			systems = append(systems, s)
		}
	}
	versions, broken := installAll(b, m, systems)
	memory := map[string]int{}
	for _, s := range systems {
		if broken[s.name] == nil {
			memory[s.name], broken[s.name] = memoryOf(b, m, s)
		}
	}
	const idleUnit = "bench-idle.service"
	m.WriteFile(b, "/etc/systemd/system/"+idleUnit, unit("", "ExecStart="+selfPath+" idle"), 0o644)
	m.Systemctl(b, "daemon-reload")
	m.Systemctl(b, "start", idleUnit)
	processes := map[string]machine.Process{}
	var err error
	if processes[nothing], err = (system{manager: idleUnit}).managerProcess(b, m); err != nil {
		b.Fatal(err)
	}
	for _, s := range systems {
		if broken[s.name] != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(b.Context(), restartBound)
		if _, broken[s.name] = s.start(ctx, m); broken[s.name] == nil {
			processes[s.name], broken[s.name] = s.managerProcess(b, m)
		}
		cancel()
	}
	// Whatever the starts left to do.
	time.Sleep(5 * time.Second)
	before := map[string]int{}
	for name, p := range processes {
		if broken[name] == nil {
			before[name], broken[name] = contextSwitches(p)
		}
	}
	time.Sleep(minute)
	wakeUps := map[string]int{}
	for name, p := range processes {
		if broken[name] == nil {
			var after int
			after, broken[name] = contextSwitches(p)
			wakeUps[name] = after - before[name]
		}
	}
	us := systems[0]
	if err := errors.Join(broken[us.name], broken[nothing]); err != nil {
		b.Fatal(err)
	}
	table := table{
		title: "Idle",
		text: "Of the process that stays while workers come and go, with a ready worker: its memory (PSS), alone in the machine; and the context " +
			"switches of all its threads within one idle minute, the same for all.",
		head: []string{"process", "memory against the launcher's", "memory", "wake-ups in 60 s"},
	}
	for _, s := range systems {
		row := []string{s.label(versions), ratio(memory[s.name], memory[us.name]), mebibytes(memory[s.name]), fmt.Sprint(wakeUps[s.name])}
		if err := broken[s.name]; err != nil {
			row = []string{s.label(versions), "–", reason(err), "–"}
		}
		table.rows = append(table.rows, row)
	}
	table.rows = append(table.rows, []string{nothing, "–", "–", fmt.Sprint(wakeUps[nothing])})
	r.tables = append(r.tables, table)
	r.aims = append(r.aims, aim{
		what: "memory of the launcher (PSS) with a ready worker", ratio: ratio(memory[us.name], 10<<10) + " of the aim", want: "10 MiB",
		ours: mebibytes(memory[us.name]), than: "see Idle",
	}, aim{
		what: "wake-ups of the launcher in 60 idle seconds", ratio: fmt.Sprintf("%+d", wakeUps[us.name]-wakeUps[nothing]),
		want: "the watchdog's and the Go runtime's", ours: fmt.Sprint(wakeUps[us.name]), than: fmt.Sprintf("%s: %d", nothing, wakeUps[nothing]),
	})
}

// memoryOf is the PSS, in KiB, of a system's manager when its worker is ready and nothing else runs.
func memoryOf(b *testing.B, m *machine.Machine, s system) (kib int, err error) {
	ctx, cancel := context.WithTimeout(b.Context(), restartBound)
	defer cancel()
	defer func() { err = errors.Join(err, s.stop(m)) }()
	if _, err := s.start(ctx, m); err != nil {
		return 0, err
	}
	p, err := s.managerProcess(b, m)
	if err != nil {
		return 0, err
	}
	// proc_pid_smaps_rollup(5): what is shared counts in equal parts for all that share it.
	pss, err := field(fmt.Sprintf("/proc/%d/smaps_rollup", p.HostPID), "Pss", ":")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSuffix(pss, " kB"))
}

// contextSwitches is how often the threads of a process have been switched, of their own will or not: proc_pid_status(5).
func contextSwitches(p machine.Process) (sum int, err error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.HostPID))
	if err == nil && len(tasks) == 0 {
		err = fmt.Errorf("pid %d: %w", p.PID, fs.ErrNotExist)
	}
	if err != nil {
		return 0, err
	}
	for _, task := range tasks {
		for _, key := range []string{"voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"} {
			value, err := field(task, key, ":")
			if errors.Is(err, os.ErrNotExist) {
				continue // a thread that has ended meanwhile
			}
			if err != nil {
				return 0, err
			}
			n, err := strconv.Atoi(value)
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}

func mebibytes(kib int) string { return fmt.Sprintf("%.1f MiB", float64(kib)/1024) }
