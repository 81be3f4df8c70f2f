package test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"openclaw-gateway/test/machine"
)

// printedStatus runs "gateway status" for a person and returns what it prints and its
// exit status.
func printedStatus(t testing.TB, s *machine.Scope, arguments ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	output, err := s.Command(ctx, gatewayPath, append([]string{"status"}, arguments...)...).Output()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return string(output), 0
	case errors.As(err, &exit) && ctx.Err() == nil:
		return string(output), exit.ExitCode()
	default:
		t.Fatalf("gateway status: %v", err)
		return "", 0
	}
}

// wantStatus checks what "gateway status" prints.
func wantStatus(t testing.TB, s *machine.Scope, exit int, verdict string, words ...string) {
	t.Helper()
	text, code := printedStatus(t, s)
	if code != exit || !strings.HasPrefix(text, verdict+": ") {
		t.Errorf("exit status %d, want %d and %s:\n%s", code, exit, verdict, text)
	}
	wantWords(t, text, words...)
}

// wantWords checks that a text has all of the words.
func wantWords(t testing.TB, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q is missing:\n%s", word, text)
		}
	}
}

// nextRelease is the launcher of the next release, which the first who asks builds.
var nextRelease = sync.OnceValues(func() (string, error) {
	path := built + "-v99"
	return path, machine.Build(path, "VERSION=v99.0.0")
})

// TestStatus goes through what can be wrong with the port and its launcher, and
// asks "gateway status" each time.
func TestStatus(t *testing.T) { inScopes(t, testStatus) }

