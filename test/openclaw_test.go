package test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
)

// openClaws are the version with which it all began, as most people run it, and
// the present one.
var openClaws = []struct {
	version, entry string // entry is what "make test" passes it in
	here           place
	flags          []string // of gateway install
	probe          string
	restart        string // the signal that makes it ask for a restart
	handoff        bool   // and it leaves word of that for its supervisor
	budget         string // what it logs of TimeoutStopSec; 2026.5.5 does not look at it
	ways           []string
}{
	{"2026.9.6", "OPENCLAW_ENTRY", place{}, []string{"--run-as", "claw"}, "/startupz", "USR2", true, "shutdown budget at startup: drain=315000ms", []string{
		"gateway restart", "systemctl restart", "its own restart", "kill -9 of the worker", "kill -9 of the launcher",
	}},
	{"2026.5.5", "OLD_OPENCLAW_ENTRY", place{user: true, root: debian13}, nil, "/healthz", "USR1", false, "", []string{
		"gateway restart", "its own restart", "kill -9 of the launcher", "its own restart within the process",
	}},
}

// TestOpenClaw is the product's promise on the real thing: the socket is
// enabled, nothing runs, and a first client gets its answer; every way to
// restart leaves the port where it is.
func TestOpenClaw(t *testing.T) {
	t.Parallel()
	for _, claw := range openClaws {
		t.Run(claw.version, func(t *testing.T) {
			// …/node_modules/openclaw/dist/index.js
			modules := filepath.Dir(filepath.Dir(filepath.Dir(required(t, claw.entry))))
			present := filepath.Dir(filepath.Dir(filepath.Dir(required(t, openClaws[0].entry))))
			m := claw.here.boot(t, machine.Options{Users: true, Binds: map[string]string{
				"/opt/openclaw/node_modules": modules, "/opt/present/node_modules": present,
			}})
			if !claw.here.user {
				m.Run(t, "useradd", "--create-home", "claw")
			}
			configuration := openClawConfiguration("/opt/openclaw", claw.probe)
			install(t, m.Scope, m, configuration, claw.flags...)
			testOpenClaw(t, m, claw.restart, claw.handoff, claw.ways, configuration)
			if journal := m.Journal(t, service); !strings.Contains(journal, claw.budget) {
				t.Errorf("no %q: OpenClaw does not know how long it may take to stop\n%s", claw.budget, journal)
			}
			t.Run("prewarmed", func(t *testing.T) { testPrewarmed(t, m, configuration, claw.restart) })
			if !claw.here.user {
				t.Run("prewarmed, values of its own", func(t *testing.T) { testPrewarmedValues(t, m) })
				t.Run("TLS", func(t *testing.T) { testTLSOpenClaw(t, m) })
			}
			t.Run("hardened", func(t *testing.T) { testHardenedOpenClaw(t, m) })
		})
	}
}

// findsModules: it has been told to find its modules without Node's own search, and so has each process that it starts of its own package.
func findsModules(t *testing.T, m *machine.Machine) {
	t.Helper()
	worker := strconv.Itoa(gatewayStatus(t, m.Scope).Worker.PID)
	children, _ := m.Output("pgrep", "--parent", worker, "--full", `/openclaw/dist/.*worker\.js`) // 1: there is none
	if t.Logf("its processes are %q", strings.Fields(children)); children == "" && strings.HasPrefix(t.Name(), "TestOpenClaw/2026.9.") {
		t.Error("no process of its own package is seen, which this version has")
	}
	for _, pid := range append(strings.Fields(children), worker) {
		environ, err := m.Output("cat", "/proc/"+pid+"/environ")
		if err != nil && pid != worker {
			continue // it has ended
		}
		if !strings.Contains(environ, "GATEWAY_RESOLVE=") {
			t.Errorf("process %s has not been told how to find its modules: %v", pid, err)
		}
	}
}

