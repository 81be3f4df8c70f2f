package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
)

const (
	misbehavePath = workersPath + "/misbehave"

	// impatient is for tests that go through many generations.
	impatient = "stop: {timeout: 1s}\nrestart: {backoff_min: 50ms, backoff_max: 100ms}\n"
)

// misbehaving is a configuration that runs a program of the misbehave folder.
func misbehaving(program string, arguments ...string) string {
	runner := "/usr/bin/python3"
	if strings.HasSuffix(program, ".js") {
		runner = nodePath
	}
	return worker(append([]string{runner, misbehavePath + "/" + program}, arguments...)...)
}

// TestMisbehaviour takes workers that do each a thing that workers should not
// through ten generations, or less in other places than the first, under clients
// that connect anew for each request. Of a generation that has ended nothing may
// be left, and nobody may be refused.
func TestMisbehaviour(t *testing.T) {
	everywhere(t, testMisbehaviour)
}

func testMisbehaviour(t *testing.T, here place) {
	const (
		asked    = `exit="killed by SIGTERM" reason=restart`
		killed   = `exit="killed by SIGKILL" reason=restart`
		crashed  = `exit="killed by SIGKILL" reason=crash`
		exited   = `exit="exit code 1" reason=crash`
		notReady = `exit="killed by SIGTERM" reason=unready`
	)
	tests := []struct {
		name, configuration string

		misbehaves bool // when a client asks it to, in each generation
		dies       bool // of that; else it is ended by "gateway restart"
		every      int  // only every so many generations serve; 0: all
		root       bool // it needs to be root
		strays     int  // processes that a generation leaves, at least
		refused    int  // clients that may be refused
		story      []string
		check      func(t *testing.T, m *machine.Machine, l *load.Load, generation int)
	}{
		{
			name: "behaves", configuration: misbehaving("behaves.py"), story: []string{asked},
		},
		{
			name: "detaches", configuration: misbehaving("detaches.py"), strays: 1, story: []string{asked},
		},
		{
			name: "detaches and answers", configuration: misbehaving("detaches.py", "answers"), strays: 1, story: []string{asked},
			check: func(t *testing.T, m *machine.Machine, _ *load.Load, generation int) {
				for range 10 {
					if _, body := get(t, m, ipv4, "/"); generationOf(body) != generation {
						t.Errorf("%q answers in generation %d", body, generation)
					}
				}
			},
		},
		{
			name: "deaf", configuration: misbehaving("deaf.py"), story: []string{killed},
		},
		{
			name: "talks", configuration: misbehaving("talks.py"), misbehaves: true, dies: true, strays: 1, story: []string{exited},
		},
		{
			name: "multiplies", configuration: misbehaving("multiplies.py"), strays: 40, story: []string{asked},
		},
		{
			name: "exits", configuration: misbehaving("exits.py"), misbehaves: true, dies: true, every: 5, story: []string{exited},
		},
		{
			name: "dies", configuration: misbehaving("dies.py"), misbehaves: true, dies: true, story: []string{crashed},
		},
		{
			name: "hangs", configuration: misbehaving("hangs.py") + "ready: {timeout: 3s}\n",
			misbehaves: true, dies: true, every: 5, story: []string{notReady, exited},
		},
		{
			// Between shutdown(2) and the launcher's listen(2) the kernel refuses,
			// which nobody can prevent: so few clients, in all of it.
			name: "shuts", configuration: misbehaving("shuts.py"), refused: 10 * loops, story: []string{asked},
			check: func(t *testing.T, m *machine.Machine, l *load.Load, generation int) {
				get(t, m, ipv4, "/misbehave")
				answered(t, l)
				if s := gatewayStatus(t, m.Scope); s.Worker.Generation != generation {
					t.Errorf("generation %d serves, want still %d: its listener was mended", s.Worker.Generation, generation)
				}
			},
		},
		{
			name: "defers", configuration: misbehaving("defers.py"), story: []string{asked},
			check: func(t *testing.T, m *machine.Machine, _ *load.Load, generation int) {
				const silent = "import socket; print(socket.create_connection(('127.0.0.1', 18789), 60, ('127.0.0.2', 0)).recv(99).decode())"
				if greeting := m.Run(t, "/usr/bin/python3", "-c", silent); generationOf(greeting) != generation {
					t.Errorf("a client that says nothing in generation %d is greeted with %q", generation, greeting)
				}
				get(t, m, ipv4, "/misbehave")
			},
		},
		{
			name: "moves", configuration: misbehaving("moves.py"), root: true, strays: 1, story: []string{asked},
		},
		{
			name: "freezes", configuration: misbehaving("freezes.py"), misbehaves: true, story: []string{asked},
		},
		{
			name: "zombies", configuration: misbehaving("zombies.py"), misbehaves: true, story: []string{asked},
			check: func(t *testing.T, m *machine.Machine, _ *load.Load, _ int) { get(t, m, ipv4, "/misbehave") },
		},
		{
			name: "exhausts", configuration: misbehaving("exhausts.py"), misbehaves: true, story: []string{asked},
		},
		{
			name: "closes", configuration: misbehaving("closes.js"), misbehaves: true, story: []string{asked},
		},
	}
	for _, test := range tests {
		if test.root && here.user || here.more && test.name != "detaches" {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			generations := here.scaled(10)
			every := max(1, test.every)
			m := here.boot(t, machine.Options{})
			install(t, m.Scope, m, test.configuration+impatient)
			before := inodes(t, m)
			l := load.Start(t.Context(), load.Options{
				URL: "http://" + ipv4 + "/", Dial: m.DialContext, Loops: loops, Limit: bound, Pause: 20 * time.Millisecond,
			})
			answered(t, l)
			serving(t, m.Scope, every)
			var early, late map[string][]string
			var launcher int
			for generation := every; generation <= generations; generation += every {
				if generation > every {
					toNext(t, m, generation, test.misbehaves, test.dies)
				}
				answered(t, l)
				now := nothingOlder(t, m, generation)
				launcher = now.Launcher.PID
				if generation > 1 && now.Worker.LastExit.Strays < test.strays {
					t.Errorf("generation %d: the status counts %d strays of the one before, want %d", generation, now.Worker.LastExit.Strays, test.strays)
				}
				if test.check != nil {
					test.check(t, m, l, generation)
				}
				noZombies(t, m, l, launcher)
				switch {
				case generation >= generations:
					late = descriptors(t, m, launcher)
				case generation >= 2 && early == nil:
					early = descriptors(t, m, launcher)
				}
			}
			sameDescriptors(t, early, late)
			deaths := generations / every
			if every == 1 {
				// Nobody is left to stop it; the next launcher ends what it has left.
				kill(t, m, launcher)
				servingAnew(t, m.Scope, launcher)
				deaths++
				answered(t, l)
				nothingOlder(t, m, generations+1)
			}
			report := l.Stop()
			t.Logf("%s", report)
			if report.Refused > test.refused || report.Hung > 0 || len(report.Status) > 0 || report.Lost() > deaths*loops+2*test.refused {
				t.Errorf("want at most %d clients refused, none hung, and at most %d answers lost with %d workers: %s",
					test.refused, deaths*loops, deaths, report)
			}
			if after := inodes(t, m); !maps.Equal(before, after) {
				t.Errorf("the sockets' inodes were %v and are %v", before, after)
			}
			toldOf(t, m, generations-1, test.strays, test.story...)
			stopped(t, m, func() { m.Systemctl(t, "stop", service, socket) })
			if test.name == "moves" {
				// Which fails when somebody is in it.
				m.Run(t, "rmdir", "/sys/fs/cgroup/elsewhere")
			}
		})
	}
}