func testStatus(t *testing.T, here place) {
	next, err := nextRelease()
	if err != nil {
		t.Fatal(err)
	}
	const nextPath = "/usr/local/bin/gateway-v99"
	m := here.boot(t, machine.Options{Users: true, Binds: map[string]string{nextPath: next}})
	root := m.As(m.System())
	root.Run(t, "useradd", "--create-home", "mallory")
	mallory := func(arguments ...string) (string, int) {
		ctx, cancel := context.WithTimeout(t.Context(), bound)
		defer cancel()
		command := root.Command(ctx, "runuser", append([]string{"-u", "mallory", "--", gatewayPath, "status"}, arguments...)...)
		output, err := command.Output()
		if command.ProcessState == nil {
			t.Fatal(err)
		}
		return string(output), command.ProcessState.ExitCode()
	}
	scope, ctl := kind(m.Scope), systemctl(m.Scope)
	heldBy := "held by a process of user " + cmp.Or(m.User, "root") + " that cannot be seen from here"
	manager := fmt.Sprintf("systemd   pid %d ", m.ManagerPID(t))
	// What is seen of it by an ordinary user, to whom another user's manager tells nothing.
	wantMallory := func(t *testing.T, verdict string, words ...string) {
		t.Helper()
		exit := 0
		if m.User != "" {
			verdict, exit, words = "down", 3, []string{heldBy}
		}
		text, code := mallory()
		if code != exit || !strings.HasPrefix(text, verdict+": ") {
			t.Errorf("exit status %d, want %d and %s:\n%s", code, exit, verdict, text)
		}
		wantWords(t, text, words...)
		// Where nothing is wrong with the port it stands where everything does.
		full, _ := mallory("--full")
		wantWords(t, full, "processes could not be looked into", "as root")
		if shown := strings.Contains(text, "processes could not be looked into"); shown != (verdict == "down") {
			t.Errorf("%s, and the note on unseen processes is shown: %t\n%s", verdict, shown, text)
		}
	}
	// What root sees of a user's, besides what it is told to ask.
	wantRoot := func(t *testing.T, verdict string, words ...string) {
		t.Helper()
		if m.User == "" {
			return // root is who asks in all of these tests
		}
		wantStatus(t, root.Scope, 0, verdict, append(words, manager, "(user scope of alice)")...)
		asAlice := fmt.Sprintf("runuser --pty -u alice -- env XDG_RUNTIME_DIR=/run/user/%d gateway status --user", m.UID)
		text, code := printedStatus(t, root.Scope, "--system")
		if code != 3 {
			t.Errorf("with --system: exit status %d\n%s", code, text)
		}
		wantWords(t, text, "the launcher of user alice: `"+asAlice+"` tells of it")
		if text := root.Run(t, "/bin/sh", "-c", asAlice); !strings.HasPrefix(text, verdict+": ") {
			t.Errorf("%s says\n%s", asAlice, text)
		}
	}
	// A drop-in for as long as a sub-test takes, which leaves the service stopped.
	with := func(t *testing.T, lines string) {
		t.Helper()
		folder := runPath(m.Scope, service+".d")
		m.WriteFile(t, folder+"/test.conf", "[Service]\n"+lines, 0o644)
		m.Systemctl(t, "daemon-reload")
		t.Cleanup(func() {
			root.Run(t, "rm", "-r", folder)
			m.Systemctl(t, "daemon-reload")
			// A start that systemd has queued by itself cancels the first stop.
			if _, err := m.Output("sh", "-c", ctl+" stop "+service); err != nil {
				m.Systemctl(t, "stop", service)
			}
		})
	}

	t.Run("not installed", func(t *testing.T) {
		wantStatus(t, m.Scope, 3, "down", "gateway install --"+scope)
	})
	t.Run("not installed and taken", func(t *testing.T) {
		squatter := squat(t, m, "squatter", "/usr/bin/python3", workersPath+"/squat.py", "0.0.0.0:18789")
		wantStatus(t, m.Scope, 1, "foreign", "0.0.0.0:18789, which conflicts with 127.0.0.1:18789", "it is no OpenClaw gateway",
			"`"+ctl+" stop squatter.service`", fmt.Sprintf("pid %d", squatter))
		if text, _ := printedStatus(t, m.Scope); strings.Index(text, "stop squatter.service") > strings.Index(text, "nobody answers on") {
			t.Errorf("what helps comes after what cannot help before that:\n%s", text)
		}
	})

	t.Run("a stock service of the same name", func(t *testing.T) {
		m.WriteFile(t, stockEntry, stockScript(m), 0o644)
		m.WriteFile(t, runPath(m.Scope, service), "[Service]\nType=notify\nNotifyAccess=all\nExecStart="+nodePath+" "+stockEntry+" gateway\n", 0o644)
		m.Systemctl(t, "daemon-reload")
		wantStatus(t, m.Scope, 3, "down", "OpenClaw's own and not the launcher: it runs "+nodePath+" "+stockEntry+" gateway")
		m.Systemctl(t, "start", service)
		text, code := printedStatus(t, m.Scope)
		if code != 1 || !strings.HasPrefix(text, "rival: ") || strings.Contains(text, "launcher  pid") {
			t.Errorf("exit status %d\n%s", code, text)
		}
		wantWords(t, text, "OpenClaw's own and not the launcher", "`gateway adopt --"+scope+"` puts it behind the launcher", "`gateway doctor --"+scope+"`")
		if output, _ := m.Output(gatewayPath, "doctor", "--"+scope); !strings.Contains(output, "openclaw-unit-enabled") {
			t.Errorf("doctor says\n%s", output)
		}
		if output, err := m.Output(gatewayPath, "start", "--"+scope); err == nil || !strings.Contains(err.Error(), "OpenClaw's own and not the launcher") {
			t.Errorf("gateway start: %v %s", err, output)
		}
		m.Systemctl(t, "stop", service)
		root.Run(t, "rm", runPath(m.Scope, service))
		m.Systemctl(t, "daemon-reload")
	})

	install(t, m.Scope, m, "{}\n")
	t.Run("nobody has connected", func(t *testing.T) {
		wantStatus(t, m.Scope, 0, "waiting", "the first client of 127.0.0.1:18789 and [::1]:18789", "0 of 4096 waiting", manager)
		m.Systemctl(t, "stop", socket)
		wantStatus(t, m.Scope, 3, "down", ctl+" enable --now openclaw-gateway.socket")
		m.Systemctl(t, "start", socket)
	})
	t.Run("other users before the first client", func(t *testing.T) {
		wantMallory(t, "waiting", manager)
		wantRoot(t, "waiting")
	})

	get(t, m, ipv4, "/healthz")
	serving(t, m.Scope, 1)
	t.Run("serving", func(t *testing.T) {
		wantStatus(t, m.Scope, 0, "ok", "generation 1 serves 127.0.0.1:18789 and [::1]:18789", "launcher  pid", "worker    pid", manager,
			configPath(m.Scope)+", applied")
	})
	t.Run("on a terminal", func(t *testing.T) {
		on := func(columns int, options string) string {
			return strings.ReplaceAll(m.Run(t, "script", "-qec", fmt.Sprintf("stty cols %d; NO_COLOR=1 %s status %s", columns, gatewayPath, options), "/dev/null"), "\r\n", "\n")
		}
		for _, columns := range []int{60, 80} {
			for _, options := range []string{"", "--full", "--history"} {
				text := on(columns, options)
				for line := range strings.Lines(text) {
					if width := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); width > columns {
						t.Errorf("a line of %d columns on a terminal of %d: %s", width, columns, line)
					}
				}
				if options == "--history" {
					continue
				}
				cut := !strings.Contains(text, gatewayPath+" hello")
				if want := columns == 60 && options == ""; cut != want {
					t.Errorf("with %d columns and %q the worker's command line is cut: %t\n%s", columns, options, cut, text)
				}
			}
		}
		// As it is for an ordinary user.
		text := on(80, "")
		if lines := strings.Count(text, "\n"); lines > 10 || strings.Contains(text, "looked into") {
			t.Errorf("a healthy status of %d lines, want 10 at the most:\n%s", lines, text)
		}
	})
	t.Run("other users", func(t *testing.T) {
		wantMallory(t, "ok", "another user's", "sudo", "the launcher says to systemd: generation 1 serves", manager)
		wantRoot(t, "ok", "launcher  pid", "worker    pid")
		exit := 1
		if m.User != "" {
			exit = 3 // mallory has none
			asAlice := fmt.Sprintf("runuser --pty -u alice -- env XDG_RUNTIME_DIR=/run/user/%d ", m.UID)
			for _, called := range []string{"reload", "restart --now", "upgrade", "start", "stop --now", "logs -n 1", "status --history"} {
				way := asAlice + "gateway " + called + " --user"
				if called == "logs -n 1" {
					way = fmt.Sprintf("journalctl _UID=%d _SYSTEMD_USER_UNIT=%s", m.UID, service)
				}
				said, err := tried(t, root.Scope, append([]string{gatewayPath}, strings.Fields(called)...)...)
				if err == nil || !strings.Contains(said, "`"+way+"` is for that of user alice") {
					t.Errorf("root's gateway %s: %v\n%s", called, err, said)
				}
				if called == "reload" || called == "logs -n 1" || called == "status --history" { // which change nothing
					root.Run(t, "/bin/sh", "-c", way)
				}
			}
			text, _ := printedStatus(t, m.Scope, "--system")
			wantWords(t, text, "the launcher of user alice: `gateway status --user` tells of it")
		}
		if text, code := mallory("--history"); code != exit || text != "" {
			t.Errorf("the history: exit status %d\n%s", code, text)
		}
	})
	t.Run("fields", func(t *testing.T) { testStatusFields(t, m) })
	t.Run("another version", func(t *testing.T) {
		output, err := m.Output(nextPath, "status")
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("%v, want exit status 1", err)
		}
		wantWords(t, output, "degraded: ", "this program of version v99.0.0", "`"+ctl+" restart openclaw-gateway.service` brings the new one", "generation 3")
	})
	t.Run("hung", func(t *testing.T) {
		launcher := m.Unit(t, service).MainPID
		stopProcess(t, m, launcher)
		// At the same time, because each waits for an answer in vain.
		var asking sync.WaitGroup
		for command, words := range map[string][]string{
			"status":  {"degraded: ", "does not answer", "kill -CONT " + strconv.Itoa(launcher), "launcher  pid", "worker    pid", "exit status 1"},
			"restart": {"does not answer", "exit status 1"},
			"reload":  {"does not answer", "exit status 1"},
			"config check " + configPath(m.Scope): {
				": valid", "not compared with a running launcher: the launcher does not answer", "exit status 0",
			},
		} {
			asking.Go(func() {
				said, err := m.Output("sh", "-c", gatewayPath+" "+command+" 2>&1; echo exit status $?")
				if err != nil {
					t.Error(err)
				}
				wantWords(t, said, words...)
			})
		}
		asking.Wait()
		m.Run(t, "kill", "-CONT", strconv.Itoa(launcher))
		wantStatus(t, m.Scope, 0, "ok")
	})
	t.Run("escaped", func(t *testing.T) {
		// With our own socket, in a cgroup of its own.
		m.WriteFile(t, runPath(m.Scope, "escaped.service.d/socket.conf"), "[Service]\nSockets="+socket+"\n", 0o644)
		squatter := squat(t, m, "escaped", "/usr/bin/python3", workersPath+"/squat.py")
		wantStatus(t, m.Scope, 1, "foreign", fmt.Sprintf("pid %d", squatter), "`"+ctl+" stop escaped.service`", "generation 3")
	})
	t.Run("before the launcher is executed", func(t *testing.T) {
		// systemd's child has the sockets, and waits for somebody to read what it is to write.
		m.Systemctl(t, "stop", service)
		pipe := m.RuntimeDir() + "/pipe"
		m.Run(t, "mkfifo", pipe)
		with(t, "StandardOutput=file:"+pipe+"\n")
		m.Systemctl(t, "start", "--no-block", service)
		m.WaitUnit(t, service, bound, func(u machine.Unit) bool { return u.MainPID != 0 })
		wantStatus(t, m.Scope, 0, "starting", manager, "launcher  pid")
		// The other scope does not know the main process, which only root may look into before it is executed.
		other := map[string]string{"system": "--user", "user": "--system"}[scope]
		if text, code := printedStatus(t, root.Scope, other); code != 3 || !strings.Contains(text, "launcher  pid") {
			t.Errorf("with %s: exit status %d\n%s", other, code, text)
		}
	})
	t.Run("a launcher that cannot be executed", func(t *testing.T) {
		with(t, "ExecStart=\nExecStart=/nowhere/gateway run\nRestartSec=1h\n")
		m.Systemctl(t, "restart", "--no-block", service)
		m.WaitUnit(t, service, bound, func(u machine.Unit) bool { return u.SubState == "auto-restart" })
		logs := "gateway logs --system"
		if m.User != "" { // who may not read the journal
			logs = fmt.Sprintf("sudo journalctl _UID=%d _SYSTEMD_USER_UNIT=%s", m.UID, service)
		}
		wantStatus(t, m.Scope, 1, "degraded", "ended with exit status 203 (its program cannot be executed) (restarts so far: ", "`"+logs+"` shows why")
	})
	t.Run("a launcher that cannot start", func(t *testing.T) {
		for name, test := range map[string]struct{ lines, words string }{
			"no program":          {"ExecStart=\nExecStart=/nowhere/gateway run\n", "cannot be executed"},
			"a command before it": {"ExecStartPre=/bin/false\n", "has not started: a command before it has failed (ExecStartPre=)"},
			"no environment file": {"EnvironmentFile=/nowhere/environment\n", "has not started: "},
			"no working folder":   {"WorkingDirectory=/nowhere\n", "its working directory is not there"},
			"it ends":             {"ExecStart=\nExecStart=/bin/false\n", "exit status 1"},
		} {
			t.Run(name, func(t *testing.T) {
				with(t, test.lines+"RestartSec=10ms\n")
				m.Systemctl(t, "reset-failed", service) // else it counts on from before
				m.Systemctl(t, "start", "--no-block", service)
				m.WaitUnit(t, service, bound, func(u machine.Unit) bool { return u.NRestarts > 0 })
				for look := range 20 {
					text, code := printedStatus(t, m.Scope)
					if code != 1 || !strings.HasPrefix(text, "degraded: ") || !strings.Contains(text, test.words) || !strings.Contains(text, "systemd starts it again") {
						t.Fatalf("look %d: exit status %d, want degraded, 1 and %q\n%s", look, code, test.words, text)
					}
				}
			})
		}
	})
	t.Run("a launcher that is not started", func(t *testing.T) {
		m.Systemctl(t, "stop", service)
		m.Systemctl(t, "reset-failed", service) // it forgets how often it was started again
		with(t, "ExecStartPre=/bin/sleep 1h\n")
		waitingClient(t, m, ipv4)
		text, code := "", 0
		const want = "degraded: clients wait: no launcher comes up"
		for end := time.Now().Add(bound); !strings.HasPrefix(text, want) && time.Now().Before(end); {
			text, code = printedStatus(t, m.Scope) // nothing tells that a client has waited for so long
		}
		if code != 1 || !strings.HasPrefix(text, want) {
			t.Errorf("exit status %d\n%s", code, text)
		}
		wantWords(t, text, "a client has waited on "+ipv4+" for ", ", and systemd has not started the launcher: `"+ctl+" status "+service+"`")
	})
	t.Run("network namespace", func(t *testing.T) {
		with(t, "PrivateNetwork=yes\n")
		m.Systemctl(t, "restart", service)
		get(t, m, ipv4, "/healthz")
		serving(t, m.Scope, 1)
		launcher := strconv.Itoa(m.Unit(t, service).MainPID)
		// From the sockets' own namespace they can be counted, from the launcher's not.
		if text, code := printedStatus(t, m.Scope); code != 1 || !strings.Contains(text, "alive.queue is in vain") || strings.Contains(text, "connections unknown") {
			t.Errorf("exit status %d:\n%s", code, text)
		}
		enter := []string{"--target", launcher, "--net"}
		if m.User != "" {
			// A user's manager needs a user namespace for it, systemd.exec(5).
			enter = append(enter, "--user", "--preserve-credentials")
		}
		text, err := m.Output("nsenter", append(enter, gatewayPath, "status")...)
		if err == nil {
			t.Error("a worker of which nobody sees whether it hangs is ok")
		}
		wantWords(t, text, "connections unknown", "connections to 127.0.0.1:18789 cannot be counted from here", "another network namespace", "worker    pid")
	})

	// Who took the port while the socket was stopped.
	m.Run(t, gatewayPath, "stop")
	const entry = stockEntry
	listening := m.RuntimeDir() + "/listening"
	m.WriteFile(t, entry, stockScript(m), 0o644)
	t.Run("orphan", func(t *testing.T) {
		// Left by a service whose main process has gone.
		script := m.RuntimeDir() + "/left.sh"
		m.WriteFile(t, script, "#!/bin/sh\nmkfifo "+listening+"\nsetsid "+nodePath+" "+entry+" gateway &\nread yes <"+listening+"\n", 0o755)
		m.WriteFile(t, runPath(m.Scope, "left.service"),
			"[Service]\nType=oneshot\nRemainAfterExit=yes\nKillMode=control-group\nExecStart=/bin/sh "+script+"\n", 0o644)
		m.Systemctl(t, "daemon-reload")
		m.Systemctl(t, "start", "left.service")
		wantStatus(t, m.Scope, 1, "orphan", "no unit keeps running", "`gateway reclaim 127.0.0.1:18789`", "in left.service")
		if text, _ := mallory(); !strings.HasPrefix(text, "down: ") || !strings.Contains(text, heldBy) {
			t.Errorf("another user sees\n%s", text)
		}
		m.Systemctl(t, "stop", "left.service")
	})
	t.Run("rival", func(t *testing.T) {
		squat(t, m, "old", nodePath, entry, "gateway")
		wantStatus(t, m.Scope, 1, "rival", "old.service keeps running", "`"+ctl+" stop old.service`")
	})
	t.Run("verbs that cannot", func(t *testing.T) {
		squat(t, m, "older", nodePath, entry, "gateway")
		start := "gateway start --" + scope
		output, err := m.Output(gatewayPath, "start")
		if err == nil {
			t.Fatalf("gateway start with a taken port: %s", output)
		}
		wantWords(t, err.Error(), "cannot start: 127.0.0.1:18789 is held by pid ", " in older.service", "`"+ctl+" stop older.service`", "; then `"+start+"`")
		if _, err := m.Output(gatewayPath, "restart"); err == nil || !strings.Contains(err.Error(), "cannot restart: 127.0.0.1:18789 is held by pid ") {
			t.Errorf("gateway restart with a taken port: %v", err)
		}
		// So does an installation, which enables all the same.
		m.Systemctl(t, "disable", socket)
		_, err = m.Output(gatewayPath, "install", "--now")
		wantWords(t, errorText(err), "the units are written, but cannot start: 127.0.0.1:18789 is held by pid ", "`"+ctl+" stop older.service`", "; then `"+start+"`")
		if state := m.Property(t, socket, "UnitFileState"); state != "enabled" {
			t.Errorf("%s is %s after an installation that could not start it", socket, state)
		}
		m.Run(t, "/bin/sh", "-ec", ctl+" stop older.service; "+start)
		wantStatus(t, m.Scope, 0, "waiting")
		if m.User != "" {
			return
		}
		get(t, m, ipv4, "/healthz")
		for _, verb := range []string{"start", "stop", "restart", "reload"} {
			output, err := root.Output("runuser", "-u", "mallory", "--", "sh", "-c", gatewayPath+" "+verb+" 2>&1; echo exit status $?")
			if err != nil {
				t.Fatal(err)
			}
			wantWords(t, output, "`sudo gateway "+verb+" --system` does it as root", "exit status 1")
			root.Run(t, gatewayPath, verb, "--system")
			if verb == "stop" {
				root.Run(t, gatewayPath, "start", "--system")
				get(t, m, ipv4, "/healthz")
			}
		}
	})
	t.Run("free again", func(t *testing.T) {
		m.Run(t, gatewayPath, "stop")
		wantStatus(t, m.Scope, 3, "down", "clients of the port are refused")
		m.Run(t, gatewayPath, "start")
		wantStatus(t, m.Scope, 0, "waiting")
	})
}

