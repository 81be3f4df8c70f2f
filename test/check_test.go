package test

import (
	"bufio"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"openclaw-gateway/test/machine"
)

// checked is what "gateway config check" says and exits with.
type checked struct {
	code     int
	out, err string
}

func check(t *testing.T, s *machine.Scope, arguments ...string) checked {
	t.Helper()
	command := s.Command(t.Context(), gatewayPath, append([]string{"config", "check"}, arguments...)...)
	var out, err strings.Builder
	command.Stdout, command.Stderr = &out, &err
	return checked{exitCode(t, command), out.String(), err.String()}
}

func (c checked) want(t *testing.T, code int, words ...string) {
	t.Helper()
	// A table is as wide as its longest line.
	all := strings.Join(strings.Fields(c.out+c.err), " ")
	missing := slices.DeleteFunc(words, func(word string) bool { return strings.Contains(all, word) })
	if c.code != code || len(missing) > 0 {
		t.Errorf("gateway config check exits with %d, want %d, and lacks %q:\n%s%s", c.code, code, missing, c.out, c.err)
	}
	if code != 0 && strings.Contains(c.out, ": valid") {
		t.Errorf("gateway config check exits with %d, and says valid:\n%s%s", c.code, c.out, c.err)
	}
}

// TestConfigCheck: what an edit would do is known before the save.
func TestConfigCheck(t *testing.T) { inScopes(t, testConfigCheck) }