// toNext ends the present generation in the way of the worker, and returns when
// the next one serves.
func toNext(t *testing.T, m *machine.Machine, generation int, misbehaves, dies bool) {
	t.Helper()
	if misbehaves {
		if code, body := get(t, m, ipv4, "/misbehave"); code != http.StatusOK {
			t.Fatalf("the request to misbehave was answered with %d %s", code, body)
		}
	}
	if !dies {
		m.Run(t, gatewayPath, "restart")
	}
	serving(t, m.Scope, generation)
}

// TestClosedListener: a worker that closes its listener and lives on is taken
// for failed, so that somebody serves again without being asked.
func TestClosedListener(t *testing.T) {
	inScopes(t, testClosedListener)
}

func testClosedListener(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	install(t, m.Scope, m, misbehaving("closes.js")+impatient)
	underLoad(t, m, ipv4, "/", loops, func(l *load.Load) {
		serving(t, m.Scope, 1)
		get(t, m, ipv4, "/misbehave")
		serving(t, m.Scope, 2)
		answered(t, l)
		nothingOlder(t, m, 2)
	})
	toldOf(t, m, 1, 0, "reason=unready")
}

// TestOwnProbes: what the launcher asks a worker that dies without having taken a
// connection must not pile up in the queue, in front of the clients.
func TestOwnProbes(t *testing.T) {
	inScopes(t, testOwnProbes)
}