// stockEntry is where an OpenClaw may lie, in what follows one that is no more than its port.
const stockEntry = "/opt/node_modules/openclaw/dist/index.js"

func stockScript(m *machine.Machine) string {
	return `require('net').createServer().listen(18789, '127.0.0.1', () => {
		if (process.env.NOTIFY_SOCKET) require('child_process').execFileSync('systemd-notify', ['--ready']);
		else require('fs').writeFileSync('` + m.RuntimeDir() + `/listening', 'yes\n');
	});
`
}

// squat runs a command that takes the port, as the main process of a unit, for as
// long as the test takes.
func squat(t *testing.T, m *machine.Machine, unit string, command ...string) (pid int) {
	t.Helper()
	m.WriteFile(t, runPath(m.Scope, unit+".service"),
		"[Service]\nType=notify\nNotifyAccess=all\nExecStart="+strings.Join(command, " ")+"\n", 0o644)
	m.Systemctl(t, "daemon-reload")
	m.Systemctl(t, "start", unit+".service")
	t.Cleanup(func() { m.Systemctl(t, "stop", unit+".service") })
	return m.Unit(t, unit+".service").MainPID
}

// shape is the fields of DESIGN's status, each with an example of its type. What
// may be null has its value, and what has a fixed set of values has all of them.
var shape = map[string]any{
	"instance": "", "version": "", "problems": []any{},
	"verdict": oneOf{"ok", "waiting", "starting", "degraded", "orphan", "rival", "foreign", "down"},
	"unit":    map[string]any{"name": "", "scope": oneOf{"system", "user", "none"}, "active_state": "", "main_pid": 0.0},
	"launcher": map[string]any{
		"pid": 0.0, "since": time.Time{}, "upgraded": nil, "holder": oneOf{"systemd", "self"},
	},
	"sockets": []any{map[string]any{
		"address": "", "name": "", "inode": 0.0, "backlog": 0.0, "connections": 0.0, "queued": 0.0, "waiting_s": 0.0,
		"holders": []any{map[string]any{
			"pid": 0.0, "role": oneOf{"systemd", "launcher", "worker", "orphan", "rival", "foreign"}, "command": "", "uid": 0.0, "cgroup": "",
			"since": time.Time{}, "unit": "", "parent": 0.0,
		}},
	}},
	"alarm": map[string]any{"state": oneOf{"off", "quiet", "ringing", ""}, "since": nil},
	"worker": map[string]any{
		"state": oneOf{"waiting", "starting", "ready", "stopping", "backoff", "failed"}, "pid": 0.0, "generation": 0.0, "since": time.Time{},
		"ready_after_ms": 0.0, "handoff": oneOf{"preload", "listen-fds", "intercept"}, "restarts": 0.0, "next_start": nil, "waits_until": nil, "queue_limit_s": 0.0, "hung": nil,
		"memory_bytes": 0.0, "front_desk": false, "last_words": nil, "openclaw": nil, "no_new_privs": false,
		"ends": []any{map[string]any{"reason": oneOf{"crash", "config", "restart", "idle", "unready", "hung", "oom", "stop"}, "count": 0.0}}, "strays_ended": 0.0,
		"last_exit": map[string]any{
			"generation": 0.0, "code": 0.0, "signal": "", "reason": oneOf{"crash", "config", "restart", "idle", "unready", "hung", "oom", "stop"},
			"at": time.Time{}, "strays": 0.0, "detail": "", "pid": 0.0, "lived_ms": 0.0,
		},
	},
	"successor": nil, "leaving": none{},
	"config": map[string]any{"path": "", "state": oneOf{"applied", "rejected"}, "error": ""},
	// More than DESIGN has.
	"notes": []any{}, "unseen": 0.0, "handover_obstacle": "", "standby_obstacle": "",
}

