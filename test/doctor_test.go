package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"openclaw-gateway/test/machine"
)

const (
	// What looks like OpenClaw.
	clawEntry = "/opt/claw/node_modules/openclaw/dist/index.js"
	claw      = nodePath + " " + clawEntry + " gateway --port 18789"
	// What does not.
	strangerEntry = "/opt/stranger/index.js"
)

// finding is what "gateway doctor --json" says.
type finding struct {
	ID       string
	Severity string
	Summary  string
	Evidence map[string]any
	Fix      string
}

// diagnosis is the answer of one run of the doctor.
type diagnosis struct {
	Findings []finding
	Unknown  []string
	exit     int
}

func (d diagnosis) ids() string {
	var ids []string
	for _, finding := range d.Findings {
		ids = append(ids, finding.ID)
	}
	return strings.Join(ids, " ")
}

func (d diagnosis) text() string {
	var b strings.Builder
	for _, f := range d.Findings {
		fmt.Fprintf(&b, "%s: %s\n%v\nfix: %s\n", f.ID, f.Summary, f.Evidence, f.Fix)
	}
	return b.String() + strings.Join(d.Unknown, "\n")
}

// diagnose runs a program's doctor, gatewayPath as a rule.
func diagnose(t testing.TB, s *machine.Scope, program string, flags ...string) diagnosis {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	cmd := s.Command(ctx, program, append([]string{"doctor", "--json"}, flags...)...)
	output, err := cmd.Output()
	var d diagnosis
	exit := new(exec.ExitError)
	if errors.As(err, &exit) {
		d.exit = exit.ExitCode()
	} else if err != nil {
		t.Fatalf("gateway doctor: %v", err)
	}
	if err := json.Unmarshal(output, &d); err != nil {
		t.Fatalf("gateway doctor --json: %v, exit status %d\n%s%s", err, d.exit, output, exit.Stderr)
	}
	return d
}

// silent expects that nothing is found, and that all could be looked at.
func silent(t testing.TB, s *machine.Scope, flags ...string) {
	t.Helper()
	if d := diagnose(t, s, gatewayPath, flags...); d.exit != 0 || len(d.Findings) > 0 {
		t.Errorf("gateway doctor %v on a healthy machine: exit status %d\n%s", flags, d.exit, d.text())
	}
}

// finds expects exactly the findings, and returns the first.
func finds(t testing.TB, s *machine.Scope, ids string, flags ...string) finding {
	t.Helper()
	return expect(t, diagnose(t, s, gatewayPath, flags...), ids)
}

func expect(t testing.TB, d diagnosis, ids string) finding {
	t.Helper()
	if d.ids() != ids || d.exit != 1 {
		t.Fatalf("gateway doctor found %q, exit status %d, want %q\n%s", d.ids(), d.exit, ids, d.text())
	}
	return d.Findings[0]
}

// expected are exactly these.
func expected(t testing.TB, s *machine.Scope, ids string) []finding {
	t.Helper()
	d := diagnose(t, s, gatewayPath)
	expect(t, d, ids)
	return d.Findings
}

// mend runs the fix of a finding, which must be the wanted command, as a person who
// pastes it; then nothing is found any more.
func mend(t testing.TB, s *machine.Scope, f finding, want string) {
	t.Helper()
	if f.Fix != want {
		t.Errorf("the fix of %s is %q,\nwant %q", f.ID, f.Fix, want)
	}
	s.Run(t, "/bin/sh", "-c", f.Fix)
	silent(t, s)
}

// prepare puts what looks like OpenClaw into a machine, and a stranger, and lets its users become root, as those do who
// have set up theirs.
func prepare(t testing.TB, m *machine.Machine) {
	t.Helper()
	script, err := os.ReadFile("workers/openclaw.js")
	if err != nil {
		t.Fatal(err)
	}
	m.WriteFile(t, clawEntry, string(script), 0o644)
	m.WriteFile(t, filepath.Dir(filepath.Dir(clawEntry))+"/package.json",
		`{"name": "openclaw", "version": "2026.9.6", "engines": {"node": ">=24.16.0 <25 || >=26.1.0"}}`, 0o644)
	m.WriteFile(t, strangerEntry, string(script), 0o644)
	// Beside nodePath, as a release of Node.js has it.
	m.WriteFile(t, "/usr/local/include/node/node_version.h",
		"#define NODE_MAJOR_VERSION 24\n#define NODE_MINOR_VERSION 21\n#define NODE_PATCH_VERSION 0\n", 0o644)
	for name, entry := range map[string]string{"claw": clawEntry, "stranger": strangerEntry} {
		m.WriteFile(t, unitPath(m.Scope, name+".service"), "[Service]\nType=notify\nNotifyAccess=all\nEnvironment=NOTIFY=1\n"+
			"ExecStart="+nodePath+" "+entry+" gateway --port 18789\n[Install]\nWantedBy=default.target\n", 0o644)
	}
	m.Systemctl(t, "daemon-reload")
	m.WriteFile(t, "/etc/sudoers.d/test", "ALL ALL=(ALL) NOPASSWD: ALL\n", 0o440)
}

// detached starts a command that nobody supervises, and returns when it listens.
func detached(t testing.TB, m *machine.Machine, command string) {
	t.Helper()
	m.Run(t, "/bin/sh", "-c", "mkfifo /tmp/said && { setsid "+command+" >/tmp/said 2>&1 </dev/null & read line </tmp/said; rm /tmp/said; test \"$line\" = listening; }")
}

func pidOf(t testing.TB, f finding) int {
	t.Helper()
	pid, _ := f.Evidence["pid"].(float64)
	if pid < 2 {
		t.Fatalf("no pid in %v", f.Evidence)
	}
	return int(pid)
}

// TestDoctorPort: before anything is installed it says who has the port, which is the
// state in which most people meet it.
func TestDoctorPort(t *testing.T) { inScopes(t, testDoctorPort) }

