package test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
)

// TestStorm does to the product what happens to one, at moments that chance picks: after so many further answers, none perhaps, so that
// it also hits generations and launchers that are just starting. The faults follow from the seed; the moments are as exact as the
// clients' answers. "make storm SEED=N FAULTS=N" has more of them.
func TestStorm(t *testing.T) {
	t.Parallel()
	seed, faults := numberFrom(t, "STORM_SEED", 1), numberFrom(t, "STORM_FAULTS", 60)
	binds := "listen: [\"" + ipv4 + "\"]\nrestart: {mode: handover, backoff_min: 10ms, backoff_max: 20ms}\nstop: {timeout: 1s}\n" +
		worker("python3", "-m", "http.server", "--bind", "127.0.0.1", "18789") + "  handoff: intercept\n"
	storms := []struct {
		name  string
		here  place
		wants string
	}{
		{"exclusive, listen-fds", place{name: "system"}, misbehaving("detaches.py") + quick},
		{"exclusive, preload", place{user: true, root: debian13}, worker(nodePath, workersPath+"/server.js") + "  environment: [BOOT_MS=50]\n" + quick},
		{"handover, preload", place{name: "system"}, strings.NewReplacer("100ms", "10ms, backoff_max: 20ms", "20s", "1s").Replace(handed("BOOT_MS=50"))},
		{"handover, intercept", place{user: true, root: debian13}, binds},
		{"standby", place{name: "system"}, strings.NewReplacer("100ms", "10ms, backoff_max: 20ms, reset_after: 100ms, standby: true", "20s", "1s").Replace(handed("BOOT_MS=50"))},
	}
	for i, storm := range storms {
		t.Run(storm.name, func(t *testing.T) {
			t.Parallel()
			s := &weather{
				t: t, random: rand.New(rand.NewPCG(uint64(seed), uint64(i))), wants: storm.wants, done: map[string]int{}, killed: map[string]int{},
				m: storm.here.boot(t, machine.Options{}),
			}
			s.rage(faults / len(storms))
			s.tell(seed, storm.name)
		})
	}
}

// numberFrom is what "make storm" passes, or what "make test" takes.
func numberFrom(t *testing.T, variable string, usual int) int {
	t.Helper()
	number, err := strconv.Atoi(cmp.Or(os.Getenv(variable), strconv.Itoa(usual)))
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return number
}

// weather is one storm.
type weather struct {
	t      *testing.T
	m      *machine.Machine
	random *rand.Rand
	wants  string // the configuration that works
	load   *load.Load
	report load.Report
	took   time.Duration

	done   map[string]int // faults, by name
	killed map[string]int // processes, by what they were
	gone   []string       // the pids of those killed since the last account
	beside sync.WaitGroup // the commands that run beside
	// ended is how often a worker may have been ended since the last account. Each time may cost each client the answer that it waits
	// for then, and no more.
	ended   int
	counted []load.Client // what each client had at the last account
}

// fault is something that happens. undo is called when some answers have come since, or none; nil: nothing has to be undone.
type fault struct {
	name string
	do   func(*weather) (undo func())
}

var faults = []fault{
	{"kill -9 of the worker", func(s *weather) func() { return s.strike("worker") }},
	{"kill -9 of the launcher", func(s *weather) func() { return s.strike("launcher") }},
	{"kill -9 of both", func(s *weather) func() { return s.strike("both") }},
	{"the worker stands still", func(s *weather) func() { return s.freeze("worker") }},
	{"the launcher stands still", func(s *weather) func() { return s.freeze("launcher") }},
	{"a restart", func(s *weather) func() { return s.restart() }},
	{"an upgrade", func(s *weather) func() {
		s.calm()
		return s.upgrade()
	}},
	{"an upgrade in a restart", func(s *weather) func() {
		s.calm()
		s.restart()
		s.pass()
		return s.upgrade()
	}},
	{"a crash in a restart", func(s *weather) func() {
		s.restart()
		s.pass()
		return s.strike("worker")
	}},
	{"a killed launcher in a restart", func(s *weather) func() {
		s.restart()
		s.pass()
		return s.strike("launcher")
	}},
	{"a crash in an upgrade", func(s *weather) func() {
		s.run("upgrade")
		s.pass()
		return s.strike("worker")
	}},
	{"a killed launcher in an upgrade", func(s *weather) func() {
		s.run("upgrade")
		s.pass()
		return s.strike("launcher")
	}},
	{"a broken edit", func(s *weather) func() { return s.edit("worker: {command: [") }},
	{"an empty edit", func(s *weather) func() { return s.edit("") }},
	{"half an edit", func(s *weather) func() { return s.edit(s.wants[:len(s.wants)/2]) }},
	{"a dead edit", func(s *weather) func() {
		return s.edit(strings.Replace(s.wants, "command: [", "command: [\"/bin/false\", ", 1))
	}},
	{"daemon-reload", func(s *weather) func() { return s.manager("daemon-reload") }},
	{"daemon-reexec", func(s *weather) func() { return s.manager("daemon-reexec") }},
	{"journald stopped", func(s *weather) func() {
		const units = "systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket"
		_, _ = s.root().Output("sh", "-c", "systemctl stop "+units)
		return func() { s.root().Run(s.t, "sh", "-c", "systemctl start "+units) }
	}},
	{"the control socket removed", func(s *weather) func() {
		_, _ = s.root().Output("sh", "-c", "rm -f /run/openclaw-gateway/control.sock /run/user/*/openclaw-gateway/control.sock")
		return nil
	}},
	{"the state disk full", func(s *weather) func() {
		at := statePath(s.m.Scope)
		_, _ = s.root().Output("sh", "-c", "dd if=/dev/zero of="+at+"/filled bs=64k 2>/dev/null")
		return func() { s.root().Run(s.t, "rm", "-f", at+"/filled") }
	}},
	{"descriptors used up", func(s *weather) func() { return s.starve() }},
	{"pressure on memory and processors", func(s *weather) func() {
		const burns = "import time; end = time.monotonic() + 1; held = bytearray(300 << 20)\nwhile time.monotonic() < end: held[::4096] = bytes(len(held[::4096]))"
		_, _ = s.root().Output("sh", "-c", "for n in 1 2 3 4; do python3 -c \"$1\" >/dev/null 2>&1 & done", "sh", burns)
		return nil
	}},
}