// allShape is shape with the instances that there are.
func allShape() map[string]any {
	all := maps.Clone(shape)
	all["instances"] = []any{map[string]any{"instance": "", "scope": oneOf{"system", "user"}, "user": "", "verdict": shape["verdict"], "addresses": []any{""}}}
	return all
}

// ownShape is shape as the launcher has it from memory: who holds its sockets, and how many are connected, it does not know.
func ownShape() map[string]any {
	own := maps.Clone(shape)
	socket := maps.Clone(shape["sockets"].([]any)[0].(map[string]any))
	socket["connections"], socket["holders"] = nil, none{}
	own["sockets"] = []any{socket}
	return own
}

type oneOf []string

// none is a list without elements.
type none struct{}

// fits compares a decoded value with its shape, field for field.
func fits(path string, want, got any) (problems []string) {
	wrong := func(format string, values ...any) {
		problems = append(problems, path+": "+fmt.Sprintf(format, values...))
	}
	switch want := want.(type) {
	case map[string]any:
		fields, ok := got.(map[string]any)
		if !ok {
			wrong("is %v", got)
		}
		for name, inner := range want {
			value, there := fields[name]
			if !there {
				wrong("lacks %s", name)
				continue
			}
			problems = append(problems, fits(path+"."+name, inner, value)...)
		}
		for name := range fields {
			if _, known := want[name]; !known {
				wrong("has %s besides", name)
			}
		}
	case []any:
		elements, ok := got.([]any)
		if !ok || (len(want) > 0 && len(elements) == 0) {
			wrong("is %v", got)
		}
		for _, element := range elements {
			if len(want) > 0 {
				problems = append(problems, fits(path+"[]", want[0], element)...)
			}
		}
	case none:
		if elements, ok := got.([]any); !ok || len(elements) > 0 {
			wrong("is %v, want none", got)
		}
	case oneOf:
		if text, _ := got.(string); !slices.Contains(want, text) {
			wrong("is %v, want one of %v", got, want)
		}
	case time.Time:
		text, _ := got.(string)
		if _, err := time.Parse(time.RFC3339, text); err != nil {
			wrong("is no time: %v", got)
		}
	case nil:
		if got != nil {
			wrong("is %v, want null", got)
		}
	default:
		if fmt.Sprintf("%T", want) != fmt.Sprintf("%T", got) {
			wrong("is %v (%T), want %T", got, got, want)
		}
	}
	return problems
}

