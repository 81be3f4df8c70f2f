package test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
)

// quick leaves a worker that is killed again and again no pause to speak of.
const quick = "stop: {timeout: 1s}\nrestart: {backoff_min: 10ms, backoff_max: 20ms}\n"

// TestHundredCrashes kills the worker a hundred times, or fifty for a user.
// systemd does not notice, and the sockets stay what they are.
func TestHundredCrashes(t *testing.T) {
	inScopes(t, testHundredCrashes)
}

func testHundredCrashes(t *testing.T, here place) {
	crashes := here.scaled(100)
	m := here.boot(t, machine.Options{})
	install(t, m.Scope, m, misbehaving("behaves.py")+quick)
	before := inodes(t, m)
	var launcher int
	underLoad(t, m, ipv4, "/", crashes*loops, func(*load.Load) {
		var early map[string][]string
		launcher = gatewayStatus(t, m.Scope).Launcher.PID
		for crash := 1; crash <= crashes; crash++ {
			generation, pid := whoServes(t, m)
			if generation != crash {
				t.Fatalf("generation %d serves after %d crashes", generation, crash-1)
			}
			if crash == 10 {
				early = descriptors(t, m, launcher)
			}
			kill(t, m, pid)
		}
		serving(t, m.Scope, crashes+1)
		sameDescriptors(t, early, descriptors(t, m, launcher))
	})
	nothingOlder(t, m, crashes+1)
	unharmed(t, m, before)
	if unit := m.Unit(t, service); unit.MainPID != launcher || unit.NRestarts != 0 {
		t.Errorf("the launcher is %d after %d restarts, want still %d", unit.MainPID, unit.NRestarts, launcher)
	}
}

// TestFiftyKilledLaunchers kills the launcher fifty times, or half as often for a
// user, and its worker with it. systemd starts the next one each time, and the
// sockets stay what they are.
func TestFiftyKilledLaunchers(t *testing.T) {
	inScopes(t, testFiftyKilledLaunchers)
}

func testFiftyKilledLaunchers(t *testing.T, here place) {
	times := here.scaled(50)
	m := here.boot(t, machine.Options{})
	install(t, m.Scope, m, misbehaving("detaches.py")+quick)
	before := inodes(t, m)
	underLoad(t, m, ipv4, "/", times*loops, func(*load.Load) {
		var early map[string][]string
		for n := range times {
			_, pid := whoServes(t, m)
			worker := process(t, m, pid)
			launcher := worker.ParentPID
			if n == 10 {
				// A start job costs PID 1 four descriptors for as long as it lasts.
				serving(t, m.Scope, 1)
				early = descriptors(t, m, launcher)
			}
			ended := handleOf(t, worker)
			kill(t, m, launcher)
			ended.awaitEnd(t)
		}
		_, pid := whoServes(t, m)
		serving(t, m.Scope, 1)
		sameDescriptors(t, early, descriptors(t, m, process(t, m, pid).ParentPID))
	})
	// One that was killed right behind its start has not been counted.
	last := gatewayStatus(t, m.Scope).Worker.Generation
	if last < times/2 || last > times+1 {
		t.Errorf("the generation is %d after %d launchers", last, times)
	}
	nothingOlder(t, m, last)
	unharmed(t, m, before)
	if unit := m.Unit(t, service); unit.NRestarts != times {
		t.Errorf("systemd has restarted the launcher %d times, want %d", unit.NRestarts, times)
	}
}

// strike kills what is there of the launcher, of one generation of the worker that pick chooses among so many, or of all, and returns which
// processes that were.
func strike(t *testing.T, m *machine.Machine, victim string, pick func(int) int) (pids []string) {
	t.Helper()
	processes := m.Processes(t)
	for _, launcher := range processes {
		isLauncher := strings.HasPrefix(launcher.Cgroup, m.Cgroup(service)) && len(launcher.Args) > 1 &&
			filepath.Base(launcher.Args[0]) == "gateway" && launcher.Args[1] == "run"
		if !isLauncher {
			continue
		}
		if victim != "worker" {
			pids = append(pids, strconv.Itoa(launcher.PID))
		}
		generations := map[string][]string{} // by the control group
		for _, worker := range processes {
			if victim != "launcher" && worker.ParentPID == launcher.PID {
				generations[worker.Cgroup] = append(generations[worker.Cgroup], strconv.Itoa(worker.PID))
			}
		}
		groups := slices.Sorted(maps.Keys(generations))
		if victim == "worker" && len(groups) > 1 {
			groups = groups[pick(len(groups)):][:1]
		}
		for _, group := range groups {
			pids = append(pids, generations[group]...)
		}
	}
	if len(pids) == 0 {
		return nil // it is just between two of its lives
	}
	// One that has ended by itself meanwhile is as good as killed.
	if _, err := m.Output("kill", append([]string{"-KILL"}, pids...)...); err != nil && !strings.Contains(err.Error(), "No such process") {
		t.Fatal(err)
	}
	return pids
}

// whoServes asks who it is that answers. A worker that is being killed may take
// the connection along; then the next one is asked.
func whoServes(t *testing.T, m *machine.Machine) (generation, pid int) {
	t.Helper()
	for {
		code, body, err := tryGet(t.Context(), m, ipv4, "/")
		if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, context.DeadlineExceeded) || t.Context().Err() != nil {
			t.Fatal(err)
		}
		if err != nil {
			continue
		}
		if _, err := fmt.Sscanf(body, "generation %d pid %d", &generation, &pid); code != http.StatusOK || err != nil {
			t.Fatalf("answered %d %s", code, body)
		}
		return generation, pid
	}
}

// unharmed fails the test if a socket is another one than before, or if systemd
// has given one of the units up at any time.
func unharmed(t *testing.T, m *machine.Machine, before map[string]uint64) {
	t.Helper()
	if after := inodes(t, m); !maps.Equal(before, after) {
		t.Errorf("the sockets' inodes were %v and are %v", before, after)
	}
	for _, unit := range []string{socket, service} {
		if u := m.Unit(t, unit); u.ActiveState != "active" || u.Result != "success" {
			t.Errorf("%s is %s (%s), want active without a reset-failed", unit, u.ActiveState, u.Result)
		}
		for _, sign := range []string{"start-limit", "trigger-limit", "repeated too quickly", "Dependency failed"} {
			if strings.Contains(m.Journal(t, unit), sign) {
				t.Errorf("the journal of %s says %q", unit, sign)
			}
		}
	}
	if strings.Contains(m.Journal(t, socket), "Failed") {
		t.Errorf("%s has failed meanwhile:\n%s", socket, m.Journal(t, socket))
	}
}
