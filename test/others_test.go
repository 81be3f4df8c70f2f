package test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/test/machine"
)

// measured is a command of root's with what it took: with its descendants, a child that is another user among them.
type measured struct {
	Seconds float64
	KiB     int // the largest of its processes
	Exit    int
	Output  string
}

// measure runs a command on a terminal, as a person does, and says what it took.
const measure = `
import json, os, pty, resource, signal, sys, time
output, start = b"", time.monotonic()
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
signal.alarm(60)
while True:
    try:
        more = os.read(terminal, 65536)
    except OSError:
        break
    if not more:
        break
    output += more
_, status, _ = os.wait4(pid, 0)
print(json.dumps({"Seconds": time.monotonic() - start, "Exit": os.waitstatus_to_exitcode(status), "Output": output.decode(errors="replace"),
    "KiB": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}))
`

// many is a service with 500 processes that have the port, which its main process does not have.
const many = `
import os, signal, socket
if os.fork() == 0:
    listener = socket.create_server(("127.0.0.1", 18789))
    for _ in range(500):
        if os.fork() == 0:
            signal.pause()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
signal.pause()
`

// mostSeconds is far above the deadlines of root's tools, about 2 s each, for busy machines, and below what it takes without them.
const (
	mostSeconds = 20
	mostKiB     = 100 << 10
)

// TestOthers: whatever another user has there, root's tools execute nothing of it, end soon, stay small, and say what they
// could not look at.
func TestOthers(t *testing.T) { onBoth(t, testOthers) }