// testStatusFields holds the JSON to the interface: each field and no other.
func testStatusFields(t *testing.T, m *machine.Machine) {
	m.Run(t, gatewayPath, "restart")
	ask := []string{"/usr/bin/python3", workersPath + "/control.py", m.RuntimeDir() + "/openclaw-gateway/control.sock", "/status"}
	for _, source := range []struct {
		command []string
		shape   map[string]any
	}{{[]string{gatewayPath, "status", "--json", "--name", "default"}, shape}, {[]string{gatewayPath, "status", "--json"}, allShape()}, {ask, ownShape()}} {
		var got any
		if err := json.Unmarshal([]byte(m.Run(t, source.command[0], source.command[1:]...)), &got); err != nil {
			t.Fatal(err)
		}
		for _, problem := range fits(source.command[1], source.shape, got) {
			t.Error(problem)
		}
	}
	// Another launcher, which goes on counting: its worker serves as generation 3 in what follows.
	m.Systemctl(t, "restart", service)
	get(t, m, ipv4, "/healthz")
	serving(t, m.Scope, 3)
}

// TestStatusWatch: a watcher sees each change as it comes, also the launcher's end
// and its return.
func TestStatusWatch(t *testing.T) { inScopes(t, testStatusWatch) }

func testStatusWatch(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	install(t, m.Scope, m, "{}\n")
	command := m.Command(t.Context(), gatewayPath, "status", "--watch", "--json")
	command.Stderr = t.Output()
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan status)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(output); scanner.Scan(); {
			var s status
			if err := json.Unmarshal(scanner.Bytes(), &s); err != nil {
				t.Errorf("%v: %s", err, scanner.Bytes())
			}
			lines <- s
		}
	}()
	var launcher int
	see := func(what string, is func(status) bool) {
		t.Helper()
		var shown []string
		timeout := time.After(2 * bound)
		for {
			select {
			case s, open := <-lines:
				if !open {
					t.Fatalf("the watch ended before %s; it has shown %v", what, shown)
				}
				if is(s) {
					launcher = s.Launcher.PID
					return
				}
				shown = append(shown, fmt.Sprintf("%s/%s/%d", s.Verdict, s.Worker.State, s.Worker.Generation))
			case <-timeout:
				t.Fatalf("%s was not shown, but %v", what, shown)
			}
		}
	}
	see("the first", func(s status) bool { return s.Verdict == "waiting" })
	get(t, m, ipv4, "/healthz")
	see("a ready worker", func(s status) bool { return s.Verdict == "ok" && s.Worker.Generation == 1 })
	m.Run(t, gatewayPath, "restart")
	see("the stop of generation 1", func(s status) bool { return s.Worker.State == "stopping" && s.Worker.Generation == 1 })
	see("the start of generation 2", func(s status) bool { return s.Worker.State == "starting" && s.Worker.Generation == 2 })
	see("generation 2", func(s status) bool { return s.Verdict == "ok" && s.Worker.Generation == 2 })
	m.WriteFile(t, configPath(m.Scope), "lsten: []\n", 0o644)
	see("a rejected configuration", func(s status) bool { return s.Config.State == "rejected" && s.Verdict == "degraded" })
	m.WriteFile(t, configPath(m.Scope), "{}\n", 0o644)
	see("a good one", func(s status) bool { return s.Config.State == "applied" && s.Verdict == "ok" })

	first := launcher
	m.Systemctl(t, "restart", service)
	get(t, m, ipv4, "/healthz")
	see("another launcher", func(s status) bool { return s.Verdict == "ok" && s.Launcher.PID != first && s.Worker.Generation == 3 })
	second := launcher
	kept(t, m, 3)
	kill(t, m, second)
	// Its worker, which dies with it, can answer a client for a moment longer than the watch sees it.
	// systemd starts another launcher only when both are gone.
	see("its end", func(s status) bool { return s.Verdict != "ok" })
	see("a third launcher", func(s status) bool { return s.Launcher.PID != 0 && s.Launcher.PID != second })
	get(t, m, ipv4, "/healthz")
	see("its worker", func(s status) bool { return s.Verdict == "ok" && s.Worker.Generation == 4 })
	m.Run(t, gatewayPath, "stop")
	see("nothing", func(s status) bool { return s.Verdict == "down" })

	var watching []machine.Process
	for _, process := range m.Processes(t) {
		if slices.Contains(process.Args, "--watch") && process.Args[0] == gatewayPath {
			watching = append(watching, process)
		}
	}
	if len(watching) != 1 {
		t.Fatalf("these watch, and not one: %+v", watching)
	}
	if err := unix.Kill(watching[0].HostPID, unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	for timeout := time.After(2 * bound); lines != nil; {
		select {
		case _, open := <-lines:
			if !open {
				lines = nil
			}
		case <-timeout:
			_ = unix.Kill(watching[0].HostPID, unix.SIGQUIT)
			lines = nil
			t.Errorf("the watch has not ended after SIGINT; after SIGQUIT it says")
		}
	}
	if err := command.Wait(); err != nil {
		t.Errorf("after SIGINT the watch ended with %v", err)
	}
}