func testConfigCheck(t *testing.T, here place) {
	const draft = "/tmp/draft.yaml"
	base := worker("/usr/bin/python3", workersPath+"/tells.py") + "  environment: [TOKEN=hush]\n"
	m := here.boot(t, machine.Options{})
	root, file := m.As(m.System()), configPath(m.Scope)
	install(t, m.Scope, m, base+"stop: {timeout: 10s}\n")
	// The launcher's environment counts, not that of whoever asks.
	dropIn(t, m, "Environment=GATEWAY_READY_TIMEOUT=4m\n")
	m.WriteFile(t, "/etc/bad.env", "LISTEN_FDS=1\n", 0o644)
	m.WriteFile(t, "/etc/odd.env", "export A=1\n", 0o644)
	root.Run(t, "useradd", "--create-home", "mallory")

	m.WriteFile(t, draft, base, 0o644)
	m.Systemctl(t, "stop", socket, service)
	check(t, m.Scope, draft).want(t, 0, draft+": valid", "not compared with a running launcher: there is none")
	t.Run("without a launcher", func(t *testing.T) { checkAlone(t, m, draft) })
	m.Systemctl(t, "start", socket)
	get(t, m, ipv4, "/")
	serving(t, m.Scope, 1)
	// What cannot work is said beside what would change.
	m.WriteFile(t, draft, worker("/no/such/program"), 0o644)
	check(t, m.Scope, draft).want(t, 1, "error: correct worker.command (draft.yaml:2): its program cannot be started")
	before := gatewayStatus(t, m.Scope)
	k := &keyWalk{Machine: m}
	k.mark(t)

	for _, test := range []struct {
		name, draft string
		code        int
		words       []string
	}{
		{"nothing", base + "stop: {timeout: 10000ms}\n", 0, []string{draft + ": valid", "nothing would change"}},
		{
			"live", base + "stop: {timeout: 10s}\nlog: {level: debug}\nrestart: {backoff_max: 1m}\n", 0,
			[]string{"log.level from info to debug at once", "restart.backoff_max from 2m to 1m with the next failure", "the worker would go on as it is"},
		},
		{
			"another worker", worker("/bin/true") + "  environment: [TOKEN=husher]\n  start: at-once\nstop: {timeout: 10s}\n", 0,
			[]string{
				"worker.command from /usr/bin/python3 /usr/local/lib/workers/tells.py to /bin/true with the next generation, now",
				"worker.environment from TOKEN to TOKEN (edited) with the next generation",
				"worker.start from on-demand to at-once with the next start of the launcher",
				"the worker would be replaced by the next generation",
			},
		},
		{
			"the launcher's variable wins", base + "stop: {timeout: 10s}\nready: {timeout: 1s}\n", 0, []string{"nothing would change"},
		},
		{
			"longer than the unit allows", base + "stop: {timeout: 20s}\n", 0,
			[]string{"stop.timeout from 10s to 20s with the next generation, now, and in full when \"gateway install\"", "run \"gateway install\" again"},
		},
		{
			"an address more", "listen: ['" + ipv4 + "', '" + ipv6 + "', '127.0.0.1:1']\n" + base + "stop: {timeout: 10s}\n", 0,
			[]string{"127.0.0.1:1] when \"gateway install\" has rendered the units again", "the worker would go on as it is; after the save run \"gateway install\" again"},
		},
		{
			"other addresses", "listen: ['127.0.0.1:1']\n" + base + "stop: {timeout: 10s}\nlog: {level: debug}\n", 0,
			[]string{"to [127.0.0.1:1] when \"gateway install\"", "log.level from info to debug when \"gateway install\"", "the worker would go on as it is; after"},
		},
		{
			"mistakes", "lisen: []\nready: {timeout: 5}\nworker:\n  comand: [x]\n", 1,
			[]string{draft + ":1: lisen", "listen?", draft + ":4: worker.comand", "worker.command?"},
		},
		{
			"rejected", base + "  environment_file: /etc/bad.env\n", 1,
			[]string{"would reject it", draft + ":4: worker.environment_file", "LISTEN_FDS is set by the launcher"},
		},
		{"empty", "", 1, []string{draft + ":1: the file is empty"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m.WriteFile(t, draft, test.draft, 0o644)
			got := check(t, m.Scope, draft)
			got.want(t, test.code, test.words...)
			if strings.Contains(got.out+got.err, "hush") {
				t.Errorf("a secret is printed: %+v", got)
			}
		})
	}
	m.WriteFile(t, draft, base, 0o644)
	check(t, m.Scope).want(t, 0, file+": valid", "nothing would change")
	check(t, m.Scope, "--"+kind(m.Scope)).want(t, 0, file+": valid", "nothing would change")
	// Whoever may not ask the launcher still learns of mistakes.
	other, err := root.Output("runuser", "-u", "mallory", "--", gatewayPath, "config", "check", draft)
	if err != nil || !strings.Contains(other, draft+": valid") {
		t.Errorf("another user: %q, %v", other, err)
	}

	t.Run("in a directory of somebody else", func(t *testing.T) { checkWithStranger(t, root, draft) })

	// It was all the same to the launcher.
	after := gatewayStatus(t, m.Scope)
	if after.Worker.PID != before.Worker.PID || after.Verdict != "ok" || after.Config.State != "applied" {
		t.Errorf("the status is %+v, was %+v", after, before)
	}
	for line := range strings.Lines(k.journal(t)) {
		if !strings.Contains(line, "asked for a check") && !strings.Contains(line, "worker:") {
			t.Errorf("the launcher logged %s", line)
		}
	}
}