func testOthers(t *testing.T, here place) {
	tracer := filepath.Join(t.TempDir(), "tracer")
	if output, err := exec.Command("gcc", "-O2", "-static", "-o", tracer, "workers/tracer.c").CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, output)
	}
	m := here.boot(t, machine.Options{Users: true, Binds: map[string]string{"/usr/local/bin/tracer": tracer}})
	prepare(t, m)
	spy, err := os.ReadFile("workers/spy.py")
	if err != nil {
		t.Fatal(err)
	}
	m.WriteFile(t, "/opt/spy.py", string(spy), 0o644)
	m.WriteFile(t, "/opt/measure.py", measure, 0o644)
	mallory := m.AddUser(t, "mallory")
	m.WriteFile(t, unitPath(mallory, "claw.service"), "[Service]\nType=notify\nNotifyAccess=all\nEnvironment=NOTIFY=1\nExecStart="+claw+"\n", 0o644)
	as := m.As(mallory)

	root := func(t *testing.T, words string, command ...string) {
		t.Helper()
		output := m.Run(t, "/usr/bin/python3", append([]string{"/opt/measure.py", gatewayPath}, command...)...)
		var took measured
		if err := json.Unmarshal([]byte(output), &took); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		t.Logf("gateway %s: %.2f s, %d MiB, exit status %d", strings.Join(command, " "), took.Seconds, took.KiB>>10, took.Exit)
		if took.Seconds > mostSeconds || took.KiB > mostKiB {
			t.Errorf("gateway %s took %.1f s and %d MiB:\n%s", strings.Join(command, " "), took.Seconds, took.KiB>>10, took.Output)
		}
		if !strings.Contains(took.Output, words) {
			t.Errorf("gateway %s does not say %q:\n%s", strings.Join(command, " "), words, took.Output)
		}
		for line := range strings.Lines(took.Output) {
			if strings.HasPrefix(strings.TrimSpace(line), "As root run") { // in the middle of a sentence it is mallory's, who says it
				t.Errorf("gateway %s says in a line of its own %q:\n%s", strings.Join(command, " "), line, took.Output)
			}
		}
	}

	t.Run("a program", func(t *testing.T) {
		home, marker := mallory.Home(), "/tmp/executed-for-root"
		m.WriteFile(t, home+"/bin/node", "#!/bin/sh\nid >>"+marker+"\nexec 3<>/dev/tty && echo tty >>"+marker+"\necho v24.21.0\n", 0o755)
		for _, name := range []string{"systemctl", "getent", "gateway"} {
			m.WriteFile(t, home+"/bin/"+name, "#!/bin/sh\nid >>"+marker+"\n", 0o755)
		}
		m.WriteFile(t, home+"/openclaw/dist/index.js", "", 0o644)
		m.WriteFile(t, home+"/openclaw/package.json", `{"name": "openclaw", "version": "2026.9.6", "engines": {"node": ">=24.16.0"}}`, 0o644)
		m.WriteFile(t, home+"/.config/openclaw-gateway/config.yaml",
			fmt.Sprintf("worker: {command: [%[1]s/bin/node, %[1]s/openclaw/dist/index.js, gateway], environment: ['PATH=%[1]s/bin']}\n", home), 0o600)
		m.Run(t, "chown", "-R", "mallory:", home)
		root(t, "whether "+home+"/bin/node is a Node.js that OpenClaw 2026.9.6 runs on is not known", "doctor")
		if said, err := m.Output("cat", marker); err == nil {
			t.Errorf("root's doctor has executed another user's program:\n%s", said)
		}
	})
	t.Run("a tracer", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		lines := background(t, ctx, as, "/usr/local/bin/tracer")
		end := holder(t, as, "/bin/sh", "-c", "echo lives; read line || true")
		select {
		case <-lines: // so it is one
		case <-time.After(bound):
			t.Fatal("the tracer traces nothing")
		}
		end()
		var before int
		if _, err := fmt.Sscan(m.Run(t, "/bin/sh", "-c", "echo $$"), &before); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			for _, command := range []string{"doctor", "status"} {
				_, _ = m.Output(gatewayPath, command)
			}
		}
		cancel()
		for line := range lines {
			var pid int
			if _, err := fmt.Sscanf(line, "traced %d", &pid); err != nil || pid > before {
				t.Errorf("while root looked, mallory has %s", line)
			}
		}
	})

	t.Run("many holders", func(t *testing.T) {
		m.WriteFile(t, "/opt/many.py", many, 0o644)
		m.WriteFile(t, unitPath(mallory, "many.service"), "[Service]\nType=notify\nNotifyAccess=all\nExecStart=/usr/bin/python3 /opt/many.py\n", 0o644)
		mallory.Systemctl(t, "daemon-reload")
		mallory.Systemctl(t, "start", "many.service")
		root(t, "it is no OpenClaw gateway", "reclaim", "--dry-run", ipv4)
		root(t, "many.py", "doctor")
		mallory.Systemctl(t, "stop", "many.service")
	})
	mallory.Systemctl(t, "start", "claw.service")
	runtime := mallory.RuntimeDir() + "/systemd/"
	m.Run(t, "mv", runtime+"private", runtime+"moved")
	for _, mode := range []string{"silent", "stop", "flood", "garbage", "large", "calls", "error"} {
		t.Run("a manager: "+mode, func(t *testing.T) {
			const report = "/tmp/seen-by-mallory"
			_, _ = m.Output("rm", report)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			background(t, ctx, as, "/usr/bin/python3", "/opt/spy.py", runtime+"private", mode, report)
			root(t, "mallory", "doctor")
			const unasked = "whether that keeps it running could not be asked"
			root(t, unasked, "status")
			root(t, unasked, "reclaim", "--dry-run", ipv4)
			root(t, "the services of user mallory could not ", "adopt", "--dry-run")
			var seen struct {
				UID, TTY, Ptrace, Environ, Mem, FD, Argv string
				NoNewPrivs                               string `json:"no_new_privs"`
			}
			if err := json.Unmarshal([]byte(m.ReadFile(t, report)), &seen); err != nil {
				t.Fatal(err)
			}
			const no = "Operation not permitted"
			if seen.UID != fmt.Sprint(mallory.UID) || seen.NoNewPrivs != "1" || seen.TTY != "0" || seen.Ptrace != no || seen.Environ != "Permission denied" ||
				seen.Mem != "Permission denied" || seen.FD != "Permission denied" {
				t.Errorf("what root sends there is %+v", seen)
			}
		})
	}
}

// background starts a command that says "listening" and then what it does, a line each. It ends with the context.
func background(t *testing.T, ctx context.Context, m *machine.Machine, name string, args ...string) <-chan string {
	t.Helper()
	command := m.Command(ctx, name, args...)
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 10_000)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() { _ = command.Wait() })
	select {
	case line := <-lines:
		if line != "listening" {
			t.Fatalf("%s says %q", name, line)
		}
	case <-time.After(bound):
		t.Fatalf("%s does not listen", name)
	}
	return lines
}