func testOwnProbes(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	install(t, m.Scope, m, worker("/bin/sleep", "0.1")+"  start: at-once\n"+impatient)
	m.Systemctl(t, "start", service)
	const generations = 6
	m.WaitUnit(t, service, bound, func(u machine.Unit) bool {
		var n int
		_, err := fmt.Sscanf(u.StatusText, "generation %d", &n)
		return err == nil && n >= generations
	})
	for _, line := range gatewayStatus(t, m.Scope).Sockets {
		if line.Queued > 1 {
			t.Errorf("%d connections wait on %s after %d generations, and nobody has connected: want no more than one of the launcher's own",
				line.Queued, line.Address, generations)
		}
	}
}

// TestByHandTree: without a cgroup of its own the launcher ends its worker's
// processes by descent, and the next launcher what one has left that was killed.
func TestByHandTree(t *testing.T) {
	inScopes(t, testByHandTree)
}

func testByHandTree(t *testing.T, here place) {
	const generations = 4
	for _, program := range []string{"detaches.py", "deaf.py", "zombies.py"} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			m := here.boot(t, machine.Options{})
			m.WriteFile(t, configPath(m.Scope), misbehaving(program)+impatient, 0o644)
			h := runByHand(t, m)
			underLoad(t, m, ipv4, "/", generations*loops, func(l *load.Load) {
				for generation := 1; generation <= generations; generation++ {
					if generation > 1 {
						m.Run(t, gatewayPath, "restart")
					}
					answered(t, l)
					noZombies(t, m, l, nothingOlder(t, m, generation).Launcher.PID)
				}
			})
			// Killed, it cannot end anybody. The worker's main process dies all the same.
			s := gatewayStatus(t, m.Scope)
			main := handleOf(t, process(t, m, s.Worker.PID))
			kill(t, m, s.Launcher.PID)
			if err := h.command.Wait(); err == nil {
				t.Error("gateway run was killed and succeeded")
			}
			main.awaitEnd(t)

			h = runByHand(t, m)
			if _, body := get(t, m, ipv4, "/"); generationOf(body) != 1 {
				t.Errorf("answered %q, want the first generation of the next launcher", body)
			}
			nothingOlder(t, m, 1)
			m.Run(t, "kill", "-TERM", strconv.Itoa(gatewayStatus(t, m.Scope).Launcher.PID))
			if err := h.command.Wait(); err != nil {
				t.Errorf("gateway run ended with %v\n%s", err, h.logged())
			}
			nobody(t, m)
		})
	}
}

// TestStop: stop means stopped, whatever happens at that moment.
func TestStop(t *testing.T) {
	everywhere(t, testStop)
}