// checkAlone: what cannot work is known without a launcher, and nothing of it is executed.
func checkAlone(t *testing.T, m *machine.Machine, draft string) {
	prepare(t, m)
	root := m.As(m.System())
	root.Run(t, "/bin/sh", "-c", "mkdir -m 700 /opt/private && cp /bin/true /opt/private/server && echo A=1 >/opt/private/env && "+
		"printf '#!/gone/sh\\n' >/opt/orphaned && chmod 755 /opt/orphaned && printf '#!/bin/sh\\ntouch /tmp/executed\\n' >/opt/bun && chmod 755 /opt/bun && cp /opt/bun /opt/data && chmod 644 /opt/data && cp /opt/data /opt/server.ts")
	openclaw := func(more ...string) string {
		return worker(append([]string{nodePath, clawEntry, "gateway", "run"}, more...)...)
	}
	const port = "--port=18789"
	owned := openclaw(port) + "  environment_file: /opt/private/env\n"
	for _, test := range []struct {
		name, draft string
		code        int
		words       []string
	}{
		{"fine", openclaw(port, "--bind", "loopback"), 0, []string{draft + ": valid not compared with a running launcher"}},
		{"no program", worker("/no/such/program"), 1, []string{"error: correct worker.command (draft.yaml:2): its program cannot be started"}},
		{"no script", worker("/usr/bin/python3", "/opt/gone.py"), 1, []string{"error: correct worker.command (draft.yaml:2): ", "python3 is to run /opt/gone.py, which is not there"}},
		{"no interpreter", worker("/opt/orphaned"), 1, []string{"error: correct worker.command (draft.yaml:2): ", `/opt/orphaned is a script for "/gone/sh", which is not there`}},
		{"no directory", worker("/bin/true") + "  directory: /opt/gone\n", 1, []string{"error: correct worker.directory (draft.yaml:3): /opt/gone is not there"}},
		{"no alarm", "alarm:\n  command: [/opt/gone]\n", 1, []string{"error: correct alarm.command (draft.yaml:2), or nobody hears", "/opt/gone"}},
		{"an alarm that is not in the PATH", "alarm:\n  command: [ring]\n", 1, []string{"error: correct alarm.command (draft.yaml:2)", `"ring" is not in the PATH`}},
		{"an alarm that cannot be executed", "alarm:\n  command: [/opt/data]\n", 1, []string{"error: correct alarm.command (draft.yaml:2)", "permission denied"}},
		{"an alarm", "alarm:\n  command: [systemctl, start, alarm.service]\n", 0, []string{draft + ": valid"}},
		{"not in the PATH", worker("no-such-program"), 1, []string{"error: ", "no-such-program", "PATH"}},
		{"not executable", worker("/opt/data"), 1, []string{"error: ", "/opt/data", "permission denied"}},
		{"no entry", worker(nodePath, "/opt/gone/node_modules/openclaw/dist/index.js", "gateway", port), 1, []string{"error: ", "OpenClaw's entry file", "/opt/gone"}},
		{"no environment file", openclaw(port) + "  environment_file: /etc/gone.env\n", 1, []string{"error: worker.environment_file (draft.yaml:3) cannot be used", "/etc/gone.env"}},
		{"one that need not be", openclaw(port) + "  environment_file: -/etc/gone.env\n", 0, []string{"valid"}},
		{"a line of a shell", openclaw(port) + "  environment_file: /etc/odd.env\n", 0, []string{"warning: worker.environment_file (draft.yaml:3): /etc/odd.env:1 begins with export", draft + ": valid"}},
		{"a variable of the launcher's", openclaw(port) + "  environment_file: /etc/bad.env\n", 1, []string{"error: worker.environment_file (draft.yaml:3)", "LISTEN_FDS is set by the launcher"}},
		{"another port", openclaw("--port", "18790"), 1, []string{"error: worker.command (draft.yaml:2) makes OpenClaw listen on port 18790", "write port 18789"}},
		{"another port, perhaps", worker("/bin/true", "--port", "18790"), 0, []string{"warning: worker.command (draft.yaml:2) has --port 18790", draft + ": valid"}},
		{"an address that overlaps", openclaw(port, "--bind", "lan"), 1, []string{"error: with --bind lan OpenClaw binds 0.0.0.0:18789"}},
		{"Bun", worker("/opt/bun", clawEntry, "gateway", "run", port) + "  handoff: preload\n", 1, []string{"error: /opt/bun is Bun, which cannot inherit sockets"}},
		{"Bun, perhaps", worker("/opt/bun", "/opt/server.ts") + "  handoff: listen-fds\n", 0, []string{"warning: /opt/bun is Bun", draft + ": valid"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m.WriteFile(t, draft, test.draft, 0o644)
			got := check(t, m.Scope, draft)
			if strings.Contains(got.err, "warning: ") != strings.HasPrefix(test.words[0], "warning: ") {
				t.Errorf("it warns: %s", got.err)
			}
			got.want(t, test.code, test.words...)
		})
	}
	t.Run("an old Node.js", func(t *testing.T) {
		folder := filepath.Dir(filepath.Dir(clawEntry))
		edit(t, m, folder+"/package.json", ">=24.16.0 <25 || >=26.1.0", ">=99.1.0")
		m.WriteFile(t, draft, openclaw(port), 0o644)
		check(t, m.Scope, draft).want(t, 1, "error: "+nodePath+" is Node.js 24.21.0, and OpenClaw 2026.9.6 needs >=99.1.0: name such a one in worker.command (draft.yaml:2)")
	})
	edit(t, m, filepath.Dir(filepath.Dir(clawEntry))+"/package.json", ">=99.1.0", ">=24.16.0 <25 || >=26.1.0")
	t.Run("as the service's user", func(t *testing.T) {
		private := func(code int, words ...string) {
			t.Helper()
			m.WriteFile(t, draft, owned, 0o644)
			check(t, m.Scope, draft).want(t, code, words...)
			m.WriteFile(t, draft, worker("/opt/private/server"), 0o644)
			check(t, m.Scope, draft).want(t, code, words...)
		}
		if kind(m.Scope) == "user" {
			private(1, "error: ", "/opt/private/", "permission denied")
			return
		}
		private(0, "valid") // root's own
		dropIn(t, m, "User=mallory\nEnvironment=GATEWAY_READY_TIMEOUT=4m\n")
		private(1, "error: ", "/opt/private/", "permission denied")
		m.Run(t, "chown", "mallory", draft)
		check(t, m.Scope, draft, "--system").want(t, 1, "permission denied")
		dropIn(t, m, "Environment=GATEWAY_READY_TIMEOUT=4m\n")
		m.Run(t, "chown", "root", draft)
	})
	if _, err := root.Output("ls", "/tmp/executed"); err == nil {
		t.Error("a program that a configuration names was executed")
	}
	m.Systemctl(t, "daemon-reload")
}

