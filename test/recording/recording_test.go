package recording

import (
	"context"
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/test/machine"
)

const (
	service = "openclaw-gateway.service"
	entry   = "/usr/local/lib/node_modules/openclaw/dist/index.js"
	health  = "http://127.0.0.1:18789/healthz"
	// A start of OpenClaw takes about 10 s on two idle cores.
	bound = 5 * time.Minute
	// columns are as many as a picture in a page has room for.
	columns = 96
	// longest is how many seconds of silence are shown: longer ones are cut to it.
	longest = 3
)

//go:embed type.sh
var typing string

var built string

func TestMain(m *testing.M) { os.Exit(machine.Main(m, &built)) }

// required returns what "make recording" passes in the environment.
func required(b *testing.B, name string) string {
	b.Helper()
	value := os.Getenv(name)
	if value == "" {
		b.Fatalf("%s is not set: make recording", name)
	}
	return value
}

// BenchmarkRecording has the incident first, as a stock OpenClaw has it, and then a restart behind the launcher.
func BenchmarkRecording(b *testing.B) {
	m := machine.Boot(b, machine.Options{Users: true, Binds: map[string]string{
		"/usr/local/bin/gateway":      built,
		"/usr/local/bin/node":         required(b, "NODE"),
		"/usr/local/lib/node_modules": filepath.Dir(filepath.Dir(filepath.Dir(required(b, "OPENCLAW_ENTRY")))),
		"/opt/asciinema":              required(b, "ASCIINEMA"),
	}})
	m.Run(b, "ln", "-s", "../lib/node_modules/openclaw/openclaw.mjs", "/usr/local/bin/openclaw")
	m.Run(b, "rm", "-f", "/.dockerenv")                              // or OpenClaw listens on 0.0.0.0
	m.Run(b, "sh", "-c", "echo 127.0.1.1 $(hostname) >> /etc/hosts") // or sudo complains
	alice := m.AddUser(b, "alice")
	m.WriteFile(b, "/etc/sudoers.d/alice", "alice ALL=(ALL) NOPASSWD: ALL\n", 0o440)
	m.WriteFile(b, "/opt/type.sh", typing, 0o644)

	alice.Run(b, "openclaw", "gateway", "install")
	answers(b, alice)
	escape(b, m, alice)
	// Without --no-pager the journal would wait in less(1) for somebody to press q.
	record(b, m, alice, "incident", 50,
		"systemctl --user is-active "+service,
		"sudo journalctl --no-pager _SYSTEMD_USER_UNIT="+service+" -o cat -g 'already listening' -n 1",
		"gateway doctor",
		"sudo gateway reclaim",
		"openclaw gateway start 2>&1 | grep Started",
	)
	answers(b, alice)
	alice.Run(b, "gateway", "adopt", "--yes")
	record(b, m, alice, "restart", 22,
		"curl -Z -H 'Connection: close' -o /dev/null -w '%{http_code}\\n' '"+health+"?[1-3000]' 2>/dev/null | sort | uniq -c &",
		"gateway restart",
		"wait   # 3000 requests, and what they were answered with",
		"gateway status",
	)
}

// answers waits until OpenClaw does.
func answers(b *testing.B, alice *machine.Scope) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), bound)
	defer cancel()
	if output, err := alice.Command(ctx, "curl", "-sS", "--retry", "1000", "--retry-delay", "1", "--retry-connrefused", health).CombinedOutput(); err != nil {
		b.Fatalf("OpenClaw does not answer: %v\n%s", err, output)
	}
}

// escape leaves an OpenClaw on the port that no unit keeps running, so that the service has failed. It has a state directory of its own: it
// is the port that the two are after.
func escape(b *testing.B, m *machine.Machine, alice *machine.Scope) {
	b.Helper()
	alice.Systemctl(b, "stop", service)
	alice.Run(b, "sh", "-c", "OPENCLAW_STATE_DIR=$HOME/old setsid node "+entry+" gateway run --port 18789 --bind loopback --allow-unconfigured >/dev/null 2>&1 </dev/null &")
	answers(b, alice)
	// Where there is lsof, an OpenClaw that knows that it is a service may end the other one itself.
	folder := alice.Home() + "/.config/systemd/user/" + service + ".d"
	m.As(alice).WriteFile(b, folder+"/unmarked.conf", "[Service]\nUnsetEnvironment=OPENCLAW_SERVICE_MARKER\n", 0o644)
	alice.Systemctl(b, "daemon-reload")
	alice.Systemctl(b, "start", service)
	alice.WaitUnit(b, service, bound, func(u machine.Unit) bool { return u.NRestarts > 0 || u.ActiveState == "failed" })
	alice.Run(b, "rm", "-r", folder)
	alice.Systemctl(b, "daemon-reload")
}

// record types the commands at a terminal of so many rows, and draws it.
func record(b *testing.B, m *machine.Machine, alice *machine.Scope, name string, rows int, commands ...string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 2*bound)
	defer cancel()
	cast := alice.Home() + "/" + name + ".cast"
	script := "bash /opt/type.sh"
	for _, command := range commands {
		script += " '" + strings.ReplaceAll(command, "'", `'\''`) + "'"
	}
	recorder := alice.Command(ctx, "env", "PYTHONPATH=/opt/asciinema/usr/lib/python3/dist-packages", "TERM=xterm-256color", "HOME="+alice.Home(),
		"/usr/bin/python3", "-m", "asciinema", "rec", "--quiet", "--cols", strconv.Itoa(columns), "--rows", strconv.Itoa(rows), "--idle-time-limit", strconv.Itoa(longest),
		"--command", script, cast)
	if output, err := recorder.CombinedOutput(); err != nil {
		b.Fatalf("record %s: %v\n%s", name, err, output)
	}
	file := filepath.Join(b.TempDir(), "cast")
	if err := os.WriteFile(file, []byte(m.ReadFile(b, cast)), 0o600); err != nil {
		b.Fatal(err)
	}
	picture := filepath.Join(required(b, "RECORDING_DOCS"), name+".svg")
	draw := exec.CommandContext(ctx, required(b, "NODE"), required(b, "SVG_TERM"), "--in", file, "--out", picture, "--window", "--no-cursor")
	if output, err := draw.CombinedOutput(); err != nil {
		b.Fatalf("draw %s: %v\n%s", name, err, output)
	}
}