func testStop(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	const atOnce = "  start: at-once\n"
	start := func(configuration string) {
		t.Helper()
		m.WriteFile(t, configPath(m.Scope), configuration, 0o644)
		// Not with --now, which waits for the worker, and some never serve.
		flags := []string{"install", "--" + kind(m.Scope)}
		if !here.user {
			flags = append(flags, "--run-as", "root")
		}
		m.Run(t, gatewayPath, flags...)
		// Whatever the case before has left.
		m.Systemctl(t, "stop", service, socket)
		m.Systemctl(t, "start", socket)
		m.Systemctl(t, "start", "--no-block", service)
	}
	stop := func() { m.Systemctl(t, "stop", service) }
	// run starts a command and returns what waits for its end.
	run := func(name string, arguments ...string) (wait func() error) {
		outcome := make(chan error, 1)
		go func() {
			_, err := m.Output(name, arguments...)
			outcome <- err
		}()
		return func() error { return <-outcome }
	}
	longStart := misbehaving("hangs.py") + atOnce + "stop: {timeout: 1s}\n"

	t.Run("during a start", func(t *testing.T) {
		start(longStart)
		statusText(t, m.Scope, " is starting")
		stopped(t, m, stop)
	})
	t.Run("during the backoff", func(t *testing.T) {
		start(misbehaving("exits.py") + atOnce + "restart: {backoff_min: 1m}\n")
		statusText(t, m.Scope, "next start at")
		stopped(t, m, stop)
	})
	t.Run("during a stop", func(t *testing.T) {
		start(misbehaving("deaf.py") + atOnce + impatient)
		serving(t, m.Scope, 1)
		m.Systemctl(t, "stop", "--no-block", service)
		statusText(t, m.Scope, " is stopping")
		stopped(t, m, stop)
	})
	t.Run("during a restart", func(t *testing.T) {
		start(misbehaving("deaf.py") + atOnce + impatient)
		serving(t, m.Scope, 1)
		wait := run(gatewayPath, "restart")
		statusText(t, m.Scope, " is stopping")
		stopped(t, m, stop)
		if err := wait(); err == nil {
			t.Error("gateway restart succeeded in a launcher that ended")
		}
	})
	t.Run("during a reload", func(t *testing.T) {
		start(misbehaving("behaves.py") + atOnce + impatient)
		serving(t, m.Scope, 1)
		m.WriteFile(t, configPath(m.Scope), longStart, 0o644)
		wait := run(gatewayPath, "reload")
		statusText(t, m.Scope, " is starting")
		stopped(t, m, stop)
		if err := wait(); err == nil {
			t.Error("gateway reload succeeded in a launcher that ended")
		}
	})
	t.Run("during a reload by systemd", func(t *testing.T) {
		start(misbehaving("behaves.py") + atOnce + impatient)
		serving(t, m.Scope, 1)
		m.WriteFile(t, configPath(m.Scope), longStart, 0o644)
		m.Systemctl(t, "reload", "--no-block", service)
		statusText(t, m.Scope, " is starting")
		stopped(t, m, stop)
	})
	t.Run("twice at once", func(t *testing.T) {
		start(misbehaving("detaches.py") + atOnce + impatient)
		serving(t, m.Scope, 1)
		stopped(t, m, func() {
			scope := "--" + kind(m.Scope)
			first, second := run("systemctl", scope, "stop", service), run("systemctl", scope, "stop", service)
			if err := errors.Join(first(), second()); err != nil {
				t.Error(err)
			}
		})
	})
	// By notify, so that the next launcher makes no connection: systemd watches the socket itself until the service
	// is up, and a connection that it sees behind the stop is a client, for whom it starts everything again.
	quiet := misbehaving("detaches.py") + atOnce + impatient + "ready: {probe: notify}\n"
	killed := func() {
		t.Helper()
		kill(t, m, m.Unit(t, service).MainPID)
	}
	t.Run("of a launcher that was killed", func(t *testing.T) {
		start(quiet)
		serving(t, m.Scope, 1)
		killed()
		stop()
		stoppedFor(t, m, "inactive", "failed") // as the two cases below, whichever it is
	})
	t.Run("of a launcher that was killed, before systemd schedules its restart", func(t *testing.T) {
		start(quiet)
		serving(t, m.Scope, 1)
		// systemd has something to do first, until the test lets it go on.
		m.Run(t, "mkfifo", "-m", "666", "/tmp/held")
		dropIn(t, m, "ExecStopPost=cat /tmp/held\n")
		killed()
		m.WaitUnit(t, service, bound, func(u machine.Unit) bool { return u.SubState == "stop-post" })
		m.Systemctl(t, "stop", "--no-block", service)
		drop(t, m, service, "")
		m.Run(t, "/bin/sh", "-c", "timeout 60 sh -c 'echo > /tmp/held'; rm /tmp/held")
		m.WaitUnit(t, service, bound, machine.Inactive)
		// The signal is the last that systemd has seen of the unit.
		stoppedFor(t, m, "failed")
	})
	t.Run("of a launcher that was killed, after systemd has scheduled its restart", func(t *testing.T) {
		start(quiet)
		serving(t, m.Scope, 1)
		dropIn(t, m, "RestartSec=1h\n")
		killed()
		m.WaitUnit(t, service, bound, func(u machine.Unit) bool { return u.SubState == "auto-restart" })
		stop()
		drop(t, m, service, "")
		stoppedFor(t, m, "inactive")
	})
	t.Run("of a frozen worker", func(t *testing.T) {
		start(misbehaving("freezes.py") + atOnce + impatient)
		serving(t, m.Scope, 1)
		get(t, m, ipv4, "/misbehave")
		stopped(t, m, stop)
	})
	t.Run("and it starts again", func(t *testing.T) {
		start(misbehaving("behaves.py"))
		stopped(t, m, stop)
		if code, body := get(t, m, ipv4, "/"); code != http.StatusOK {
			t.Errorf("the next client is answered with %d %s", code, body)
		}
	})
}