func testDoctorPort(t *testing.T, here place) {
	m := here.boot(t, machine.Options{Users: true})
	root, ctl := m.As(m.System()), systemctl(m.Scope)
	prepare(t, m)
	root.Run(t, "useradd", "--create-home", "mallory")
	silent(t, m.Scope)
	if output := m.Run(t, gatewayPath, "doctor"); !strings.Contains(output, "nothing found: openclaw-gateway.service is not installed") {
		t.Errorf("without any installation it says:\n%s", output)
	}

	t.Run("orphan", func(t *testing.T) {
		detached(t, m, claw)
		f := finds(t, m.Scope, "port-held-by-orphan")
		if want := "gateway reclaim 127.0.0.1:18789 '[::1]:18789'"; f.Fix != want || !strings.Contains(f.Summary, "127.0.0.1:18789") {
			t.Errorf("found %+v, want the fix %s", f, want)
		}
		d := diagnose(t, m.Scope, gatewayPath)
		if output, err := m.Output(gatewayPath, "doctor"); err == nil || !strings.Contains(output, "fix: "+d.Findings[0].Fix+"\n") || strings.Contains(output, "\x1b") {
			t.Errorf("for a person: %v\n%s", err, output)
		}
		// Another user cannot see whose it is.
		output, err := root.Output("runuser", "-u", "mallory", "--", gatewayPath, "doctor")
		if err == nil || !strings.Contains(output, "port-holder-unseen") || !strings.Contains(output, "fix: sudo gateway reclaim --dry-run 127.0.0.1:18789") ||
			!strings.Contains(output, "not looked at: ") {
			t.Errorf("for another user: %v\n%s", err, output)
		}
		kill(t, m, pidOf(t, f))
		silent(t, m.Scope)
	})
	t.Run("rival", func(t *testing.T) {
		m.Systemctl(t, "enable", "--now", "claw.service")
		mend(t, m.Scope, finds(t, m.Scope, "port-held-by-rival openclaw-unit-enabled"), ctl+" disable --now claw.service")
	})
	for _, name := range []string{"clawdbot", "moltbot"} { // as OpenClaw was called
		t.Run(name, func(t *testing.T) {
			entry, unit := "/opt/"+name+"/dist/entry.js", name+"-gateway.service"
			m.WriteFile(t, entry, m.ReadFile(t, clawEntry), 0o644)
			m.WriteFile(t, "/opt/"+name+"/package.json", `{"name": "`+name+`", "version": "2026.1.24"}`, 0o644)
			command := nodePath + " " + entry + " gateway --port 18789"
			detached(t, m, command)
			mend(t, m.Scope, finds(t, m.Scope, "port-held-by-orphan"), "gateway reclaim 127.0.0.1:18789 '[::1]:18789'")
			m.WriteFile(t, unitPath(m.Scope, unit), "[Service]\nType=notify\nNotifyAccess=all\nEnvironment=NOTIFY=1\nExecStart="+command+"\n[Install]\nWantedBy=default.target\n", 0o644)
			m.Systemctl(t, "daemon-reload")
			m.Systemctl(t, "enable", "--now", unit)
			mend(t, m.Scope, finds(t, m.Scope, "port-held-by-rival openclaw-unit-enabled"), ctl+" disable --now "+unit)
			m.Systemctl(t, "enable", unit)
			mend(t, m.Scope, finds(t, m.Scope, "openclaw-unit-enabled"), ctl+" disable --now "+unit)
		})
	}
	t.Run("own unit by its marker", func(t *testing.T) {
		m.WriteFile(t, unitPath(m.Scope, "wrapped.service"),
			"[Service]\nEnvironment=OPENCLAW_SERVICE_MARKER=openclaw\nExecStart=/opt/start-it\n[Install]\nWantedBy=default.target\n", 0o644)
		silent(t, m.Scope)
		m.Systemctl(t, "enable", "wrapped.service")
		mend(t, m.Scope, finds(t, m.Scope, "openclaw-unit-enabled"), ctl+" disable --now wrapped.service")
	})
	t.Run("foreign", func(t *testing.T) {
		detached(t, m, nodePath+" "+strangerEntry+" gateway --port 18789")
		f := finds(t, m.Scope, "port-held-by-foreign")
		if want := "gateway reclaim --force 127.0.0.1:18789 '[::1]:18789'"; f.Fix != want {
			t.Errorf("the fix is %q, want %q", f.Fix, want)
		}
		kill(t, m, pidOf(t, f))
		silent(t, m.Scope)
	})
	t.Run("foreign in a service", func(t *testing.T) {
		m.Systemctl(t, "start", "stranger.service")
		mend(t, m.Scope, finds(t, m.Scope, "port-held-by-foreign"), ctl+" stop stranger.service")
	})
	t.Run("another socket unit", func(t *testing.T) {
		m.WriteFile(t, unitPath(m.Scope, "other.socket"), "[Socket]\nListenStream=127.0.0.1:18789\n", 0o644)
		m.WriteFile(t, unitPath(m.Scope, "other.service"), "[Service]\nExecStart=/bin/true\n", 0o644)
		m.Systemctl(t, "start", "other.socket")
		mend(t, m.Scope, finds(t, m.Scope, "port-held-by-foreign"), ctl+" stop other.socket")
	})
	t.Run("run by hand", func(t *testing.T) {
		m.Run(t, "/bin/sh", "-c", "mkfifo /tmp/said && { setsid "+gatewayPath+" run >/tmp/said 2>/dev/null </dev/null & read line </tmp/said; }")
		silent(t, m.Scope)
		launcher := gatewayStatus(t, m.Scope).Launcher.PID
		stopProcess(t, m, launcher)
		if d := diagnose(t, m.Scope, gatewayPath); d.exit != 2 || !strings.Contains(d.text(), "gives no answer") {
			t.Errorf("of a launcher that hangs: exit status %d\n%s", d.exit, d.text())
		}
		kill(t, m, launcher)
		silent(t, m.Scope)
	})
	t.Run("asked for a manager that is not there", func(t *testing.T) {
		if d := diagnose(t, root.Scope, gatewayPath, "--user"); d.exit != 2 || len(d.Unknown) == 0 {
			t.Errorf("exit status %d, want 2\n%s", d.exit, d.text())
		}
	})
}

// drop writes a drop-in, or removes it when there is no content.
func drop(t testing.TB, m *machine.Machine, unit, content string) {
	t.Helper()
	path := fmt.Sprintf("/etc/systemd/%s/%s.d/test.conf", kind(m.Scope), unit)
	if content == "" {
		m.As(m.System()).Run(t, "rm", path)
	} else {
		m.WriteFile(t, path, content, 0o644)
	}
	m.Systemctl(t, "daemon-reload")
}

// edit changes a file in the machine.
func edit(t testing.TB, m *machine.Machine, path, old, new string) {
	t.Helper()
	content := m.ReadFile(t, path)
	if !strings.Contains(content, old) {
		t.Fatalf("no %q in %s:\n%s", old, path, content)
	}
	m.WriteFile(t, path, strings.ReplaceAll(content, old, new), 0o644)
}

// TestDoctorUnits brings about what can be wrong with the units and the launcher, and
// mends each with the command that the doctor prints.
func TestDoctorUnits(t *testing.T) {
	old := filepath.Join(t.TempDir(), "gateway")
	build := sync.OnceValue(func() error { return machine.Build(old, "VERSION=0.0.1") })
	inScopes(t, func(t *testing.T, here place) {
		next, err := nextRelease()
		if err := errors.Join(err, build()); err != nil {
			t.Fatal(err)
		}
		testDoctorUnits(t, here, old, next)
	})
}