// openClawConfiguration runs the OpenClaw in that folder.
func openClawConfiguration(folder, probe string, environment ...string) string {
	return `
worker:
  command: [/usr/local/bin/node, ` + folder + `/node_modules/openclaw/dist/index.js,
    gateway, run, --port, "18789", --bind, loopback, --allow-unconfigured]
  environment:
    - OPENCLAW_SUPERVISOR_MODE=external
    - OPENCLAW_SERVICE_REPAIR_POLICY=external
    - OPENCLAW_GATEWAY_PORT=18789
    - OPENCLAW_GATEWAY_TOKEN=a-token-that-is-long-enough-for-a-test
` + strings.Join(environment, "") + `ready:
  path: ` + probe + "\n"
}

// testTLSOpenClaw: where OpenClaw speaks TLS (gateway.tls.enabled), the status says what to write into ready.path, and with that it is
// ready.
func testTLSOpenClaw(t *testing.T, m *machine.Machine) {
	const state = "/home/claw/.openclaw-tls"
	m.Run(t, "runuser", "-u", "claw", "--", "mkdir", "-p", state)
	m.Run(t, "runuser", "-u", "claw", "--", "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
		"-days", "2", "-subj", "/CN=localhost", "-keyout", state+"/key.pem", "-out", state+"/cert.pem")
	m.WriteFile(t, state+"/openclaw.json", `{"gateway": {"mode": "local", "tls": {"enabled": true, "autoGenerate": false, "certPath": "`+
		state+`/cert.pem", "keyPath": "`+state+`/key.pem"}}}`, 0o644)
	m.Run(t, "chown", "claw:", state+"/openclaw.json")
	configure := func(path string) {
		m.WriteFile(t, configPath(m.Scope), openClawConfiguration("/opt/openclaw", path, "    - OPENCLAW_STATE_DIR="+state+"\n  start: at-once\n"), 0o600)
		m.Run(t, "chown", "claw:", configPath(m.Scope))
	}
	configure("/startupz")
	m.Systemctl(t, "start", service)
	const named = "ask for https://"
	u := statusText(t, m.Scope, "it speaks TLS there: "+named)
	_, after, _ := strings.Cut(u.StatusText, named)
	address, _, _ := strings.Cut(after, " ")
	wantStatus(t, m.Scope, 0, "starting", named+address)
	generation := gatewayStatus(t, m.Scope).Worker.Generation
	configure("https://" + address)
	serving(t, m.Scope, generation+1)
	if s := gatewayStatus(t, m.Scope); s.Verdict != "ok" {
		t.Errorf("with ready.path https://%s the status is %+v", address, s)
	}
	stopped(t, m, func() { m.Systemctl(t, "stop", service) })
}

// testHardenedOpenClaw has the present OpenClaw serve a page and restart in all of the sandbox that there is.
func testHardenedOpenClaw(t *testing.T, m *machine.Machine) {
	m.Systemctl(t, "stop", service)
	home := "/home/claw"
	if m.User != "" {
		home = m.Home()
	}
	m.WriteFile(t, configPath(m.Scope), openClawConfiguration("/opt/present", openClaws[0].probe,
		"    - OPENCLAW_STATE_DIR="+home+"/.openclaw-present\n"), 0o600)
	if m.User == "" {
		m.Run(t, "chown", "claw:", configPath(m.Scope))
	}
	m.Run(t, gatewayPath, "install", "--"+kind(m.Scope), "--hardened", "--external")
	for generation := 1; generation <= 2; generation++ {
		if code, body := get(t, m, ipv4, "/"); code != http.StatusOK || !strings.Contains(body, "<html") {
			t.Fatalf("the page of generation %d: %d %s", generation, code, body)
		}
		serving(t, m.Scope, generation)
		s := gatewayStatus(t, m.Scope)
		if privileges := m.Run(t, "grep", "NoNewPrivs", fmt.Sprintf("/proc/%d/status", s.Worker.PID)); !strings.Contains(privileges, "1") || s.Verdict != "ok" {
			t.Errorf("%s: the status is %+v", privileges, s)
		}
		m.Run(t, gatewayPath, "restart")
	}
	silent(t, m.Scope)
	stopped(t, m, func() { m.Systemctl(t, "stop", service) })
	if journal := m.Journal(t, service); strings.Contains(journal, "EROFS") || strings.Contains(journal, "EPERM") {
		t.Errorf("OpenClaw was forbidden something:\n%s", journal)
	}
}