// rage lets so many faults happen, each kind as often as the others.
func (s *weather) rage(times int) {
	// The disk that is full at times is one of its own. A user's is that user's.
	at := statePath(s.m.Scope)
	s.root().Run(s.t, "sh", "-euc", "mkdir -p "+at+" && mount -t tmpfs -o size=1m,mode=0700 tmpfs "+at)
	if s.m.User != "" {
		s.root().Run(s.t, "sh", "-euc", "chown -R "+s.m.User+": $(dirname $(dirname "+at+")) && chown "+s.m.User+": "+at)
	}
	install(s.t, s.m.Scope, s.m, s.wants)
	sockets := inodes(s.t, s.m)
	began := time.Now()
	s.load = load.Start(s.t.Context(), load.Options{URL: "http://" + ipv4 + "/", Dial: s.m.DialContext, Loops: loops, Limit: 3 * bound})
	answered(s.t, s.load)
	s.counted = make([]load.Client, loops)
	for _, f := range s.order(times) {
		s.pass()
		s.done[f.name]++
		if undo := f.do(s); undo != nil {
			s.pass()
			undo()
		}
	}
	if strings.Contains(s.wants, "standby: true") {
		s.relieve()
	}
	s.settle()
	s.report = s.load.Stop()
	s.took = time.Since(began)
	s.t.Logf("%s\nfaults: %v\nkilled: %v", s.report, s.done, s.killed)
	if s.report.Refused > 0 || s.report.Hung > 0 || len(s.report.Status) > 0 {
		s.t.Errorf("want nobody refused or hung: %s", s.report)
	}
	s.account(s.report)
	serving(s.t, s.m.Scope, 1)
	nothingOlder(s.t, s.m, gatewayStatus(s.t, s.m.Scope).Worker.Generation)
	if after := inodes(s.t, s.m); !maps.Equal(sockets, after) {
		s.t.Errorf("the sockets' inodes were %v and are %v", sockets, after)
	}
	for _, unit := range []string{socket, service} {
		if u := s.m.Unit(s.t, unit); u.ActiveState != "active" || u.Result != "success" {
			s.t.Errorf("%s is %s (%s), want active without a reset-failed", unit, u.ActiveState, u.Result)
		}
	}
}

// order is the faults in the order in which they happen: all kinds, shuffled, again and again.
func (s *weather) order(times int) (order []fault) {
	for len(order) < times {
		round := slices.Clone(faults)
		s.random.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
		order = append(order, round...)
	}
	return order[:times]
}

func (s *weather) root() *machine.Machine { return s.m.As(s.m.System()) }

// pass waits for a number of answers.
func (s *weather) pass() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*bound)
	defer cancel()
	if err := s.load.WaitOK(ctx, s.random.IntN(30)); err != nil {
		s.t.Fatalf("nobody is answered (%v) after %v", err, s.done)
	}
}

// relieve has a crash after all that has happened, which the standby follows.
func (s *weather) relieve() {
	s.t.Helper()
	s.calm()
	was := standby(s.t, s.m)
	s.gone = append(s.gone, strconv.Itoa(was.Worker.PID))
	s.killed["worker"]++
	s.ended++
	kill(s.t, s.m, was.Worker.PID)
	serving(s.t, s.m.Scope, was.Successor.Generation)
	if is := lifeOf(s.t, history(s.t, s.m), was.Successor.Generation); is.PID != was.Successor.PID || is.ReleasedAfterMS == nil {
		s.t.Errorf("after a crash the standby was %+v, and %+v follows", was.Successor, is)
	}
}

// settle waits until everything is as it was.
func (s *weather) settle() {
	s.t.Helper()
	s.m.WriteFile(s.t, configPath(s.m.Scope), strings.Replace(s.wants, "standby: true", "standby: false", 1), 0o644)
	s.calm()
	alone(s.t, s.m)
}

