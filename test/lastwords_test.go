package test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/test/machine"
)

// TestLastWords: what a worker has said before it ended stands wherever it is told that it has, as far as whoever asks may read
// the journal.
func TestLastWords(t *testing.T) { inScopes(t, testLastWords) }

func testLastWords(t *testing.T, here place) {
	const (
		// A line is a child's, which only the control group shows to be the worker's.
		script = `for i in 1 2 3 4 5 6 7 8 9 10 11; do echo "line $i of it"; done; sh -c 'echo "line 12 of it"; sleep 0.5'; printf 'has token=hush \033[31mred\n' >&2; exit 3`
		// The shell ends at once: journald may look for its control group when that has gone.
		last = `has token=*** \x1b[31mred`
	)
	m := here.boot(t, machine.Options{})
	root := m.As(m.System())
	// By listen-fds what that end means is told as well; with intercept, which auto has beside where it costs nothing, nobody knows.
	install(t, m.Scope, m, worker("/bin/sh", "-c", script)+"  handoff: listen-fds\n  start: at-once\nrestart: {backoff_min: 1h, backoff_max: 1h}\n")
	m.Systemctl(t, "start", service)
	statusText(t, m.Scope, "exit code 3")
	root.Run(t, "journalctl", "--sync")
	words := func(t *testing.T) []string {
		t.Helper()
		var s struct {
			Worker struct {
				LastWords []string `json:"last_words"`
			}
		}
		output, _ := m.Output(gatewayPath, "status", "--json")
		if err := json.Unmarshal([]byte(output), &s); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		return s.Worker.LastWords
	}
	// shown runs the command with which doctor has one see why.
	shown := func(t *testing.T, way string) {
		t.Helper()
		f := finds(t, m.Scope, "worker-restarting")
		if f.Fix != way {
			t.Errorf("the fix of %s is %q, want %q", f.ID, f.Fix, way)
		}
		if said := m.Run(t, "/bin/sh", "-c", f.Fix+" --no-pager"); !strings.Contains(said, "worker ended generation=1") { // and its words, unless journald was late
			t.Errorf("%s says\n%s", f.Fix, said)
		}
	}
	root.WriteFile(t, "/etc/sudoers.d/test", "ALL ALL=(ALL) NOPASSWD: ALL\n", 0o440)
	if m.User != "" {
		if got := words(t); got != nil {
			t.Errorf("who may not read the journal is told %q", got)
		}
		way := fmt.Sprintf("sudo journalctl _UID=%d _SYSTEMD_USER_UNIT=openclaw-gateway.service", m.UID)
		wantStatus(t, m.Scope, 1, "degraded", "what generation 1 said last is not known: the journal cannot be read by this user: `"+way+"` reads it")
		shown(t, way)
		mayReadJournal(t, root, m.User)
	}
	shown(t, "gateway logs --"+kind(m.Scope))
	if got := words(t); len(got) != 10 || got[0] != "line 4 of it" || got[9] != last {
		t.Errorf("the last words are %q", got)
	}
	for range 5 {
		text, err := m.Output("sh", "-c", gatewayPath+" restart 2>&1; true")
		if err != nil || strings.Count(text, "\n    ") != 10 || !strings.Contains(text, "exit code 3: ") || !strings.Contains(text, "\n  its last words:\n    line 4 of it\n") || !strings.Contains(text, last) {
			t.Errorf("gateway restart says %v\n%s", err, text)
		}
	}
	for _, command := range []string{"status", "status --history", "doctor"} {
		text, err := m.Output("sh", "-c", gatewayPath+" "+command+" 2>&1; true")
		if err != nil || !strings.Contains(text, "last words") || !strings.Contains(text, "line 4 of it\n") || !strings.Contains(text, last) ||
			strings.Contains(text, "line 3 of it") || strings.Contains(text, "hush") {
			t.Errorf("gateway %s says %v\n%s", command, err, text)
		}
	}
	root.Run(t, "sh", "-c", "journalctl --rotate && rm /run/log/journal/*/*@*")
	if m.User != "" {
		mayReadJournal(t, root, m.User)
	}
	if got := words(t); got != nil {
		t.Errorf("of a journal that was rotated away is told %q", got)
	}
	wantStatus(t, m.Scope, 1, "degraded", "what generation 6 said last is not known: the journal does not reach back to it")
}

// TestWhyItEnded: a worker that ends before it serves is told with what that means and the line to change.
func TestWhyItEnded(t *testing.T) { inScopes(t, testWhyItEnded) }