func testOpenClaw(t *testing.T, m *machine.Machine, signal string, leavesRow bool, names []string, configuration string) {
	if u := m.Unit(t, service); u.ActiveState != "inactive" {
		t.Fatalf("%s is %s before anybody connected", service, u.ActiveState)
	}
	before := inodes(t, m)
	if want := []string{ipv4, ipv6}; !slices.Equal(slices.Sorted(maps.Keys(before)), want) {
		t.Fatalf("systemd listens on %v, want %v", before, want)
	}
	for _, address := range []string{ipv4, ipv6} {
		start := time.Now()
		code, body := get(t, m, address, "/healthz")
		t.Logf("GET http://%s/healthz: %d %s after %s", address, code, body, time.Since(start).Round(time.Millisecond))
		if code != http.StatusOK {
			t.Fatalf("GET http://%s/healthz: %d %s", address, code, body)
		}
	}
	serving(t, m.Scope, 1)
	checkFamily(t, m, before)
	findsModules(t, m)

	ask := func(t *testing.T, old status) { m.Run(t, "kill", "-"+signal, strconv.Itoa(old.Worker.PID)) }
	ways := map[string]func(t *testing.T, old status){
		"gateway restart":   func(t *testing.T, _ status) { m.Run(t, gatewayPath, "restart") },
		"systemctl restart": func(t *testing.T, _ status) { m.Systemctl(t, "restart", service) },
		"kill -9 of the worker": func(t *testing.T, old status) {
			kill(t, m, old.Worker.PID)
			serving(t, m.Scope, old.Worker.Generation+1)
		},
		"kill -9 of the launcher": func(t *testing.T, old status) {
			kill(t, m, old.Launcher.PID)
			servingAnew(t, m.Scope, old.Launcher.PID)
		},
		"its own restart": func(t *testing.T, old status) {
			cursor := m.JournalCursor(t, service)
			ended := handleOf(t, process(t, m, old.Worker.PID))
			ask(t, old)
			ended.awaitEnd(t)
			if leavesRow {
				handedOff(t, m, old.Worker.PID)
			}
			serving(t, m.Scope, old.Worker.Generation+1)
			// The next one may need another: on a machine that is busy enough OpenClaw gives its own start up, after 5 s of it.
			var history api.History
			if err := json.Unmarshal([]byte(m.Run(t, gatewayPath, "status", "--history", "--json")), &history); err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(history.Generations, func(life api.Life) bool { return life.Generation == old.Worker.Generation })
			if life := history.Generations[max(i, 0)]; i < 0 || life.Code != 0 || life.Reason != "restart" || !strings.Contains(life.Detail, "the worker itself asked") {
				t.Errorf("generation %d ended as %+v, want a restart that the worker asked for", old.Worker.Generation, life)
			}
			journal := m.JournalAfter(t, cursor, service)
			if !strings.Contains(journal, "the worker itself asked for the restart") {
				t.Errorf("the journal does not say who asked:\n%s", journal)
			}
			_, after, _ := strings.Cut(journal, fmt.Sprintf("worker ended generation=%d ", old.Worker.Generation))
			between, _, started := strings.Cut(after, fmt.Sprintf("worker started generation=%d ", old.Worker.Generation+1))
			if !started || strings.Contains(between, "after a pause") {
				t.Errorf("want generation %d after %d, and without a pause:\n%s", old.Worker.Generation+1, old.Worker.Generation, journal)
			}
		},
		"its own restart within the process": func(t *testing.T, _ status) {
			m.WriteFile(t, configPath(m.Scope), strings.Replace(configuration, "environment:\n", "environment:\n    - OPENCLAW_NO_RESPAWN=1\n", 1), 0o644)
			m.Run(t, gatewayPath, "reload")
			old := gatewayStatus(t, m.Scope)
			ask(t, old)
			for _, address := range []string{ipv4, ipv6} {
				m.WaitJournal(t, service, 2*bound, "worker listens again", "address="+address)
			}
			if now := gatewayStatus(t, m.Scope); now.Worker.PID != old.Worker.PID || now.Worker.State != "ready" {
				t.Errorf("the worker is %+v, was %+v: want the same process", now.Worker, old.Worker)
			}
		},
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			old := gatewayStatus(t, m.Scope)
			underLoad(t, m, ipv4, "/healthz", loops, func(*load.Load) { ways[name](t, old) })
			if code, body := get(t, m, ipv6, "/healthz"); code != http.StatusOK {
				t.Errorf("GET http://%s/healthz: %d %s", ipv6, code, body)
			}
			checkFamily(t, m, before)
		})
	}
	t.Run("stop", func(t *testing.T) {
		stopped(t, m, func() { m.Systemctl(t, "stop", service) })
		if journal := m.Journal(t, service); !strings.Contains(journal, `exit="exit code 0" reason=stop`) {
			t.Errorf("OpenClaw has not ended by itself when it was told to stop:\n%s", journal)
		}
	})
}