// calm waits until nothing is under way, and takes account. A standby may be there.
func (s *weather) calm() {
	s.t.Helper()
	s.beside.Wait()
	calm := func() {
		s.m.WaitUnit(s.t, service, 2*bound, func(u machine.Unit) bool {
			return !slices.Contains(s.gone, strconv.Itoa(u.MainPID)) && strings.Contains(u.StatusText, " serves ") &&
				!strings.Contains(u.StatusText, "; generation ") && machine.Active(u)
		})
	}
	calm()
	// Whatever was edited is in use when this returns. The launcher makes its socket again when it sees that it is gone.
	for deadline := time.Now().Add(2 * bound); ; answered(s.t, s.load) {
		_, err := s.m.Output(gatewayPath, "reload")
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("after %v: %v", s.done, err)
		}
	}
	calm()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*bound)
	defer cancel()
	if err := s.load.WaitEach(ctx); err != nil {
		s.t.Fatalf("somebody is not answered (%v) after %v", err, s.done)
	}
	s.account(s.load.Report())
	s.gone = nil
}

// account fails the test if a client has lost more answers since the last account than workers may have been ended.
func (s *weather) account(now load.Report) {
	s.t.Helper()
	for n, client := range now.Clients {
		if lost := client.Lost - s.counted[n].Lost; lost > s.ended {
			s.t.Errorf("client %d has lost %d answers while %d workers were ended, after %v", n, lost, s.ended, s.done)
		}
	}
	s.counted, s.ended = now.Clients, 0
}

func (s *weather) strike(victim string) func() {
	pids := strike(s.t, s.m, victim, s.random.IntN)
	s.killed[victim] += len(pids)
	s.gone = append(s.gone, pids...)
	s.ended++
	return nil
}

// upgrade has the launcher become the program that is installed, which succeeds, as nothing else is done to it meanwhile, and ends no
// worker.
func (s *weather) upgrade() func() {
	s.t.Helper()
	before := s.m.Unit(s.t, service).MainPID
	output, err := s.m.Output(gatewayPath, "upgrade")
	if after := s.m.Unit(s.t, service).MainPID; err != nil || after != before {
		s.t.Errorf("after %v: gateway upgrade says %q, %v; the launcher was %d and is %d", s.done, output, err, before, after)
	}
	s.calm()
	return nil
}

// freeze has a process stand still while nobody is answered, or for as long as some are.
func (s *weather) freeze(victim string) func() {
	pids := s.pids(victim)
	_, _ = s.m.Output("kill", append([]string{"-STOP"}, pids...)...)
	s.moment()
	_, _ = s.m.Output("kill", append([]string{"-CONT"}, pids...)...)
	return nil
}

// moment is for how long something lasts of which nobody can tell that it has had its effect.
func (s *weather) moment() { time.Sleep(time.Duration(50+s.random.IntN(200)) * time.Millisecond) }

// pids are those of the launcher and of its worker, as far as there are any.
func (s *weather) pids(victim string) (pids []string) {
	now := gatewayStatus(s.t, s.m.Scope)
	pid := now.Worker.PID
	if victim == "launcher" {
		pid = now.Launcher.PID
	}
	if pid == 0 {
		return []string{"0x"} // which kill refuses
	}
	return []string{strconv.Itoa(pid)}
}

// restart has the worker restarted while everything else goes on.
func (s *weather) restart() func() {
	s.ended++
	return s.run("restart")
}

// run has a command run while everything else goes on. Whether it succeeds depends on what else there is.
func (s *weather) run(verb string) func() {
	s.beside.Go(func() { _, _ = s.m.Output(gatewayPath, verb) })
	return nil
}

func (s *weather) edit(text string) func() {
	s.m.WriteFile(s.t, configPath(s.m.Scope), text, 0o644)
	s.ended += 3 // there and back, and a rollback
	return func() { s.m.WriteFile(s.t, configPath(s.m.Scope), s.wants, 0o644) }
}

func (s *weather) manager(verb string) func() {
	s.m.Systemctl(s.t, verb)
	return nil
}

// starve lets the launcher open nothing more for a moment. It is not waited for answers: a restart that is under way takes a descriptor.
func (s *weather) starve() func() {
	pid := s.pids("launcher")[0]
	_, _ = s.root().Output("prlimit", "--pid", pid, "--nofile=8:")
	s.moment()
	_, _ = s.root().Output("prlimit", "--pid", pid, "--nofile=1024:")
	return nil
}

// tell adds a line to the table of "make storm".
func (s *weather) tell(seed int, name string) {
	path := os.Getenv("STORM_TABLE")
	if path == "" || s.t.Failed() {
		return
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		s.t.Fatal(err)
	}
	defer file.Close()
	all := 0
	for _, n := range s.done {
		all += n
	}
	if _, err := fmt.Fprintf(file, "| %d | %s | %d | %d | %d | %d | %d | %d | %s |\n", seed, name, all, s.killed["worker"]+s.killed["launcher"]+s.killed["both"],
		s.report.Requests, s.report.Refused, s.report.Hung, s.report.Lost(), s.took.Round(time.Second)); err != nil {
		s.t.Fatal(err)
	}
}