// stopped runs what stops the service, and fails the test unless nothing of it
// is left then.
func stopped(t *testing.T, m *machine.Machine, stop func()) {
	t.Helper()
	stop()
	nothingLeft(t, m, "inactive")
}

// stoppedFor fails the test unless the service was stopped, in one of these states,
// and comes back by a start alone: systemd shows a unit as failed whose last main
// process was killed, and that must keep nobody from starting it.
func stoppedFor(t *testing.T, m *machine.Machine, states ...string) {
	t.Helper()
	nothingLeft(t, m, states...)
	if unit := m.Unit(t, socket); unit.ActiveState != "active" {
		t.Errorf("%s is %s (%s) after systemctl stop of the service", socket, unit.ActiveState, unit.Result)
	}
	m.Systemctl(t, "start", service)
	serving(t, m.Scope, 1)
	stopped(t, m, func() { m.Systemctl(t, "stop", service) })
}

// nothingLeft fails the test unless the service is in one of these states, nothing
// of it lives, and nobody but systemd has its sockets.
func nothingLeft(t *testing.T, m *machine.Machine, states ...string) {
	t.Helper()
	if unit := m.Unit(t, service); !slices.Contains(states, unit.ActiveState) {
		t.Errorf("%s is %s (%s) after systemctl stop, want %s", service, unit.ActiveState, unit.Result, strings.Join(states, " or "))
	}
	nobody(t, m)
	if _, err := os.Stat(m.Root() + "/sys/fs/cgroup" + m.Cgroup(service)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the unit's cgroup is left: %v", err)
	}
	for _, listens := range gatewayStatus(t, m.Scope).Sockets {
		for _, holder := range listens.Holders {
			if holder.Role != "systemd" {
				t.Errorf("%s is still held by %+v", listens.Address, holder)
			}
		}
	}
}