func testDoctorUnits(t *testing.T, here place, old, next string) {
	m := here.boot(t, machine.Options{Users: true, Binds: map[string]string{"/opt/old/gateway": old, "/opt/next/gateway": next}})
	root, configFile := m.As(m.System()), configPath(m.Scope)
	socketPath, servicePath := unitPath(m.Scope, socket), unitPath(m.Scope, service)
	prepare(t, m)
	install(t, m.Scope, m, "{}\n")
	silent(t, m.Scope)
	get(t, m, ipv4, "/healthz")
	serving(t, m.Scope, 1)
	silent(t, m.Scope)
	silent(t, m.Scope, "--"+kind(m.Scope))

	// What the doctor is to print.
	ctl, reinstall := systemctl(m.Scope), "gateway install --"+kind(m.Scope)
	// try runs what may fail.
	try := func(command string) error {
		_, err := m.Output("/bin/sh", "-c", ctl+" "+command)
		return err
	}

	t.Run("another user", func(t *testing.T) {
		root.Run(t, "useradd", "mallory")
		output, err := root.Output("runuser", "-u", "mallory", "--", gatewayPath, "doctor")
		if here.user {
			// Of units of the system everybody is told that they have the port; of alice's nobody else is.
			if !strings.Contains(output, "port-holder-unseen") || !strings.Contains(output, "fix: sudo gateway reclaim --dry-run 127.0.0.1:18789") {
				t.Errorf("who may not see the units of another user cannot tell who has the port: %v\n%s", err, output)
			}
			return
		}
		if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 2 {
			t.Errorf("who may not ask the launcher cannot tell that it is well: %v", err)
		}
	})
	t.Run("not enabled", func(t *testing.T) {
		m.Systemctl(t, "disable", socket)
		mend(t, m.Scope, finds(t, m.Scope, "socket-not-enabled"), ctl+" enable --now openclaw-gateway.socket")
	})
	t.Run("stopped", func(t *testing.T) {
		m.Run(t, gatewayPath, "stop")
		mend(t, m.Scope, finds(t, m.Scope, "socket-not-active"), ctl+" start openclaw-gateway.socket")
	})
	taken := func(t *testing.T, unit, freed string) {
		m.Run(t, gatewayPath, "stop")
		m.Systemctl(t, "start", unit)
		if err := try("start " + socket); err == nil {
			t.Fatal("the socket was opened on a taken port")
		}
		d := diagnose(t, m.Scope, gatewayPath)
		expect(t, d, "port-held-by-foreign socket-port-taken")
		// The status has what is to be run in the order in which it helps.
		text, _ := printedStatus(t, m.Scope)
		frees, opens := strings.Index(text, "`"+freed+"`"), strings.Index(text, "enable --now openclaw-gateway.socket")
		if m.User != "" && frees < 0 { // what a user's own manager holds that user may not see
			frees = strings.Index(text, "`sudo gateway reclaim --dry-run "+ipv4+"` shows who it is")
		}
		if frees < 0 || opens < frees {
			t.Errorf("the status says\n%s", text)
		}
		mend(t, m.Scope, d.Findings[1], freed+" && "+ctl+" start openclaw-gateway.socket")
	}
	t.Run("port taken", func(t *testing.T) { taken(t, "stranger.service", ctl+" stop stranger.service") })
	t.Run("port taken by a socket unit", func(t *testing.T) {
		m.WriteFile(t, unitPath(m.Scope, "other.socket"), "[Socket]\nListenStream=127.0.0.1:18789\n", 0o644)
		m.WriteFile(t, unitPath(m.Scope, "other.service"), "[Service]\nExecStart=/bin/true\n", 0o644)
		taken(t, "other.socket", ctl+" stop other.socket")
	})
	t.Run("start limit", func(t *testing.T) {
		drop(t, m, socket, "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=1\n")
		for range 2 {
			_ = try("restart " + socket)
		}
		drop(t, m, socket, "")
		mend(t, m.Scope, finds(t, m.Scope, "socket-start-limit"),
			ctl+" reset-failed openclaw-gateway.socket && "+ctl+" start openclaw-gateway.socket")
	})
	t.Run("start limit of the service", func(t *testing.T) {
		drop(t, m, service, "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=1\n")
		for range 2 {
			_ = try("restart " + service)
		}
		if _, _, err := tryGet(t.Context(), m, ipv4, "/"); err == nil {
			t.Fatal("served in spite of the limit")
		}
		m.WaitUnit(t, socket, bound, func(u machine.Unit) bool { return u.ActiveState == "failed" })
		drop(t, m, service, "")
		mend(t, m.Scope, expect(t, without(diagnose(t, m.Scope, gatewayPath), "service-failed"), "socket-start-limit"),
			ctl+" reset-failed openclaw-gateway.socket openclaw-gateway.service && "+ctl+" start openclaw-gateway.socket")
	})
	t.Run("trigger limit", func(t *testing.T) {
		drop(t, m, socket, "[Socket]\nTriggerLimitIntervalSec=1h\nTriggerLimitBurst=1\n")
		drop(t, m, service, "[Service]\nType=exec\nRestart=no\nExecStart=\nExecStart=/bin/true\n")
		m.Systemctl(t, "restart", socket)
		if _, _, err := tryGet(t.Context(), m, ipv4, "/"); err == nil {
			t.Fatal("served by /bin/true")
		}
		m.WaitUnit(t, socket, bound, func(u machine.Unit) bool { return u.ActiveState == "failed" })
		drop(t, m, socket, "")
		drop(t, m, service, "")
		mend(t, m.Scope, finds(t, m.Scope, "socket-trigger-limit"),
			ctl+" reset-failed openclaw-gateway.socket openclaw-gateway.service && "+ctl+" start openclaw-gateway.socket")
	})
	t.Run("failed otherwise", func(t *testing.T) {
		drop(t, m, socket, "[Socket]\nExecStartPre=/bin/false\n")
		if err := try("restart " + socket); err == nil {
			t.Fatal("the socket was opened in spite of /bin/false")
		}
		drop(t, m, socket, "")
		mend(t, m.Scope, finds(t, m.Scope, "socket-failed"),
			ctl+" reset-failed openclaw-gateway.socket && "+ctl+" start openclaw-gateway.socket")
	})
	t.Run("listen edited", func(t *testing.T) {
		m.WriteFile(t, configFile, "listen: ['127.0.0.1:18790']\n", 0o644)
		mend(t, m.Scope, finds(t, m.Scope, "listen-differs"), reinstall)
		m.WriteFile(t, configFile, "{}\n", 0o644)
		mend(t, m.Scope, finds(t, m.Scope, "listen-differs"), reinstall)
	})
	t.Run("unit edited", func(t *testing.T) {
		edit(t, m, socketPath, "ListenStream=[::1]:18789\n", "ListenStream=[::1]:18789\nListenStream=127.0.0.1:18790\n")
		m.WriteFile(t, configFile, "listen: ['127.0.0.1:18789', '[::1]:18789', '127.0.0.1:18790']\n", 0o644)
		f := expect(t, without(diagnose(t, m.Scope, gatewayPath), "listen-differs"), "unit-changed-on-disk")
		if f.Fix != ctl+" daemon-reload" {
			t.Errorf("the fix is %q", f.Fix)
		}
		m.Run(t, "/bin/sh", "-c", f.Fix)
		mend(t, m.Scope, finds(t, m.Scope, "address-not-open"), ctl+" restart openclaw-gateway.socket")
		m.WriteFile(t, configFile, "{}\n", 0o644)
		mend(t, m.Scope, finds(t, m.Scope, "listen-differs"), reinstall)
	})
	t.Run("no such program", func(t *testing.T) {
		edit(t, m, servicePath, "ExecStart="+gatewayPath, "ExecStart=/opt/gone/gateway")
		m.Systemctl(t, "daemon-reload")
		_ = try("restart --no-block " + service)
		// Between two tries systemd is about to make the next.
		var d diagnosis
		for range 50 {
			m.WaitUnit(t, service, bound, func(u machine.Unit) bool { return u.SubState == "auto-restart" })
			if d = diagnose(t, m.Scope, gatewayPath); len(d.Findings) > 0 {
				break
			}
		}
		mend(t, m.Scope, expect(t, d, "service-failed"), reinstall+" && "+ctl+" restart openclaw-gateway.service")
	})

	start := func(t *testing.T) int {
		t.Helper()
		get(t, m, ipv4, "/healthz")
		serving(t, m.Scope, 1)
		return gatewayStatus(t, m.Scope).Launcher.PID
	}
	t.Run("main pid is a shell", func(t *testing.T) {
		// The shell hands the sockets on as systemd does.
		m.WriteFile(t, "/opt/inner.sh", "LISTEN_PID=$$ exec "+gatewayPath+" run --config "+configFile+"\n", 0o644)
		m.WriteFile(t, "/opt/outer.sh", "sh /opt/inner.sh\ntrue\n", 0o644)
		edit(t, m, servicePath, "ExecStart="+gatewayPath+" run --config "+configFile, "ExecStart=/bin/sh /opt/outer.sh")
		edit(t, m, servicePath, "NotifyAccess=main", "NotifyAccess=all")
		m.Systemctl(t, "daemon-reload")
		m.Systemctl(t, "restart", service)
		d := without(diagnose(t, m.Scope, gatewayPath), "no-delegated-cgroup")
		mend(t, m.Scope, expect(t, d, "main-pid-not-launcher"), reinstall+" && "+ctl+" restart openclaw-gateway.service")
	})
	t.Run("hung", func(t *testing.T) {
		launcher := start(t)
		stopProcess(t, m, launcher)
		f := finds(t, m.Scope, "launcher-not-answering")
		m.Run(t, "/bin/sh", "-c", f.Fix)
		m.WaitUnit(t, service, bound, func(u machine.Unit) bool { return u.MainPID != launcher && u.MainPID != 0 && machine.Active(u) })
		if f.Fix != ctl+" kill --kill-whom=main --signal=KILL openclaw-gateway.service" {
			t.Errorf("the fix is %q", f.Fix)
		}
		silent(t, m.Scope)
	})
	t.Run("one that was started by hand is stopped", func(t *testing.T) {
		m.Run(t, gatewayPath, "stop")
		m.Run(t, "/bin/sh", "-c", "mkfifo /tmp/said && { setsid "+gatewayPath+" run >/tmp/said 2>/dev/null </dev/null & read line </tmp/said; rm /tmp/said; }")
		launcher := gatewayStatus(t, m.Scope).Launcher.PID
		stopProcess(t, m, launcher)
		f := expect(t, without(diagnose(t, m.Scope, gatewayPath), "socket-not-active"), "launcher-not-answering")
		if want := fmt.Sprintf("kill %[1]d && kill -CONT %[1]d", launcher); f.Fix != want {
			t.Errorf("the fix is %q, want %q", f.Fix, want)
		}
		m.Run(t, "/bin/sh", "-c", f.Fix+" && timeout 60 tail -f /dev/null --pid "+fmt.Sprint(launcher))
		mend(t, m.Scope, finds(t, m.Scope, "socket-not-active"), ctl+" start openclaw-gateway.socket")
	})
	t.Run("no control socket", func(t *testing.T) {
		stopProcess(t, m, start(t)) // otherwise it makes another
		m.Run(t, "rm", m.RuntimeDir()+"/openclaw-gateway/control.sock")
		mend(t, m.Scope, finds(t, m.Scope, "launcher-not-answering"), ctl+" restart openclaw-gateway.service")
	})
	t.Run("another version", func(t *testing.T) {
		start(t)
		f := expect(t, diagnose(t, m.Scope, "/opt/old/gateway"), "launcher-version")
		if want := "/opt/old/" + reinstall + " && " + ctl + " restart openclaw-gateway.service"; f.Fix != want {
			t.Errorf("the fix is %q, want %q", f.Fix, want)
		}
		m.Run(t, "/bin/sh", "-c", f.Fix)
		start(t)
		if d := diagnose(t, m.Scope, "/opt/old/gateway"); d.exit != 0 {
			t.Errorf("after its fix:\n%s", d.text())
		}
		mend(t, m.Scope, finds(t, m.Scope, "launcher-version"), reinstall+" && "+ctl+" restart openclaw-gateway.service")
	})
	t.Run("the next version at the same place", func(t *testing.T) {
		const program = "/opt/gateway"
		root.Run(t, "cp", gatewayPath, program)
		m.Run(t, "/bin/sh", "-c", "/opt/"+reinstall+" && "+ctl+" restart openclaw-gateway.service")
		before := start(t)
		root.Run(t, "sh", "-c", "cp /opt/next/gateway /opt/other && mv /opt/other "+program)
		f := expect(t, diagnose(t, m.Scope, program), "launcher-version")
		if want := program + " upgrade --" + kind(m.Scope); f.Fix != want {
			t.Errorf("the fix is %q, want %q", f.Fix, want)
		}
		m.Run(t, "/bin/sh", "-c", f.Fix)
		if d := diagnose(t, m.Scope, program); d.exit != 0 {
			t.Errorf("after its fix:\n%s", d.text())
		}
		if now := gatewayStatus(t, m.Scope).Launcher.PID; now != before {
			t.Errorf("the launcher is pid %d, and was %d: clients have waited", now, before)
		}
		mend(t, m.Scope, finds(t, m.Scope, "launcher-version"), reinstall+" && "+ctl+" restart openclaw-gateway.service")
	})
	t.Run("a name that OpenClaw kills", func(t *testing.T) {
		root.Run(t, "cp", gatewayPath, "/opt/openclaw-start")
		edit(t, m, servicePath, "ExecStart="+gatewayPath, "ExecStart=/opt/openclaw-start")
		m.Systemctl(t, "daemon-reload")
		m.Systemctl(t, "restart", service)
		mend(t, m.Scope, finds(t, m.Scope, "launcher-name"), reinstall+" && "+ctl+" restart openclaw-gateway.service")
	})
	t.Run("a program that others can replace", func(t *testing.T) {
		if here.user {
			return // it is theirs
		}
		m.Run(t, "/bin/sh", "-c", "install -d -o nobody /opt/theirs && cp "+gatewayPath+" /opt/theirs/gateway")
		edit(t, m, servicePath, "ExecStart="+gatewayPath, "ExecStart=/opt/theirs/gateway")
		m.Systemctl(t, "daemon-reload")
		m.Systemctl(t, "restart", service)
		f := finds(t, m.Scope, "program-replaceable")
		if !strings.Contains(f.Summary, "/opt/theirs belongs to user nobody") {
			t.Errorf("found %+v", f)
		}
		mend(t, m.Scope, f, reinstall+" && "+ctl+" restart openclaw-gateway.service")
	})
	t.Run("no delegation", func(t *testing.T) {
		edit(t, m, servicePath, "Delegate=yes", "Delegate=no")
		m.Systemctl(t, "daemon-reload")
		m.Systemctl(t, "restart", service)
		start(t)
		mend(t, m.Scope, finds(t, m.Scope, "no-delegated-cgroup"), reinstall+" && "+ctl+" restart openclaw-gateway.service")
	})
}