// checkWithStranger: who has no runtime directory looks for a launcher in /tmp, where mallory has been first. Nothing of the
// file is told to her.
func checkWithStranger(t *testing.T, root *machine.Machine, draft string) {
	root.Run(t, "useradd", "victim")
	uid := strings.TrimSpace(root.Run(t, "id", "-u", "victim"))
	directory := "/tmp/openclaw-gateway-" + uid
	stranger := root.Command(t.Context(), "runuser", "-u", "mallory", "--", "/usr/bin/python3", "-u", "-c", `
import os, socket, sys, threading
os.makedirs("`+directory+`")
s = socket.socket(socket.AF_UNIX)
s.bind("`+directory+`/control.sock")
os.chmod("`+directory+`/control.sock", 0o666)
s.listen()
print("listening")
def end():
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=end).start()
while True:
    c = s.accept()[0]
    heard = c.recv(100000)
    if heard:
        print("heard", heard)
        c.sendall(b'HTTP/1.0 200 OK\r\n\r\n{"worker":{"state":"ready"}}\n')
    c.close()
`)
	stdin, err := stranger.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := stranger.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(output)
	if line, err := said.ReadString('\n'); err != nil {
		t.Fatalf("the stranger said %q, %v", line, err)
	}
	as := func(user string, arguments ...string) (string, int) {
		command := root.Command(t.Context(), "runuser", append([]string{"-u", user, "--", "env", "-u", "XDG_RUNTIME_DIR", gatewayPath}, arguments...)...)
		var text strings.Builder
		command.Stdout, command.Stderr = &text, &text
		code := exitCode(t, command)
		return text.String(), code
	}
	for _, test := range []struct {
		arguments []string
		code      int
		words     []string
	}{
		{[]string{"config", "check", "--user", draft}, 0, []string{draft + ": valid", "not compared with a running launcher: ", directory}},
		{[]string{"restart", "--user"}, 1, []string{directory}},
		{[]string{"status", "--user"}, 1, []string{directory, "of user mallory"}},
		{[]string{"status", "--user", "--history"}, 1, []string{directory}},
		{[]string{"doctor", "--user"}, 1, []string{directory}},
	} {
		text, code := as("victim", test.arguments...)
		missing := slices.DeleteFunc(test.words, func(word string) bool { return strings.Contains(text, word) })
		if code != test.code || len(missing) > 0 {
			t.Errorf("gateway %s exits with %d, want %d, and lacks %q:\n%s", test.arguments, code, test.code, missing, text)
		}
	}
	_ = stdin.Close()
	heard, err := io.ReadAll(said)
	if _ = stranger.Wait(); err != nil || len(heard) > 0 {
		t.Errorf("the stranger %s (%v)", heard, err)
	}
	root.Run(t, "rm", "-r", directory)
}