func testWhyItEnded(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	m.WriteFile(t, m.Home()+"/missing", "#!/nowhere/interpreter\n", 0o755)
	m.WriteFile(t, m.Home()+"/sudo", "#!/bin/sh\nexit 1\n", 0o755)
	// An ELF file of a big-endian machine.
	m.Run(t, "sh", "-c", `printf '\177ELF\002\002\001%057d' 0 >`+m.Home()+"/foreign; chmod 755 "+m.Home()+"/foreign")
	const rest = "restart: {backoff_min: 1h, backoff_max: 1h}\n"
	install(t, m.Scope, m, worker("/bin/sh", "-c", "exit 9")+"  start: at-once\n"+rest)
	m.Systemctl(t, "start", service)
	statusText(t, m.Scope, "exit code 9")
	for _, test := range []struct {
		name    string
		command []string
		words   []string
	}{
		{"it binds itself", []string{"/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", "18789"}, []string{
			"exit code 1: it has listened on nothing; a server that binds 127.0.0.1:18789 and [::1]:18789 itself cannot", "worker.command needs a program",
		}},
		{"its script is not there", []string{"/usr/bin/python3", "/opt/gone.py"}, []string{"exit code 2: python3 is to run /opt/gone.py, which is not there: correct worker.command"}},
		{"to the background", []string{"/bin/sh", "-c", "setsid sleep 1000 & sleep 0.1"}, []string{"exit code 0: it went to the background", "worker.command"}},
		{"a program that closes them", []string{m.Home() + "/sudo", "-u", "nobody", "server"}, []string{"sudo passes no sockets on", "--run-as USER"}},
		{"EX_CONFIG", []string{"/bin/sh", "-c", "exit 78"}, []string{"exit code 78: ", "EX_CONFIG", "run gateway restart"}},
		{"a program that is not there", []string{"/bin/sh", "-c", "nowhere"}, []string{"exit code 127: ", "name its whole path in worker.command"}},
		{"an interpreter that is not there", []string{m.Home() + "/missing"}, []string{"the interpreter that it names is missing"}},
		{"another processor's", []string{m.Home() + "/foreign"}, []string{"it is a program for another processor"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m.WriteFile(t, configPath(m.Scope), worker(test.command...)+"  handoff: listen-fds\n  start: at-once\n"+rest, 0o644)
			_, err := m.Output(gatewayPath, "reload")
			if err == nil {
				t.Fatal("gateway reload succeeds")
			}
			wantWords(t, err.Error(), test.words...)
			wantStatus(t, m.Scope, 1, "degraded", test.words...)
			text, _ := m.Output("sh", "-c", gatewayPath+" status --history; "+gatewayPath+" doctor; true")
			wantWords(t, text, test.words[0])
		})
	}
	t.Run("to the background, after it has served", func(t *testing.T) {
		m.WriteFile(t, configPath(m.Scope), worker("/bin/sh", "-c", "sh -c 'LISTEN_PID=$$ exec /usr/bin/python3 "+workersPath+"/listenfds.py' & sleep 3")+"  start: at-once\n"+rest, 0o644)
		if _, err := m.Output(gatewayPath, "reload"); err != nil {
			t.Fatal(err)
		}
		const said = "exit code 0: it went to the background"
		text, _ := printedStatus(t, m.Scope)
		for end := time.Now().Add(bound); !strings.Contains(text, said) && time.Now().Before(end); {
			text, _ = printedStatus(t, m.Scope) // its next generation serves as well, so nothing waits for it
		}
		wantWords(t, text, said)
	})
	t.Run("has served before", func(t *testing.T) {
		broken := m.Home() + "/broken"
		m.WriteFile(t, configPath(m.Scope), worker("/bin/sh", "-c", "test -e "+broken+" && exit 9; exec /usr/bin/python3 "+workersPath+"/listenfds.py")+"  start: at-once\n"+rest, 0o644)
		m.Run(t, gatewayPath, "reload")
		m.WriteFile(t, broken, "", 0o644)
		text, err := m.Output("sh", "-c", gatewayPath+" restart 2>&1; true")
		if err != nil || !strings.Contains(text, "exit code 9") || strings.Contains(text, "perhaps") {
			t.Errorf("%v\n%s", err, text)
		}
	})
}

// TestNotReadyYet: while a worker starts, the status has what the last request for its readiness came to.
func TestNotReadyYet(t *testing.T) { inScopes(t, testNotReadyYet) }

func testNotReadyYet(t *testing.T, here place) {
	const strict = "for (const host of ['127.0.0.1', '::1']) require('http').createServer((q, s) => { s.writeHead(400); s.end() }).listen(18789, host)"
	m := here.boot(t, machine.Options{})
	install(t, m.Scope, m, worker(nodePath, "-e", strict)+"ready: {path: /ready}\nstop: {timeout: 1s}\n")
	m.Systemctl(t, "start", "--no-block", service)
	waitingClient(t, m, ipv4)
	said := "not ready yet: GET http://" + ipv4 + "/ready was answered with 400 Bad Request"
	statusText(t, m.Scope, "is starting", said)
	wantStatus(t, m.Scope, 0, "starting", said)
	m.Run(t, gatewayPath, "stop", "--now")
}