// without leaves out what may be found as well, depending on the moment.
func without(d diagnosis, id string) diagnosis {
	d.Findings = slices.DeleteFunc(d.Findings, func(f finding) bool { return f.ID == id })
	return d
}

// TestDoctorWorker brings about what can be wrong with the worker, its configuration,
// and the machine below it.
func TestDoctorWorker(t *testing.T) { inScopes(t, testDoctorWorker) }

func testDoctorWorker(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	root, configFile := m.As(m.System()), configPath(m.Scope)
	prepare(t, m)
	command := strings.Fields(claw)
	good := worker(command...)
	install(t, m.Scope, m, good, "--external")
	get(t, m, ipv4, "/")
	serving(t, m.Scope, 1)
	silent(t, m.Scope)
	pid := func() string { return fmt.Sprint(gatewayStatus(t, m.Scope).Worker.PID) }

	// reload applies a configuration, whatever comes of it.
	reload := func(t *testing.T, configuration string) {
		t.Helper()
		m.WriteFile(t, configFile, configuration, 0o644)
		_, _ = m.Output(gatewayPath, "reload")
	}
	// edited expects a fix that opens the file, and the words that say what for.
	edited := func(t *testing.T, f finding, words string) {
		t.Helper()
		if f.Fix != `"${EDITOR:-vi}" `+configFile || !strings.Contains(f.Summary+fmt.Sprint(f.Evidence["mistakes"]), words) {
			t.Errorf("the fix of %s is %q, want the configuration, and %q in %q", f.ID, f.Fix, words, f.Summary)
		}
		m.WriteFile(t, "/opt/good.yaml", good, 0o644)
		m.WriteFile(t, "/opt/editor", "#!/bin/sh\ncat /opt/good.yaml >\"$1\"\n", 0o755)
		m.Run(t, "/bin/sh", "-c", "EDITOR=/opt/editor && "+f.Fix)
		_, _ = m.Output(gatewayPath, "reload")
		silent(t, m.Scope)
	}
	t.Run("outside its cgroup", func(t *testing.T) {
		root.Run(t, "/bin/sh", "-c", "mkdir /sys/fs/cgroup/elsewhere && echo "+pid()+" > /sys/fs/cgroup/elsewhere/cgroup.procs")
		mend(t, m.Scope, finds(t, m.Scope, "worker-outside-cgroup"), "gateway restart --"+kind(m.Scope))
	})
	t.Run("short queue", func(t *testing.T) {
		get(t, m, ipv4, "/shrink")
		mend(t, m.Scope, finds(t, m.Scope, "backlog-too-small"), "gateway restart --"+kind(m.Scope))
	})
	t.Run("somaxconn", func(t *testing.T) {
		root.Run(t, "sysctl", "-w", "net.core.somaxconn=128")
		t.Cleanup(func() { root.Run(t, "sysctl", "-w", "net.core.somaxconn=4096") })
		mend(t, m.Scope, finds(t, m.Scope, "somaxconn-too-small"), asRoot(m.Scope, "sysctl -w net.core.somaxconn=4096"))
	})
	t.Run("old Node.js", func(t *testing.T) {
		folder := filepath.Dir(filepath.Dir(clawEntry))
		edit(t, m, folder+"/package.json", ">=24.16.0 <25 || >=26.1.0", ">=99.1.0")
		f := finds(t, m.Scope, "node-too-old")
		if !strings.Contains(f.Summary, "needs >=99.1.0") {
			t.Errorf("found %+v", f)
		}
		edit(t, m, folder+"/package.json", ">=99.1.0", ">=24.16.0 <25 || >=26.1.0")
		silent(t, m.Scope)
	})
	t.Run("replaced", func(t *testing.T) {
		file := filepath.Dir(filepath.Dir(clawEntry)) + "/package.json"
		edit(t, m, file, "2026.9.6", "2026.10.1")
		want, command := "OpenClaw 2026.9.6 runs, and 2026.10.1 is installed", "gateway restart --"+kind(m.Scope)
		if output := m.Run(t, gatewayPath, "status"); !strings.HasPrefix(output, "ok") || !strings.Contains(output, want+": `"+command+"` starts that one") {
			t.Errorf("the status is\n%s", output)
		}
		f := finds(t, m.Scope, "openclaw-replaced")
		if f.Summary != want {
			t.Errorf("found %+v", f)
		}
		mend(t, m.Scope, f, command)
		edit(t, m, file, "2026.10.1", "2026.9.6")
		m.Run(t, gatewayPath, "restart")
	})
	t.Run("mistakes", func(t *testing.T) {
		reload(t, "worker:\n  comand: [x]\nready:\n  timeout: 5\n")
		f := finds(t, m.Scope, "config-invalid")
		mistakes, _ := f.Evidence["mistakes"].([]any)
		if len(mistakes) != 2 || !strings.Contains(fmt.Sprint(mistakes...), "config.yaml:2") || !strings.Contains(fmt.Sprint(mistakes...), "config.yaml:4") ||
			!strings.Contains(f.Summary, "the last configuration that worked is in use") {
			t.Errorf("found %+v, want both mistakes with their lines", f)
		}
		edited(t, f, "config.yaml:2")
	})
	t.Run("wrong variable", func(t *testing.T) {
		const wrong, out = "Environment=GATEWAY_READY_TIMEOUT=10", "UnsetEnvironment=GATEWAY_READY_TIMEOUT"
		elsewhere := "/etc/systemd/" + kind(m.Scope) + "/openclaw-gateway.service.d"
		m.WriteFile(t, elsewhere+"/z.conf", "[Service]\n"+wrong+"\n", 0o644)
		m.WriteFile(t, "/opt/editor", "#!/bin/sh\nfor file; do [ ! -f \"$file\" ] || printf '[Service]\\n"+out+"\\n' >\"$file\"; done\n", 0o755)
		m.Systemctl(t, "daemon-reload")
		m.Systemctl(t, "restart", service)
		d := diagnose(t, m.Scope, gatewayPath)
		f := expect(t, d, "worker-failed config-rejected")
		_, shows, _ := strings.Cut(d.Findings[1].Summary, "`")
		shows, _, _ = strings.Cut(shows, "`")
		if text := m.Run(t, "/bin/sh", "-c", shows); !strings.Contains(text, wrong) || !strings.Contains(d.Findings[1].Summary, out) {
			t.Errorf("%s shows\n%s\nfor %+v", shows, text, d.Findings[1])
		}
		if f.Fix != d.Findings[1].Fix {
			t.Errorf("found %+v", d.Findings)
		}
		// An editor needs a terminal.
		m.Run(t, "/usr/bin/env", "SYSTEMD_EDITOR=/opt/editor", "script", "-qec", f.Fix, "/dev/null")
		get(t, m, ipv4, "/")
		silent(t, m.Scope)
		root.Run(t, "rm", elsewhere+"/z.conf")
		m.Systemctl(t, "revert", service)
		m.Systemctl(t, "restart", service)
		get(t, m, ipv4, "/")
	})
	t.Run("rolled back", func(t *testing.T) {
		reload(t, worker("/bin/false"))
		f := finds(t, m.Scope, "config-rejected")
		if !strings.Contains(fmt.Sprint(f.Evidence["reason"]), "exit code 1") {
			t.Errorf("found %+v, want the reason", f)
		}
		edited(t, f, "applied at once")
	})
	t.Run("no such program", func(t *testing.T) {
		reload(t, worker("/no/such/program"))
		edited(t, finds(t, m.Scope, "worker-program-missing config-rejected"), "worker.command (config.yaml:2)")
	})
	t.Run("another port", func(t *testing.T) {
		reload(t, worker(append(slices.Clone(command[:len(command)-1]), "18790")...)+"ready: {timeout: 2s}\n")
		edited(t, finds(t, m.Scope, "worker-other-port config-rejected"), "port 18789 instead of 18790")
	})
	t.Run("an address that overlaps", func(t *testing.T) {
		m.WriteFile(t, configFile, worker(append(slices.Clone(command), "--bind", "lan")...), 0o644)
		d := without(diagnose(t, m.Scope, gatewayPath), "config-rejected")
		edited(t, expect(t, d, "worker-address-clash"), "0.0.0.0:18789")
	})
	t.Run("secrets", func(t *testing.T) {
		m.Run(t, "chmod", "go+x", m.Home()) // otherwise nobody else gets to a user's configuration
		m.WriteFile(t, "/etc/secrets.env", "OPENCLAW_GATEWAY_TOKEN=hunter2\nHARMLESS=1\n", 0o644)
		reload(t, good+"  environment: ['API_KEY=hunter2']\n  environment_file: /etc/secrets.env\n")
		d := diagnose(t, m.Scope, gatewayPath)
		expect(t, d, "secrets-readable secrets-readable")
		if text := d.text(); strings.Contains(text, "hunter2") || !strings.Contains(text, "API_KEY") || !strings.Contains(text, "OPENCLAW_GATEWAY_TOKEN") || strings.Contains(text, "HARMLESS") {
			t.Errorf("want the names of the secrets alone:\n%s", text)
		}
		m.Run(t, "/bin/sh", "-c", d.Findings[0].Fix)
		if here.user { // root's file is not hers to change
			edited(t, d.Findings[1], "worker.environment_file")
		} else {
			mend(t, m.Scope, d.Findings[1], "chmod 600 /etc/secrets.env")
		}
		reload(t, good)
	})

	// From here on there is no last good configuration to go back to.
	t.Run("at once, and not at boot", func(t *testing.T) {
		m.WriteFile(t, configFile, strings.Replace(good, "worker:\n", "worker:\n  start: at-once\n", 1), 0o644)
		_, _ = m.Output(gatewayPath, "reload")
		f := finds(t, m.Scope, "at-once-not-enabled")
		if !strings.Contains(f.Summary, "worker.start is at-once") {
			t.Errorf("found %+v", f)
		}
		mend(t, m.Scope, f, "gateway install --"+kind(m.Scope))
		m.WriteFile(t, configFile, good, 0o644)
		_, _ = m.Output(gatewayPath, "reload")
		f = finds(t, m.Scope, "at-once-not-enabled")
		if !strings.Contains(f.Summary, "worker.start is on-demand") {
			t.Errorf("found %+v", f)
		}
		mend(t, m.Scope, f, systemctl(m.Scope)+" disable openclaw-gateway.service")
	})
	anew := func(t *testing.T, configuration string) {
		t.Helper()
		m.Systemctl(t, "enable", service)
		m.Systemctl(t, "stop", service)
		m.Run(t, "rm", "-f", statePath(m.Scope)+"/last-good.yaml")
		m.WriteFile(t, configFile, configuration, 0o644)
		m.Systemctl(t, "start", "--no-block", service)
	}
	t.Run("another port, any worker", func(t *testing.T) {
		anew(t, worker(nodePath, workersPath+"/server.js")+"  environment: ['PORT=18791']\n  handoff: listen-fds\n  start: at-once\n")
		// It is given 10 s to listen where it should. Nothing tells when they are over, and to ask all the time would take
		// a processor from the other tests.
		var d diagnosis
		for deadline := time.Now().Add(bound); time.Now().Before(deadline); <-time.After(time.Second) {
			if d = diagnose(t, m.Scope, gatewayPath); d.ids() == "worker-other-port" {
				break
			}
		}
		if f := expect(t, d, "worker-other-port"); !strings.Contains(f.Summary, "127.0.0.1:18791") {
			t.Errorf("found %+v", f)
		}
	})
	t.Run("crash loop", func(t *testing.T) {
		anew(t, worker("/bin/false")+"  start: at-once\nrestart: {backoff_min: 1m}\n")
		statusText(t, m.Scope, "exit code 1", "next start at")
		if f := finds(t, m.Scope, "worker-restarting"); !strings.Contains(fmt.Sprint(f.Evidence["last_exit"]), "exit code 1") {
			t.Errorf("found %+v, want the last exit", f)
		}
	})
	t.Run("failed for good", func(t *testing.T) {
		// It fails once.
		anew(t, worker("/bin/sh", "-c", "test -e /run/mended || exit 78; exec "+gatewayPath+" hello")+"  start: at-once\n")
		statusText(t, m.Scope, "exit code 78", "gateway restart")
		m.WriteFile(t, "/run/mended", "", 0o644)
		f := finds(t, m.Scope, "worker-failed")
		if !strings.Contains(fmt.Sprint(f.Evidence["last_exit"]), "exit code 78") {
			t.Errorf("found %+v, want the last exit", f)
		}
		mend(t, m.Scope, f, "gateway restart --"+kind(m.Scope))
	})
}