// TestConfigCheckByHand: the addresses that are to be opened are looked at, and
// not touched.
func TestConfigCheckByHand(t *testing.T) { inScopes(t, testConfigCheckByHand) }

func testConfigCheckByHand(t *testing.T, here place) {
	const draft = "/tmp/draft.yaml"
	m := here.boot(t, machine.Options{})
	m.WriteFile(t, configPath(m.Scope), "{}\n", 0o644)
	h := runByHand(t, m)
	m.WriteFile(t, draft, "listen: ['"+ipv4+"', '127.0.0.1:18791']\n", 0o644)
	check(t, m.Scope, draft).want(t, 0, "listen from [127.0.0.1:18789 [::1]:18789] to [127.0.0.1:18789 127.0.0.1:18791] with the next generation, now",
		"no worker runs: the first client would start the new one")
	for _, occupied := range []string{"127.0.0.1:18792", "0.0.0.0:18792"} {
		m.WriteFile(t, draft, "listen: ['"+occupied+"']\n", 0o644)
		check(t, m.Scope, draft).want(t, 0, "to ["+occupied+"]")
	}
	free := occupy(t, m, "127.0.0.1:18792")
	for _, occupied := range []string{"127.0.0.1:18792", "0.0.0.0:18792"} {
		m.WriteFile(t, draft, "listen: ['"+occupied+"']\n", 0o644)
		check(t, m.Scope, draft).want(t, 1, "would reject it: "+draft+":1: listen: "+occupied, "python3", "gateway reclaim --force "+occupied)
	}
	m.WriteFile(t, draft, "listen: ['0.0.0.0:18789']\n", 0o644)
	check(t, m.Scope, draft).want(t, 1, "would reject it", "cannot be bound while "+ipv4+" is held")
	free()
	if s := gatewayStatus(t, m.Scope); len(s.Sockets) != 2 || s.Verdict != "waiting" {
		t.Errorf("the status is %+v\n%s", s, h.logged())
	}
}

// TestConfigCheckOfTwo: with a launcher in each scope the file tells which one it
// is for, or the caller does.
func TestConfigCheckOfTwo(t *testing.T) { onBoth(t, testConfigCheckOfTwo) }

func testConfigCheckOfTwo(t *testing.T, here place) {
	m := here.boot(t, machine.Options{Users: true})
	install(t, m.Scope, m, "listen: ['127.0.0.1:18790']\n")
	get(t, m, "127.0.0.1:18790", "/healthz")
	alice := m.AddUser(t, "alice")
	own := alice.Home() + "/.config/openclaw-gateway/config.yaml"
	alice.Run(t, gatewayPath, "install", "--user", "--now")
	get(t, m, ipv4, "/healthz")
	serving(t, alice, 1)
	if !strings.Contains(m.ReadFile(t, alice.Home()+"/.config/openclaw-gateway/config.schema.json"), "2020-12") {
		t.Error("no schema lies beside the configuration")
	}
	// Hers is the one that is asked about, and the system's is another user's.
	check(t, alice, own).want(t, 0, own+": valid", "the user scope", "nothing would change")
	check(t, alice).want(t, 0, own+": valid", "the user scope", "nothing would change")
	check(t, alice, configFile).want(t, 0, "valid", "not compared", "another user's")
	alice.Run(t, "sh", "-c", "echo '{}' > "+alice.Home()+"/draft.yaml")
	check(t, alice, alice.Home()+"/draft.yaml").want(t, 0, "valid", "not compared", "one in system scope and one in this user's scope", "--system or --user")
	check(t, alice, "--user", alice.Home()+"/draft.yaml").want(t, 0, "the user scope", "nothing would change")
}