// nobody fails the test if a launcher or anything of a worker lives.
func nobody(t *testing.T, m *machine.Machine) {
	t.Helper()
	for _, process := range m.Processes(t) {
		launcher := len(process.Args) > 1 && filepath.Base(process.Args[0]) == "gateway" && process.Args[1] == "run"
		if launcher || ofWorker(process) || strings.HasPrefix(process.Cgroup+"/", m.Cgroup(service)+"/") {
			t.Errorf("still alive: %+v", process)
		}
	}
}

// ofWorker reports whether a process belongs to a worker, of whatever generation
// and wherever it has gone to: by its command line or by its environment, which
// processes inherit.
func ofWorker(process machine.Process) bool {
	if slices.ContainsFunc(process.Args, func(argument string) bool { return strings.HasPrefix(argument, misbehavePath) }) {
		return true
	}
	environ, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(process.HostPID), "environ"))
	return err == nil && bytes.Contains(environ, []byte("GATEWAY_GENERATION="))
}

// nothingOlder fails the test if the machine has a process of a worker that is
// older than the present generation's main process, or a cgroup of another
// generation.
func nothingOlder(t *testing.T, m *machine.Machine, generation int) status {
	t.Helper()
	s := gatewayStatus(t, m.Scope)
	if s.Worker.Generation != generation || s.Worker.PID == 0 {
		t.Fatalf("the status tells of generation %d with pid %d, want generation %d", s.Worker.Generation, s.Worker.PID, generation)
	}
	main := process(t, m, s.Worker.PID)
	born := startOf(t, main)
	for _, process := range m.Processes(t) {
		if !ofWorker(process) {
			continue
		}
		if stat, err := statOf(process.HostPID); err == nil && stat.Starttime < born {
			t.Errorf("left from before generation %d: %+v", generation, process)
		}
	}
	if s.Launcher.Holder != "systemd" {
		return s
	}
	entries, err := os.ReadDir(m.Root() + "/sys/fs/cgroup" + m.Cgroup(service))
	if err != nil {
		t.Fatal(err)
	}
	var groups []string
	for _, entry := range entries {
		if entry.IsDir() {
			groups = append(groups, entry.Name())
		}
	}
	if want := []string{fmt.Sprintf("generation-%d", generation), "launcher"}; !slices.Equal(groups, want) {
		t.Errorf("the unit has the cgroups %v, want %v", groups, want)
	}
	return s
}

// noZombies waits until the launcher has reaped its children, those that it has
// inherited as well. It looks again at each answer that a client gets.
func noZombies(t *testing.T, m *machine.Machine, l *load.Load, launcher int) {
	t.Helper()
	parent := process(t, m, launcher).HostPID
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	for {
		zombies := zombiesOf(t, parent)
		if len(zombies) == 0 {
			return
		}
		if err := l.WaitOK(ctx, 1); err != nil {
			t.Fatalf("the launcher has not reaped %v: %v", zombies, err)
		}
	}
}

// zombiesOf lists the children of a process that have ended, by host pid.
func zombiesOf(t *testing.T, parent int) []int {
	t.Helper()
	processes, err := procfs.AllProcs()
	if err != nil {
		t.Fatal(err)
	}
	var zombies []int
	for _, process := range processes {
		if stat, err := process.Stat(); err == nil && stat.PPID == parent && stat.State == "Z" {
			zombies = append(zombies, process.PID)
		}
	}
	return zombies
}

func statOf(hostPID int) (procfs.ProcStat, error) {
	process, err := procfs.NewProc(hostPID)
	if err != nil {
		return procfs.ProcStat{}, err
	}
	return process.Stat()
}

// startOf returns when a process started, in clock ticks since boot.
func startOf(t *testing.T, process machine.Process) uint64 {
	t.Helper()
	stat, err := statOf(process.HostPID)
	if err != nil {
		t.Fatal(err)
	}
	return stat.Starttime
}