// askFor has a user ask for what is root's, in every way that root is told a command for: root's things stay as they are
// whatever root runs, and the exit status does not tell of what is only hers.
func askFor(t *testing.T, m *machine.Machine, alice *machine.Scope) {
	asAlice := fmt.Sprintf("runuser --pty -u alice -- env XDG_RUNTIME_DIR=/run/user/%d ", alice.UID)
	own, original := configPath(alice), ""
	original = m.ReadFile(t, own)
	write := func(content string) {
		t.Helper()
		m.As(alice).WriteFile(t, own, content, 0o600)
	}
	defer write(original)
	m.WriteFile(t, "/opt/editor", "#!/bin/sh\necho '{}' >\"$1\"\n", 0o755)
	edits := asAlice + `"${EDITOR:-vi}" ` + own
	// runs pastes a fix, whatever becomes of it.
	runs := func(fix string) { _, _ = m.Output("/bin/sh", "-c", "export EDITOR=/opt/editor && "+fix) }

	t.Run("a file of root's", func(t *testing.T) {
		m.WriteFile(t, "/etc/secrets.env", "API_TOKEN=hunter2\n", 0o644)
		write("listen: ['127.0.0.1:18789', '[::1]:18789']\nworker: {environment_file: '/[et][tm][cp]/secrets.env'}\n")
		f := finds(t, m.Scope, "secrets-readable")
		if f.Fix != edits {
			t.Errorf("the fix is %s, want %s", f.Fix, edits)
		}
		runs(f.Fix)
		if now := m.Run(t, "stat", "--format=%U %a", "/etc/secrets.env"); now != "root 644\n" {
			t.Errorf("root's file is %s now", now)
		}
	})
	t.Run("a link where her file was", func(t *testing.T) {
		m.As(alice).WriteFile(t, alice.Home()+"/x.env", "API_TOKEN=hunter2\n", 0o644)
		alice.Run(t, "chmod", "755", alice.Home())
		write("listen: ['127.0.0.1:18789', '[::1]:18789']\nworker: {environment_file: " + alice.Home() + "/x.env}\n")
		f := finds(t, m.Scope, "secrets-readable")
		if want := asAlice + "chmod 600 " + alice.Home() + "/x.env"; f.Fix != want {
			t.Errorf("the fix is %s, want %s", f.Fix, want)
		}
		alice.Run(t, "ln", "-sf", "/etc/secrets.env", alice.Home()+"/x.env")
		runs(f.Fix)
		if now := m.Run(t, "stat", "--format=%U %a", "/etc/secrets.env"); now != "root 644\n" {
			t.Errorf("root's file is %s now", now)
		}
	})
	t.Run("the port of a service of root's", func(t *testing.T) {
		m.WriteFile(t, "/etc/systemd/system/db.service", "[Service]\nType=notify\nNotifyAccess=all\nEnvironment=NOTIFY=1\n"+
			"ExecStart="+nodePath+" "+strangerEntry+" gateway --port 5432\n", 0o644)
		m.Systemctl(t, "daemon-reload")
		m.Systemctl(t, "start", "db.service")
		defer m.Systemctl(t, "stop", "db.service")
		write("listen: ['127.0.0.1:18789', '[::1]:18789', '127.0.0.1:5432']\n")
		d := without(diagnose(t, m.Scope, gatewayPath), "listen-differs")
		f := expect(t, d, "port-held-by-foreign")
		if f.Fix != edits || f.Severity != "warning" || f.Evidence["user"] != "alice" {
			t.Errorf("found %+v, want a warning of hers, and the fix %s", f, edits)
		}
		runs(f.Fix)
		silent(t, m.Scope)
		if state := m.Unit(t, "db.service").ActiveState; state != "active" {
			t.Errorf("root's service is %s", state)
		}
		// Without units of hers nothing is amiss that concerns the machine.
		alice.Run(t, gatewayPath, "uninstall", "--user")
		write("listen: ['127.0.0.1:5432']\n")
		if d := diagnose(t, m.Scope, gatewayPath); d.ids() != "port-held-by-foreign" || d.exit != 0 || d.Findings[0].Fix != edits {
			t.Errorf("exit status %d\n%s", d.exit, d.text())
		}
		write("{}\n")
		alice.Run(t, gatewayPath, "install", "--user", "--now")
		silent(t, m.Scope)
	})
}