// TestStopTimeoutEdit: a stop.timeout that systemd would cut short is a problem,
// with the command that mends it.
func TestStopTimeoutEdit(t *testing.T) { onBoth(t, testStopTimeoutEdit) }

func testStopTimeoutEdit(t *testing.T, here place) {
	m := here.boot(t, machine.Options{Users: true})
	t.Run("system", func(t *testing.T) { editStopTimeout(t, m, m.Scope, "--system", "--run-as", "root") })
	t.Run("run as", func(t *testing.T) {
		m.Run(t, "useradd", "--create-home", "claw")
		editStopTimeout(t, m, m.Scope, "--system", "--run-as", "claw")
	})
	alice := m.AddUser(t, "alice")
	t.Run("user", func(t *testing.T) { editStopTimeout(t, m, alice, "--user") })
}

func editStopTimeout(t *testing.T, m *machine.Machine, s *machine.Scope, flags ...string) {
	file := configPath(s)
	write := func(timeout string) {
		t.Helper()
		s.Run(t, "sh", "-c", "mkdir -p \"$(dirname "+file+")\" && echo 'stop: {timeout: "+timeout+"}' > "+file)
	}
	write("10s")
	s.Run(t, gatewayPath, append([]string{"install", "--now"}, flags...)...)
	if code, _ := get(t, m, ipv4, "/healthz"); code != http.StatusOK {
		t.Fatalf("answered %d", code)
	}
	serving(t, s, 1)
	before := gatewayStatus(t, s).Worker.Generation
	write("20s")
	s.Run(t, gatewayPath, "reload")
	problem := "stop.timeout is 20s, but systemd kills the service after 13s (TimeoutStopSec), and 23s are needed: run \"gateway install\" again"
	if got := gatewayStatus(t, s); got.Verdict != "degraded" || !strings.Contains(strings.Join(got.Problems, " "), problem) || got.Worker.Generation != before+1 {
		t.Errorf("the status is %+v, want the problem %q", got, problem)
	}
	if journal := s.Journal(t, service); !strings.Contains(journal, strconv.Quote(problem)[1:40]) || !strings.Contains(journal, "key=stop.timeout from=10s to=20s") {
		t.Errorf("the journal lacks %q:\n%s", problem, journal)
	}
	// It holds at once, and nothing has to be done for it.
	output, err := s.Command(t.Context(), gatewayPath, append([]string{"install"}, flags...)...).CombinedOutput()
	if said := string(output); err != nil || !strings.Contains(said, "+TimeoutStopSec=23") || strings.Contains(said, "restart") || strings.Contains(said, "next: ") {
		t.Errorf("gateway install after an edit of stop.timeout: %v\n%s", err, said)
	}
	if took := s.Property(t, service, "TimeoutStopUSec"); took != "23s" {
		t.Errorf("the service that runs has %s to stop", took)
	}
	if got := gatewayStatus(t, s); got.Verdict != "ok" || len(got.Problems) > 0 || got.Worker.Generation != before+1 {
		t.Errorf("the status after gateway install is %+v", got)
	}
	s.Run(t, gatewayPath, "stop")
	s.Run(t, gatewayPath, append([]string{"uninstall"}, flags[0])...)
}