// handedOff fails the test if OpenClaw has not left word for its supervisor that the process, which has ended, wants
// another in its place. It asks with OpenClaw's own command, which takes that word away.
func handedOff(t *testing.T, m *machine.Machine, pid int) {
	t.Helper()
	output := m.Run(t, "runuser", "-u", "claw", "--", "env", "HOME=/home/claw", nodePath, openclawEntry,
		"gateway", "restart-handoff", "consume", "--expected-pid", strconv.Itoa(pid), "--json")
	var answer struct {
		Status, Reason string
		HandoffPID     int
		Handoff        struct {
			PID                         int
			RestartKind, SupervisorMode string
		}
	}
	if err := json.Unmarshal([]byte(output), &answer); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	word := answer.Handoff
	accepted := answer.Status == "accepted" && word.PID == pid && word.RestartKind == "full-process" && word.SupervisorMode == "external"
	// It holds for a minute, which on a machine that is busy enough the command takes to start.
	late := answer.Reason == "expired" && answer.HandoffPID == pid
	if !accepted && !late {
		t.Errorf("OpenClaw's word to its supervisor is %s, want one of a full restart of pid %d", output, pid)
	}
}

// checkFamily checks who is who: the launcher is the unit's main process, the
// worker its child, and both hold what systemd holds and nobody else does.
func checkFamily(t *testing.T, m *machine.Machine, want map[string]uint64) {
	t.Helper()
	if got := inodes(t, m); !maps.Equal(got, want) {
		t.Errorf("listening sockets (inode by address) are %v, want %v as in the beginning", got, want)
	}
	serving(t, m.Scope, 1) // whoever answers may do so before the launcher knows that it is ready
	s := gatewayStatus(t, m.Scope)
	unit := m.Unit(t, service)
	if unit.MainPID != s.Launcher.PID {
		t.Errorf("the main process of %s is %d, the launcher %d", service, unit.MainPID, s.Launcher.PID)
	}
	launcher, worker := process(t, m, s.Launcher.PID), process(t, m, s.Worker.PID)
	if worker.ParentPID != launcher.PID {
		t.Errorf("the worker's parent is %d, want the launcher, %d", worker.ParentPID, launcher.PID)
	}
	for _, p := range []machine.Process{launcher, worker} {
		if !strings.HasPrefix(p.Cgroup, m.Cgroup(service)) {
			t.Errorf("pid %d is in cgroup %s, want below that of %s", p.PID, p.Cgroup, service)
		}
	}
	family := []int{m.ManagerPID(t), launcher.PID, worker.PID}
	for address, inode := range want {
		if got := holding(t, m, inode); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(family))) {
			t.Errorf("%s is held by %v, want systemd, launcher and worker, %v", address, got, family)
		}
	}
	for _, line := range s.Sockets {
		if line.Inode != want[line.Address] {
			t.Errorf("the status says that %s has inode %d, want %d", line.Address, line.Inode, want[line.Address])
		}
		if line.Backlog != 4096 {
			t.Errorf("%s has a backlog of %d, want 4096", line.Address, line.Backlog)
		}
	}
	if s.Verdict != "ok" || s.Launcher.Holder != "systemd" || s.Unit.Scope != kind(m.Scope) || s.Unit.MainPID != unit.MainPID {
		t.Errorf("the status is %+v", s)
	}
}