// TestDoctorScopes: the units of a user, beside those of the system.
func TestDoctorScopes(t *testing.T) { onBoth(t, testDoctorScopes) }

func testDoctorScopes(t *testing.T, here place) {
	m := here.boot(t, machine.Options{Users: true})
	alice := m.AddUser(t, "alice")
	prepare(t, m)
	alice.Run(t, gatewayPath, "install", "--user", "--now")
	silent(t, alice)
	get(t, m, ipv4, "/healthz")
	serving(t, alice, 1)
	silent(t, alice)
	silent(t, alice, "--user")
	silent(t, m.Scope) // root sees the units of all users

	t.Run("linger", func(t *testing.T) {
		m.Run(t, "rm", "/var/lib/systemd/linger/alice")
		if f := finds(t, m.Scope, "no-linger"); f.Fix != "loginctl enable-linger alice" {
			t.Errorf("for root the fix is %q", f.Fix)
		}
		f := finds(t, alice, "no-linger")
		if f.Fix != "sudo loginctl enable-linger alice" {
			t.Errorf("for herself the fix is %q", f.Fix)
		}
		m.Run(t, "loginctl", "enable-linger", "alice")
		silent(t, alice)
	})
	t.Run("the worker of a user", func(t *testing.T) {
		m.Run(t, "/bin/sh", "-c", "mkdir /sys/fs/cgroup/elsewhere && echo "+fmt.Sprint(gatewayStatus(t, alice).Worker.PID)+" > /sys/fs/cgroup/elsewhere/cgroup.procs")
		f := finds(t, alice, "worker-outside-cgroup")
		if f.Fix != "gateway restart --user" {
			t.Errorf("for herself the fix is %q", f.Fix)
		}
		mend(t, m.Scope, finds(t, m.Scope, "worker-outside-cgroup"),
			fmt.Sprintf("runuser --pty -u alice -- env XDG_RUNTIME_DIR=/run/user/%d gateway restart --user", alice.UID))
		silent(t, alice)
	})
	t.Run("both scopes", func(t *testing.T) {
		m.WriteFile(t, configFile, "{}\n", 0o644)
		// While she has the port it is refused; that she asks for it is no reason.
		if _, err := m.Output(gatewayPath, "install", "--system", "--run-as", "root"); !strings.Contains(errorText(err), "openclaw-gateway.socket of user alice") {
			t.Errorf("installing on her port: %v", err)
		}
		alice.Systemctl(t, "stop", socket, service)
		m.Run(t, gatewayPath, "install", "--system", "--run-as", "root")
		alice.Systemctl(t, "start", socket)
		get(t, m, ipv4, "/healthz")
		serving(t, alice, 1)
		m.Systemctl(t, "enable", socket)
		d := diagnose(t, m.Scope, gatewayPath)
		expect(t, d, "two-scopes-one-port socket-not-active")
		if _, err := m.Output("systemctl", "start", socket); err == nil {
			t.Error("the second socket was opened too")
		}
		if d := diagnose(t, alice, gatewayPath); d.ids() != "two-scopes-one-port socket-port-taken" ||
			d.Findings[0].Fix != "sudo systemctl disable --now openclaw-gateway.socket openclaw-gateway.service" ||
			!strings.HasSuffix(d.Findings[1].Summary, "; the port is held by openclaw-gateway.socket of user alice") || d.Findings[1].Fix != d.Findings[0].Fix {
			t.Errorf("for a user:\n%s", d.text())
		}
		silent(t, alice, "--user")
		// Root's units do not give way to a user's: she gets another port.
		asAlice := fmt.Sprintf("runuser --pty -u alice -- env XDG_RUNTIME_DIR=/run/user/%d ", alice.UID)
		want := asAlice + `"${EDITOR:-vi}" ` + configPath(alice) + " && " + asAlice + "gateway install --user"
		if d.Findings[0].Fix != want || d.Findings[0].Severity != "warning" {
			t.Errorf("for root: %+v, want the fix %s", d.Findings[0], want)
		}
		m.WriteFile(t, "/opt/editor", "#!/bin/sh\necho \"$TEXT\" >\"$1\"\n", 0o755)
		writing := func(text, fix string) {
			m.Run(t, "/bin/sh", "-c", "export EDITOR=/opt/editor TEXT=\""+text+"\" && "+fix)
		}
		finds(t, m.Scope, "two-scopes-one-port socket-port-taken")
		fix := diagnose(t, m.Scope, gatewayPath).Findings[1].Fix
		if fix != want+" && systemctl start openclaw-gateway.socket" {
			t.Errorf("for root the fix of the system's socket is %s", fix)
		}
		writing("listen: ['127.0.0.1:18790']", fix)
		get(t, m, "127.0.0.1:18790", "/healthz")
		serving(t, alice, 1)
		silent(t, m.Scope)
		get(t, m, ipv4, "/healthz")
		m.Run(t, gatewayPath, "uninstall", "--system")
		writing("{}", want)
		get(t, m, ipv4, "/healthz")
		serving(t, alice, 1)
		silent(t, m.Scope)
	})
	t.Run("what a user asks for", func(t *testing.T) { askFor(t, m, alice) })
	t.Run("OpenClaw's own unit", func(t *testing.T) {
		alice.Run(t, "/bin/sh", "-c", "cat > ~/.config/systemd/user/claw.service <<'END'\n[Service]\nType=notify\nNotifyAccess=all\n"+
			"Environment=NOTIFY=1 OPENCLAW_SERVICE_MARKER=openclaw\nExecStart="+claw+"\n[Install]\nWantedBy=default.target\nEND")
		alice.Systemctl(t, "daemon-reload")
		alice.Systemctl(t, "enable", "claw.service")
		forRoot := fmt.Sprintf("runuser --pty -u alice -- env XDG_RUNTIME_DIR=/run/user/%d systemctl --user disable --now claw.service", alice.UID)
		if f := finds(t, m.Scope, "openclaw-unit-enabled"); f.Fix != forRoot {
			t.Errorf("for root the fix is %q", f.Fix)
		}
		mend(t, alice, finds(t, alice, "openclaw-unit-enabled"), "systemctl --user disable --now claw.service")

		// The incident: it has the port, and comes back when it is killed.
		alice.Run(t, gatewayPath, "uninstall", "--user")
		alice.Systemctl(t, "enable", "--now", "claw.service")
		for s, want := range map[*machine.Scope]string{alice: "gateway adopt claw.service --user", m.Scope: strings.Replace(forRoot, "systemctl --user disable --now claw.service", "gateway adopt claw.service --user", 1)} {
			for _, f := range expected(t, s, "port-held-by-rival openclaw-unit-enabled") {
				if f.Fix != want || !strings.Contains(f.Summary, "systemctl --user disable --now claw.service` ends it") {
					t.Errorf("%s: %s\nfix: %s\nwant %s", f.ID, f.Summary, f.Fix, want)
				}
			}
		}
		m.Run(t, "rm", "-rf", filepath.Dir(configPath(alice)), "/.dockerenv")
		f := finds(t, m.Scope, "port-held-by-rival openclaw-unit-enabled")
		m.Run(t, "/bin/sh", "-c", f.Fix+" --yes") // no terminal is there to ask at
		serving(t, alice, 1)
		silent(t, m.Scope)
	})
}