// descriptors returns what the launcher and its manager have open.
func descriptors(t *testing.T, m *machine.Machine, launcher int) map[string][]string {
	t.Helper()
	open := map[string][]string{}
	for name, pid := range map[string]int{"launcher": launcher, "systemd": m.ManagerPID(t)} {
		folder := filepath.Join("/proc", strconv.Itoa(process(t, m, pid).HostPID), "fd")
		entries, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if target, err := os.Readlink(filepath.Join(folder, entry.Name())); err == nil {
				open[name] = append(open[name], target)
			}
		}
		slices.Sort(open[name])
	}
	return open
}

// sameDescriptors fails the test if somebody has got more of them from the second
// generation to the last. A few come and go: connections to the control socket
// and to the manager of commands that have just ended. A leak in each generation, or
// in every second one, would be more.
func sameDescriptors(t *testing.T, early, late map[string][]string) {
	t.Helper()
	const comeAndGo = 3
	for name := range early {
		if before, after := early[name], late[name]; len(after) > len(before)+comeAndGo {
			t.Errorf("%s had %d descriptors and has %d:\n%s\nand now\n%s", name, len(before), len(after),
				strings.Join(before, "\n"), strings.Join(after, "\n"))
		}
	}
}

// toldOf fails the test unless the journal has the end of each generation up to
// the last one, in one of these words, and who was left of it.
func toldOf(t *testing.T, m *machine.Machine, last, strays int, words ...string) {
	t.Helper()
	lines := strings.Split(m.Journal(t, service), "\n")
	for generation := 1; generation <= last; generation++ {
		number := fmt.Sprintf("generation=%d ", generation)
		ended := slices.ContainsFunc(lines, func(line string) bool {
			return strings.Contains(line, "worker ended "+number) &&
				slices.ContainsFunc(words, func(word string) bool { return strings.Contains(line, word) })
		})
		if !ended {
			t.Errorf("the journal does not tell of the end of generation %d in the words %q", generation, words)
		}
		named := slices.ContainsFunc(lines, func(line string) bool {
			return strings.Contains(line, number) && strings.Contains(line, "strays=") && strings.Contains(line, "python3 (pid ")
		})
		if strays > 0 && !named {
			t.Errorf("the journal does not say who was left of generation %d", generation)
		}
	}
}

// handle is a process that cannot become another one.
type handle struct {
	process machine.Process
	fd      int
}

func handleOf(t testing.TB, process machine.Process) handle {
	t.Helper()
	fd, err := unix.PidfdOpen(process.HostPID, 0)
	if err != nil {
		t.Fatalf("open a handle of %+v: %v", process, err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return handle{process, fd}
}

// awaitEnd returns when the process has ended.
func (h handle) awaitEnd(t testing.TB) {
	t.Helper()
	for {
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(h.fd), Events: unix.POLLIN}}, int(bound.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			t.Fatal(err)
		case ready == 0:
			t.Fatalf("it has not ended: %+v", h.process)
		default:
			return
		}
	}
}

// TestShutdownAtTheEnd: a worker that shuts the sockets down when it is told to
// stop does not take the port with it, whoever restarts it.
func TestShutdownAtTheEnd(t *testing.T) {
	inScopes(t, testShutdownAtTheEnd)
}

func testShutdownAtTheEnd(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	install(t, m.Scope, m, misbehaving("leaves.py")+impatient)
	before := inodes(t, m)
	get(t, m, ipv4, "/")
	serving(t, m.Scope, 1)
	for range 3 {
		m.Run(t, gatewayPath, "restart")
		get(t, m, ipv4, "/")
		m.Systemctl(t, "restart", service)
		get(t, m, ipv4, "/")
	}
	if after := inodes(t, m); !maps.Equal(before, after) {
		t.Errorf("the sockets' inodes were %v and are %v", before, after)
	}
	if unit := m.Unit(t, socket); unit.ActiveState != "active" {
		t.Errorf("%s is %s (%s)", socket, unit.ActiveState, unit.Result)
	}
}