// TestStatusHistory: the launcher remembers how its generations ended, and the
// journal has the fields to find the rest.
func TestStatusHistory(t *testing.T) { inScopes(t, testStatusHistory) }

func testStatusHistory(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	install(t, m.Scope, m, "restart: {backoff_min: 10ms}\n")
	// The launcher, which remembers, runs only from the first client on.
	if text, code := printedStatus(t, m.Scope, "--history"); code != 3 || text != "" {
		t.Errorf("the history without a launcher: exit status %d\n%s", code, text)
	}
	get(t, m, ipv4, "/healthz")
	serving(t, m.Scope, 1)
	m.Run(t, gatewayPath, "restart")
	m.Run(t, gatewayPath, "restart")
	kill(t, m, gatewayStatus(t, m.Scope).Worker.PID)
	serving(t, m.Scope, 4)

	type life struct {
		Generation   int
		State        string
		Code         int
		Signal       string
		Reason       string
		Strays       int
		ReadyAfterMS *int `json:"ready_after_ms"`
		LivedMS      int  `json:"lived_ms"`
		Started      time.Time
		Ended        *time.Time
	}
	var history struct {
		Scope       string
		Generations []life
	}
	if err := json.Unmarshal([]byte(m.Run(t, gatewayPath, "status", "--history", "--json")), &history); err != nil {
		t.Fatal(err)
	}
	want := []string{"1 ended 0  restart", "2 ended 0  restart", "3 ended -1 SIGKILL crash", "4 ready -1  "}
	var got []string
	for _, g := range history.Generations {
		got = append(got, fmt.Sprintf("%d %s %d %s %s", g.Generation, g.State, g.Code, g.Signal, g.Reason))
		lives := g.State != "ended"
		if lives != (g.Ended == nil) || g.ReadyAfterMS == nil || g.LivedMS <= 0 || g.Started.IsZero() ||
			!lives && g.Ended.Sub(g.Started).Milliseconds() != int64(g.LivedMS) {
			t.Errorf("%+v", g)
		}
	}
	if !slices.Equal(got, want) || history.Scope != kind(m.Scope) {
		t.Errorf("the history of the %s scope is\n%q, want\n%q", history.Scope, got, want)
	}
	text := m.Run(t, gatewayPath, "status", "--history")
	rows := strings.Split(strings.TrimSpace(text), "\n")
	if m.User != "" && len(rows) == 6 && strings.HasPrefix(rows[5], "note: what generation 3 said last is not known: the journal cannot be read") {
		rows = rows[:5]
	}
	if len(rows) != 5 || !strings.Contains(rows[3], "killed by SIGKILL  0       crash") || !strings.Contains(rows[4], "ready") {
		t.Errorf("the history is\n%s", text)
	}

	t.Run("journal", func(t *testing.T) {
		root := m.As(m.System())
		root.Run(t, "journalctl", "--sync")
		if m.User != "" {
			mayReadJournal(t, root, m.User)
		}
		entries := m.Run(t, "journalctl", "--identifier=gateway", "--output=json", "GENERATION=3")
		messages := map[string]map[string]any{}
		for decoder := json.NewDecoder(strings.NewReader(entries)); ; {
			entry := map[string]any{}
			err := decoder.Decode(&entry)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			message, _, _ := strings.Cut(fmt.Sprint(entry["MESSAGE"]), " generation=")
			messages[message] = entry
		}
		for message, fields := range map[string]map[string]string{
			"worker started": {"PRIORITY": "6", "GENERATION": "3", "HANDOFF": "listen-fds"},
			"worker ready":   {"PRIORITY": "6", "GENERATION": "3"},
			"worker ended":   {"PRIORITY": "6", "EXIT": "killed by SIGKILL", "REASON": "crash", "STRAYS": "0"},
			"worker failed, next generation after a pause": {"PRIORITY": "4", "FAILURES_IN_A_ROW": "1"},
		} {
			for field, value := range fields {
				if got := messages[message][field]; got != value {
					t.Errorf("%q has %s=%v, want %s", message, field, got, value)
				}
			}
		}
		if pid := messages["worker started"]["WORKER_PID"]; pid == nil || pid != messages["worker ready"]["WORKER_PID"] {
			t.Errorf("WORKER_PID is %v", pid)
		}
		if logs := m.Run(t, gatewayPath, "logs", "GENERATION=3", "-n", "1000", "--output=cat"); strings.Count(logs, "\n") != strings.Count(entries, "\n") {
			t.Errorf("gateway logs GENERATION=3 shows\n%s\nand journalctl\n%s", logs, entries)
		}
		// What a shell completes.
		for word, want := range map[string]string{"GENERATION=": "GENERATION=3\n", "--unit=openclaw-gateway.s": "--unit=" + service + "\n"} {
			wantWords(t, m.Run(t, gatewayPath, "__complete", "logs", "--"+kind(m.Scope), word), want)
		}
		if logs := m.Run(t, gatewayPath, "logs"); !strings.Contains(logs, fmt.Sprintf("systemd[%d]", m.ManagerPID(t))) || !strings.Contains(logs, "worker ready") {
			t.Errorf("gateway logs shows\n%s", logs)
		}
	})
}

