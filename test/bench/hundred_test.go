package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/test/machine"
)

// left is what a launcher has open, and what is in its service.
type left struct{ descriptors, groups, processes int }

// hundred hands over a hundred times under load, and looks at what is left of it.
func hundred(b *testing.B, r *report) {
	const times = 100
	m := boot(b, machine.Options{})
	s, result := handing(bootMS), &restartsOf{}
	_, broken := installAll(b, m, []system{s})
	if err := broken[s.name]; err != nil {
		b.Fatal(err)
	}
	run, worker, err := trial{}.begin(b, m, s, result)
	if err != nil {
		b.Fatal(err)
	}
	var before, after left
	for done := 0; done <= times; done++ {
		if worker, err = run.next(b, worker); err != nil {
			b.Fatalf("after %d handovers: %v; %s", done, err, run.load.Stop())
		}
		switch done {
		case 0: // it has opened what it keeps
			before, err = s.alone(b, m)
		case times:
			after, err = s.alone(b, m)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	result.add(run.load.Stop(), times+1)
	progress("%s: %d times, before %+v, after %+v, lost %s of %d", s.name, times+1, before, after, losses(result.lost), result.requests)
	if err := s.stop(m); err != nil {
		b.Error(err)
	}
	r.tables = append(r.tables, table{
		title: "A hundred handovers",
		text:  fmt.Sprintf("One after another under load as above, by a launcher that has done one before. %d requests, lost: %s.", result.requests, losses(result.lost)),
		head:  []string{"of the launcher's service", "before", "after"},
		rows: [][]string{
			{"descriptors that the launcher has open", fmt.Sprint(before.descriptors), fmt.Sprint(after.descriptors)},
			{"control groups", fmt.Sprint(before.groups), fmt.Sprint(after.groups)},
			{"processes", fmt.Sprint(before.processes), fmt.Sprint(after.processes)},
		},
	})
	r.aims = append(r.aims, aim{
		what: "left by a hundred handovers: descriptors, control groups, processes", want: "nothing, nobody lost",
		ratio: fmt.Sprintf("%+d, %+d, %+d", after.descriptors-before.descriptors, after.groups-before.groups, after.processes-before.processes),
		ours:  fmt.Sprintf("longest wait %s; lost: %s", short(result.waits.worst()), losses(result.lost)), than: "before them",
	})
}

// alone waits until the launcher and one worker are the only processes of the service, for as long as a restart may take, and looks then.
func (s system) alone(b testing.TB, m *machine.Machine) (now left, err error) {
	ctx, cancel := context.WithTimeout(b.Context(), restartBound)
	defer cancel()
	for {
		if now, err = s.left(b, m); err != nil || now.processes <= 2 && now.groups <= 2 {
			return now, err
		}
		select {
		case <-ctx.Done():
			return now, nil
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (s system) left(b testing.TB, m *machine.Machine) (now left, err error) {
	launcher, err := s.managerProcess(b, m)
	if err != nil {
		return now, err
	}
	folder := filepath.Join("/proc", strconv.Itoa(launcher.HostPID), "fd")
	entries, err := os.ReadDir(folder)
	if err != nil {
		return now, err
	}
	for _, entry := range entries {
		// Without the timers that run for a while when clients have come.
		if target, err := os.Readlink(filepath.Join(folder, entry.Name())); err == nil && target != "anon_inode:[timerfd]" {
			now.descriptors++
		}
	}
	for _, p := range m.Processes(b) {
		if strings.Contains(p.Cgroup, "/"+s.manager) {
			now.processes++
		}
	}
	groups, err := m.Output("/bin/sh", "-c", "ls -d /sys/fs/cgroup"+m.Property(b, s.manager, "ControlGroup")+"/*/")
	now.groups = len(strings.Fields(groups))
	return now, err
}