// mayReadJournal makes a user a member of the group that may, on a machine whose
// journal is its own as if it had been booted in full.
func mayReadJournal(t *testing.T, root *machine.Machine, user string) {
	t.Helper()
	root.Run(t, "usermod", "--append", "--groups", "systemd-journal", user)
	root.Run(t, "systemd-tmpfiles", "--create", "--prefix=/run/log/journal")
	root.Run(t, "chgrp", "--recursive", "systemd-journal", "/run/log/journal")
	root.Run(t, "chmod", "--recursive", "g+rX", "/run/log/journal")
}

// TestTwoScopes: where the system and the user have a launcher each, status shows
// both and a verb wants to be told which.
func TestTwoScopes(t *testing.T) { onBoth(t, testTwoScopes) }

func testTwoScopes(t *testing.T, here place) {
	m := here.boot(t, machine.Options{Users: true})
	alice := m.AddUser(t, "alice")
	mayReadJournal(t, m, "alice")
	install(t, m.Scope, m, "{}\n")
	m.WriteFile(t, "/home/alice/.config/openclaw-gateway/config.yaml", "listen: ['127.0.0.1:18790']\n", 0o644)
	m.Run(t, "chown", "--recursive", "alice:", "/home/alice/.config")
	alice.Run(t, gatewayPath, "install", "--user", "--now")
	for _, verb := range []string{"start", "stop", "restart", "reload", "logs"} {
		if output, err := alice.Output(gatewayPath, verb); err == nil || !strings.Contains(err.Error(), "--system or --user") {
			t.Errorf("gateway %s with two launchers: %v %s", verb, err, output)
		}
	}
	get(t, m, "127.0.0.1:18790", "/healthz")
	serving(t, alice, 1)
	if l := instancesOf(t, alice, 0); l.Unit.Scope != "system" || l.Verdict != "waiting" ||
		l.names() != "system/ waiting 127.0.0.1:18789 [::1]:18789; user/alice ok 127.0.0.1:18790" {
		t.Errorf("the status of both is %+v: %s", l, l.names())
	}
	var both []status
	output := alice.Run(t, gatewayPath, "status", "--json", "--name", "default")
	if err := json.Unmarshal([]byte(output), &both); err != nil || len(both) != 2 || both[0].Unit.Scope != "system" || both[1].Unit.Scope != "user" {
		t.Fatalf("%v: %s", err, output)
	}
	if holders := both[1].Sockets[0].Holders; len(holders) != 3 || holders[0].Role != "systemd" || holders[0].PID == 1 {
		t.Errorf("the user's socket is held by %+v, want the user's manager, launcher and worker", holders)
	}
	// The system's launcher, which does not run, does not hide the user's.
	if history, code := printedStatus(t, alice, "--history"); code != 3 || !strings.Contains(history, "user scope\n") {
		t.Errorf("the history: exit status %d\n%s", code, history)
	}
	// Root is shown the user's too, as the user tells of it.
	lines := func(s *machine.Scope, want int, words ...string) {
		t.Helper()
		text, code := printedStatus(t, s)
		if code != want {
			t.Errorf("exit status %d, want %d:\n%s", code, want, text)
		}
		wantWords(t, text, words...)
	}
	lines(m.Scope, 0, "default  system      waiting: ", "default  user alice  ok: generation 1 serves 127.0.0.1:18790")
	text, _ := printedStatus(t, m.Scope, "--full")
	wantWords(t, text, "(system scope)", "ok: generation 1 serves 127.0.0.1:18790", "(user scope of alice)")
	var own status
	if err := json.Unmarshal([]byte(m.Run(t, gatewayPath, "status", "--json")), &own); err != nil || own.Unit.Scope != "system" {
		t.Errorf("%v: root's own is %+v", err, own)
	}
	alice.Run(t, gatewayPath, "stop", "--user")
	lines(m.Scope, 0, "default  user alice  down: the launcher is not running")
	lines(alice, 3, "default  system  waiting: the first client of 127.0.0.1:18789", "default  user    down: the launcher is not running")
	if state := m.Unit(t, socket).ActiveState; state != "active" {
		t.Errorf("the system's socket is %s after gateway stop --user", state)
	}
	alice.Run(t, gatewayPath, "start", "--user")
	if text, code := printedStatus(t, alice, "--user"); code != 0 || !strings.HasPrefix(text, "waiting: the first client of 127.0.0.1:18790") {
		t.Errorf("exit status %d:\n%s", code, text)
	}
	if logs := alice.Run(t, gatewayPath, "logs", "--user"); !strings.Contains(logs, "worker ready") {
		t.Errorf("gateway logs --user shows\n%s", logs)
	}
	// Of two that run, a file belongs to the one that reads it.
	get(t, m, ipv4, "/healthz")
	check(t, alice, configPath(alice)).want(t, 0, "the launcher of the user scope", "nothing would change")
	m.WriteFile(t, "/tmp/draft.yaml", "{}\n", 0o644)
	check(t, alice, "/tmp/draft.yaml").want(t, 0, "does not tell which: say --system or --user")
	// One launcher leaves nothing to choose.
	m.Run(t, gatewayPath, "uninstall", "--system")
	alice.Run(t, gatewayPath, "stop")
	if logs := alice.Run(t, gatewayPath, "logs"); !strings.Contains(logs, "worker ready") {
		t.Errorf("gateway logs shows\n%s", logs)
	}
	var stderr bytes.Buffer
	command := m.Command(t.Context(), gatewayPath, "start")
	command.Stderr = &stderr
	if code := exitCode(t, command); code != 1 || !strings.Contains(stderr.String(), "neither the system nor root has one; `runuser --pty -u alice -- ") {
		t.Errorf("gateway start without a unit: exit status %d, %s", code, stderr.String())
	}
}
