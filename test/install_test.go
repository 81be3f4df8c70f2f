package test

import (
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"openclaw-gateway/test/machine"
)

// TestInstall goes the way of a user: install, connect, look, restart, remove.
func TestInstall(t *testing.T) { everywhere(t, testInstall) }

func testInstall(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	s, scope := m.Scope, "--"+kind(m.Scope)
	as := []string{"install", scope}
	if s.User == "" {
		as = nobodySaid(t, s)
	}
	output := s.Run(t, gatewayPath, as...)
	if !strings.Contains(output, "enable --now openclaw-gateway.socket") {
		t.Errorf("gateway install does not say what comes next:\n%s", output)
	}
	s.Systemctl(t, "enable", "--now", socket)
	if unit := s.Unit(t, service); unit.ActiveState != "inactive" {
		t.Errorf("%s is %s before anybody connected", service, unit.ActiveState)
	}
	if status := gatewayStatus(t, s); status.Verdict != "waiting" {
		t.Errorf("the status is %+v, want waiting", status)
	}
	if code, _ := get(t, m, ipv4, "/healthz"); code != http.StatusOK {
		t.Errorf("%s answered %d", ipv4, code)
	}
	serving(t, s, 1)
	status := gatewayStatus(t, s)
	if status.Verdict != "ok" || "--"+status.Unit.Scope != scope || status.Unit.MainPID != s.Unit(t, service).MainPID {
		t.Errorf("the status is %+v, want ok", status)
	}
	for _, line := range status.Sockets {
		var roles []string
		for _, holder := range line.Holders {
			roles = append(roles, holder.Role)
		}
		if got := strings.Join(roles, " "); got != "systemd launcher worker" {
			t.Errorf("%s is held by %q, want systemd, launcher and worker", line.Address, got)
		}
	}
	s.Run(t, gatewayPath, "restart")
	serving(t, s, 2)

	m.Run(t, "kill", "-HUP", strconv.Itoa(status.Launcher.PID))
	s.WaitJournal(t, service, bound, "signal=SIGHUP")
	s.WaitJournal(t, service, bound, "configuration has not changed")

	if shown := s.Run(t, gatewayPath, "config", "check", scope); !strings.Contains(shown, "openclaw-gateway/config.yaml: valid") {
		t.Errorf("gateway config check %s looks at another file than the service: %s", scope, shown)
	}

	if s.User != "" { // an earlier version's was opened by another target
		s.Run(t, "sed", "-i", "s/^WantedBy=.*/WantedBy=sockets.target/", unitPath(s, socket))
		s.Systemctl(t, "reenable", socket)
		s.Run(t, gatewayPath, "install")
		if by := s.Property(t, socket, "WantedBy"); by != "default.target" {
			t.Errorf("%s is wanted by %q", socket, by)
		}
	}
	// Again changes nothing, and restarts nothing; which scope it was need not be said.
	for _, again := range [][]string{{"install", scope}, {"install"}} {
		if output := s.Run(t, gatewayPath, again...); strings.Count(output, "unchanged ") != 2 || strings.Contains(output, "next: ") {
			t.Errorf("gateway %s a second time:\n%s", again, output)
		}
	}
	if now := s.Unit(t, service).MainPID; now != status.Launcher.PID {
		t.Errorf("the launcher is %d, was %d: installing again restarted it", now, status.Launcher.PID)
	}

	s.Run(t, gatewayPath, "stop")
	for _, unit := range []string{socket, service} {
		if state := s.Unit(t, unit).ActiveState; state != "inactive" {
			t.Errorf("%s is %s after gateway stop", unit, state)
		}
	}
	// Whatever another service wants, it is nothing of ours, also of one that starts with the socket.
	m.WriteFile(t, unitPath(s, "other.service"), "[Service]\nType=oneshot\nExecStart=true\n", 0o644)
	s.Systemctl(t, "enable", service)
	s.Systemctl(t, "start", "other.service")
	for _, unit := range []string{socket, service} {
		if state := s.Unit(t, unit).ActiveState; state != "inactive" {
			t.Errorf("%s is %s after gateway stop, and the start of another service", unit, state)
		}
	}
	s.Systemctl(t, "disable", service)
	if left := inodes(t, m); len(left) > 0 {
		t.Errorf("somebody listens after gateway stop: %v", left)
	}
	s.Run(t, gatewayPath, "start")
	if status := gatewayStatus(t, s); status.Verdict != "waiting" || status.Launcher.PID == 0 {
		t.Errorf("the status after gateway start is %+v", status)
	}

	s.Run(t, gatewayPath, "uninstall", scope)
	for _, unit := range []string{socket, service} {
		if state := s.Unit(t, unit).LoadState; state != "not-found" {
			t.Errorf("%s is %s after uninstall", unit, state)
		}
	}
	if left := inodes(t, m); len(left) > 0 {
		t.Errorf("somebody still listens: %v", left)
	}
}

// nobodySaid installs without a user to run as, which is refused with two commands, and returns the one for root.
func nobodySaid(t *testing.T, s *machine.Scope) []string {
	t.Helper()
	_, err := s.Output(gatewayPath, "install", "--system")
	exit, is := errors.AsType[*exec.ExitError](err)
	if !is || exit.ExitCode() != 64 || !strings.Contains(err.Error(), "`gateway install --system --run-as USER`") ||
		!strings.Contains(err.Error(), "`gateway install --system --run-as root`") {
		t.Errorf("gateway install without a user: %v", err)
	}
	return []string{"install", "--system", "--run-as", "root"}
}

// TestInstallRefuses: whatever others than root can replace becomes no program of root's units, and nothing is written where
// another user leads. Each refusal names the command that helps.
func TestInstallRefuses(t *testing.T) {
	t.Parallel()
	m := boot(t, machine.Options{})
	m.Run(t, "useradd", "--create-home", "claw")
	home := func(script string) {
		t.Helper()
		m.Run(t, "runuser", "-u", "claw", "--", "/bin/sh", "-euc", "cd /home/claw\n"+script)
	}
	const asClaw = "--run-as claw"
	refused := func(t *testing.T, command string, words ...string) (helps string) {
		t.Helper()
		_, err := m.Output("/bin/sh", "-c", command)
		for _, word := range append(words, "others than root") {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %v, want %q", command, err, word)
			}
		}
		if m.Run(t, "/bin/sh", "-c", "ls /etc/systemd/system /etc/openclaw-gateway /etc/profile.d 2>/dev/null | grep -e gateway -e config || true") != "" {
			t.Errorf("%s has written something", command)
		}
		_, helps, _ = strings.Cut(errorText(err), "run `")
		helps, _, _ = strings.Cut(helps, "`")
		return helps
	}
	gone := func() {
		t.Helper()
		m.Run(t, gatewayPath, "uninstall", "--system")
		m.Run(t, "rm", "-rf", "/etc/openclaw-gateway")
	}
	home("mkdir bin && cp " + gatewayPath + " bin/gateway && chmod 755 bin/gateway")
	m.Run(t, "/bin/sh", "-euc", `
mkdir /opt/one /opt/two /opt/three /opt/four && chmod 777 /opt/two
for folder in one two three; do cp `+gatewayPath+` /opt/$folder/gateway; done
chown claw /opt/one/gateway
chgrp claw /opt/three/gateway && chmod 775 /opt/three/gateway
ln -s /home/claw/bin /opt/four/link && ln -s link/gateway /opt/four/gateway
cp `+gatewayPath+` /opt/four/launcher
`)
	for name, test := range map[string]struct{ program, why string }{
		"in a home":                  {"/home/claw/bin/gateway", "/home/claw belongs to user claw"},
		"another's file":             {"/opt/one/gateway", "/opt/one/gateway belongs to user claw"},
		"in a folder of everybody's": {"/opt/two/gateway", "/opt/two can be written to by everybody"},
		"of a group":                 {"/opt/three/gateway", "/opt/three/gateway can be written to by the group claw"},
		"through links":              {"/opt/four/gateway", "/home/claw belongs to user claw"},
	} {
		t.Run(name, func(t *testing.T) {
			helps := refused(t, test.program+" install --system --now "+asClaw, test.why, "as root")
			// The place is a mount of the test's.
			helps = strings.ReplaceAll(helps, gatewayPath, "/opt/four/launcher")
			if want := "/opt/four/launcher install --system " + asClaw + " --now"; !strings.HasPrefix(helps, "install -m 755 ") || !strings.HasSuffix(helps, " && "+want) {
				t.Fatalf("what helps is said to be %q, want a copy and %q", helps, want)
			}
			m.Run(t, "/bin/sh", "-c", helps)
			if code, _ := get(t, m, ipv4, "/healthz"); code != http.StatusOK {
				t.Errorf("%s answered %d", ipv4, code)
			}
			gone()
		})
	}
	t.Run("a program with a mode that is too wide", func(t *testing.T) {
		// It is the place itself: what is wrong with it is mended.
		m.Run(t, "chmod", "777", "/usr/local/bin")
		helps := refused(t, "gateway install --system "+asClaw, "/usr/local/bin can be written to by everybody")
		if want := "chmod go-w /usr/local/bin && /usr/local/bin/gateway install --system " + asClaw; helps != want {
			t.Errorf("what helps is said to be %q, want %q", helps, want)
		}
		m.Run(t, "/bin/sh", "-c", helps)
		gone()
	})
	t.Run("a configuration through a link", func(t *testing.T) {
		home("ln -s /etc/profile.d here")
		refused(t, "gateway install --system "+asClaw+" --config /home/claw/here/config.sh", "/home/claw belongs to user claw")
		refused(t, "gateway install --system "+asClaw+" --config /home/claw/none/config.yaml", "/home/claw belongs to user claw")
		refused(t, "gateway install --system "+asClaw+" --config /tmp/config.yaml", "/tmp can be written to by everybody")
		// Root's own link to there is followed as far as it is root's.
		m.Run(t, "ln", "-s", "/home/claw/here", "/opt/here")
		refused(t, "gateway install --system "+asClaw+" --config /opt/here/config.sh", "/home/claw belongs to user claw")
		refused(t, "gateway install --system "+asClaw+" --root / --config /home/claw/here/config.sh", "/home/claw belongs to user claw")
	})
	t.Run("a configuration of the user's own", func(t *testing.T) {
		home("mkdir conf && ln -s /etc/profile.d conf/x && echo '# yaml-language-server: $schema=config.schema.json\n{}' >conf/config.yaml")
		m.Run(t, "/bin/sh", "-c", "gateway install --system --now "+asClaw+" --config /home/claw/conf/config.yaml")
		if code, _ := get(t, m, ipv4, "/healthz"); code != http.StatusOK {
			t.Errorf("%s answered %d", ipv4, code)
		}
		if listed := m.Run(t, "ls", "/home/claw/conf"); listed != "config.yaml\nx\n" {
			t.Errorf("root has written beside it: %s", listed)
		}
		gone()
	})
	t.Run("a unix socket where others decide", func(t *testing.T) {
		m.Run(t, "/bin/sh", "-c", "gateway install --system --now "+asClaw)
		config := "/etc/openclaw-gateway/config.yaml"
		asks := func(listen string) {
			t.Helper()
			home("echo 'listen: [\"" + ipv4 + "\", \"[::1]:18789\", \"" + listen + "\"]' >" + config)
		}
		edits := "runuser --pty -u claw -- env XDG_RUNTIME_DIR=/run/user/" + strings.TrimSpace(m.Run(t, "id", "-u", "claw")) + " \"${EDITOR:-vi}\" " + config
		good := "unix:/run/openclaw-gateway.sock" // as the sentence has it
		m.WriteFile(t, "/opt/editor", "#!/bin/sh\necho 'listen: [\""+ipv4+"\", \"[::1]:18789\", \""+good+"\"]' >\"$1\"\n", 0o755)
		refuses := func(why string) {
			t.Helper()
			before := m.ReadFile(t, unitPath(m.Scope, socket))
			for _, command := range []string{"install", "install --now", "install --dry-run"} {
				if _, err := m.Output("/bin/sh", "-c", "gateway "+command+" --system"); err == nil || !strings.Contains(err.Error(), "nothing is installed: "+why) {
					t.Errorf("gateway %s: %v, want %q", command, err, why)
				}
			}
			if m.ReadFile(t, unitPath(m.Scope, socket)) != before {
				t.Error("the unit has changed")
			}
		}

		home("mkdir r")
		asks("unix:/home/claw/r/shadow")
		where := "others than root decide what lies at the path of unix:/home/claw/r/shadow (/home/claw belongs to user claw)"
		refuses(where)
		d := diagnose(t, m.Scope, gatewayPath)
		if d.ids() != "unix-socket-unsafe" || d.exit != 0 || d.Findings[0].Fix != edits || !strings.Contains(d.Findings[0].Summary, where) || !strings.HasSuffix(d.Findings[0].Summary, good) {
			t.Fatalf("exit status %d\n%s", d.exit, d.text())
		}
		get(t, m, ipv4, "/healthz")
		m.Run(t, gatewayPath, "reload", "--system")
		if s := gatewayStatus(t, m.Scope); !slices.ContainsFunc(s.Problems, func(p string) bool { return strings.Contains(p, where) }) {
			t.Errorf("the status is %+v", s)
		}
		if said := m.Run(t, "/bin/sh", "-c", "gateway config check --system 2>&1"); !strings.Contains(said, "warning: ") || !strings.Contains(said, where) {
			t.Errorf("gateway config check: %s", said)
		}
		fixes := func(fix string) { m.Run(t, "/bin/sh", "-c", "export EDITOR=/opt/editor && "+fix) }
		fixes(d.Findings[0].Fix)
		m.Run(t, gatewayPath, "install", "--system")
		if code, _ := getUnix(t, m, strings.TrimPrefix(good, "unix:"), "/healthz"); code != http.StatusOK {
			t.Errorf("%s answered %d", good, code)
		}
		silent(t, m.Scope)

		// Units that were written before this was refused.
		asks("unix:/home/claw/r/shadow")
		m.Run(t, "sed", "-i", "s|/run/openclaw-gateway.sock|/home/claw/r/shadow|", unitPath(m.Scope, socket))
		m.Systemctl(t, "daemon-reload")
		home("rm -r r && ln -s /root/precious r")
		m.Run(t, "/bin/sh", "-euc", "mkdir -m 700 /root/precious && python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"/root/precious/shadow\")'")
		m.Systemctl(t, "restart", socket)
		if owner := m.Run(t, "stat", "--format=%U", "/root/precious/shadow"); owner != "root\n" {
			t.Errorf("a file in a folder of root's belongs to %s", owner)
		}
		home("rm r && mkdir r")
		m.Systemctl(t, "restart", socket)
		get(t, m, ipv4, "/healthz") // when the launcher is there
		f := finds(t, m.Scope, "unix-socket-unsafe")
		if want := edits + " && gateway install --system"; f.Fix != want {
			t.Errorf("the fix is %q, want %q", f.Fix, want)
		}
		fixes(f.Fix)
		silent(t, m.Scope)

		// Where another one listens.
		m.Run(t, "mkdir", "/run/engine")
		end := holder(t, m.As(m.System()), "python3", "-c", "import os, socket, sys\ns = socket.socket(socket.AF_UNIX)\nos.umask(0o177)\n"+
			"s.bind('/run/engine/docker.sock')\ns.listen()\nprint('listening', flush=True)\nsys.stdin.read()")
		defer end()
		asks("unix:/run/engine/docker.sock")
		refuses("a process of user root listens on unix:/run/engine/docker.sock")
		if d := diagnose(t, m.Scope, gatewayPath); d.ids() != "port-held-by-foreign" || d.exit != 0 || d.Findings[0].Fix != edits {
			t.Errorf("exit status %d\n%s", d.exit, d.text())
		}
		m.Systemctl(t, "restart", socket)
		if owner := m.Run(t, "stat", "--format=%U", "/run/engine/docker.sock"); owner != "root\n" {
			t.Errorf("it belongs to %s", owner)
		}
		gone()
	})
	t.Run("units where others can put them", func(t *testing.T) {
		m.Run(t, "chmod", "777", "/etc/systemd/system")
		refused(t, "gateway install --system "+asClaw, "/etc/systemd/system can be written to by everybody")
		m.Run(t, "chmod", "755", "/etc/systemd/system")
		refused(t, "HOME=/home/claw gateway install --user", "/home/claw belongs to user claw")
	})
}

// TestListenEdit: the launcher names the one command that an edit of listen
// needs, and that does the rest.
func TestListenEdit(t *testing.T) { everywhere(t, testListenEdit) }

func testListenEdit(t *testing.T, here place) {
	const other = "127.0.0.1:18790"
	m := here.boot(t, machine.Options{})
	install(t, m.Scope, m, "{}\n")
	get(t, m, ipv4, "/healthz")
	serving(t, m.Scope, 1)
	m.WriteFile(t, configPath(m.Scope), "listen: ['"+other+"']\n", 0o644)
	unit := statusText(t, m.Scope, "serves", other, "gateway install")
	if code, _ := get(t, m, ipv4, "/healthz"); code != http.StatusOK || unit.ActiveState != "active" {
		t.Errorf("%s answered %d while systemd holds it still", ipv4, code)
	}
	m.Run(t, gatewayPath, "install", "--"+kind(m.Scope))
	if code, _ := get(t, m, other, "/healthz"); code != http.StatusOK {
		t.Errorf("%s answered %d", other, code)
	}
	if _, _, err := tryGet(t.Context(), m, ipv4, "/healthz"); err == nil {
		t.Errorf("%s still answers", ipv4)
	}
	if s := gatewayStatus(t, m.Scope); s.Verdict != "ok" && s.Verdict != "starting" || s.Config.State != "applied" {
		t.Errorf("the status is %+v", s)
	}
}

// TestOtherUsers: the control socket is for the launcher's own user and root. That
// of a user's launcher is where nobody else can look at all.
func TestOtherUsers(t *testing.T) { inScopes(t, testOtherUsers) }

func testOtherUsers(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	root := m.System()
	root.Run(t, "useradd", "--create-home", "mallory")
	install(t, m.Scope, m, "{}\n")
	get(t, m, ipv4, "/healthz")
	why := "another user's"
	if here.user {
		why = "there is no openclaw-gateway.service in system or user scope"
	}
	_, err := root.Output("runuser", "-u", "mallory", "--", gatewayPath, "restart")
	if err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("another user's gateway restart: %v", err)
	}
	if s := gatewayStatus(t, m.Scope); s.Worker.Generation != 1 {
		t.Errorf("the worker is %+v, want the first generation", s.Worker)
	}
	if !here.user {
		t.Run("as the service's user", func(t *testing.T) { replaced(t, m) })
	}
}

// answersStatus puts its own control socket in the launcher's place, which answers with a saved status, and nothing else.
const answersStatus = `
import os, socket, sys, threading
path, saved = sys.argv[1:]
s = socket.socket(socket.AF_UNIX)
s.bind(path + ".new")
os.chmod(path + ".new", 0o600)
s.listen()
os.rename(path + ".new", path)
answer = open(saved, "rb").read()
def serve(c):
    if b"/status" in c.recv(65536).split(b"\r\n")[0]:
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(answer) + answer)
    while c.recv(4096): pass
def accept():
    while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
threading.Thread(target=accept, daemon=True).start()
print("listening", flush=True)
sys.stdin.read()
`

// replaced has the service's user answer in the launcher's place: root is not kept waiting, believes nothing, and is told what helps.
func replaced(t *testing.T, m *machine.Machine) {
	install(t, m.Scope, m, "worker: {start: at-once}\n", "--run-as", "mallory")
	m.Systemctl(t, "restart", socket, service)
	serving(t, m.Scope, 1)
	control := m.RuntimeDir() + "/openclaw-gateway/control.sock"
	m.WriteFile(t, "/opt/answers.py", answersStatus, 0o644)
	m.Run(t, "/bin/sh", "-euc", "curl --silent --unix-socket "+control+" http://localhost/status >/opt/saved && chmod 644 /opt/saved")
	answers := func() (end func()) {
		return holder(t, m.As(m.System()), "runuser", "-u", "mallory", "--", "python3", "/opt/answers.py", control, "/opt/saved")
	}
	end := answers()
	main := m.Unit(t, service).MainPID
	const why = "a process of user mallory, pid "
	for _, verb := range []string{"reload", "restart", "restart --now", "upgrade"} {
		_, err := m.Output("/bin/sh", "-c", "timeout 60 gateway "+verb+" --system")
		if err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), "`systemctl restart openclaw-gateway.service`") {
			t.Errorf("gateway %s: %v", verb, err)
		}
	}
	if s := gatewayStatus(t, m.Scope); s.Launcher.PID != main || s.Verdict != "degraded" || !slices.ContainsFunc(s.Problems, func(p string) bool { return strings.Contains(p, why) }) {
		t.Errorf("the status is %+v", s)
	}
	f := finds(t, m.Scope, "main-pid-not-launcher")
	if !strings.HasPrefix(f.Summary, why) || f.Fix != "systemctl restart openclaw-gateway.service" {
		t.Errorf("found %+v", f)
	}
	m.Run(t, "/bin/sh", "-c", f.Fix)
	serving(t, m.Scope, 1)
	end()
	silent(t, m.Scope)

	end = answers()
	m.Run(t, "timeout", "60", gatewayPath, "stop", "--now", "--system")
	if state := m.Unit(t, service).ActiveState; state != "inactive" {
		t.Errorf("the service is %s", state)
	}
	end()
}

// TestWatchdog: the launcher's own loop answers for it. One that hangs is
// replaced, and no client is refused meanwhile.
func TestWatchdog(t *testing.T) { inScopes(t, testWatchdog) }

func testWatchdog(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	install(t, m.Scope, m, "{}\n")
	dropIn(t, m, "WatchdogSec=4s\nTimeoutAbortSec=1s\n")
	get(t, m, ipv4, "/healthz")
	serving(t, m.Scope, 1)
	first := m.Unit(t, service)

	// A whole watchdog period and more goes by in the life of a worker.
	m.WriteFile(t, configPath(m.Scope), worker(nodePath, workersPath+"/server.js")+"  environment: [BOOT_MS=6000]\n", 0o644)
	m.Run(t, gatewayPath, "reload")
	if now := m.Unit(t, service); now.MainPID != first.MainPID || now.NRestarts != 0 {
		t.Errorf("the watchdog ended a healthy launcher: main pid %d, then %d", first.MainPID, now.MainPID)
	}

	stopProcess(t, m, first.MainPID)
	m.WaitUnit(t, service, bound, func(u machine.Unit) bool { return u.MainPID != first.MainPID && u.MainPID != 0 })
	if code, _ := get(t, m, ipv4, "/"); code != http.StatusOK {
		t.Errorf("%s answered %d", ipv4, code)
	}
	if journal := m.Journal(t, service); !strings.Contains(journal, "Watchdog timeout") {
		t.Errorf("no watchdog timeout in\n%s", journal)
	}
}

// TestInstallForDirectoryUser: not every user is in /etc/passwd. One of systemd's user records (nss-systemd(8)) stands for
// those of LDAP and the like.
func TestInstallForDirectoryUser(t *testing.T) {
	t.Parallel()
	m := boot(t, machine.Options{})
	m.WriteFile(t, "/etc/userdb/dora.user",
		`{"userName":"dora","uid":60777,"gid":60777,"homeDirectory":"/srv/dora","shell":"/bin/sh","disposition":"regular"}`, 0o644)
	m.Run(t, "ln", "-s", "dora.user", "/etc/userdb/60777.user")
	m.Run(t, "install", "-d", "-o", "60777", "/srv/dora")
	install(t, m.Scope, m, "{}\n", "--run-as", "dora")
	if code, _ := get(t, m, ipv4, "/healthz"); code != http.StatusOK {
		t.Errorf("%s answered %d", ipv4, code)
	}
	if text := m.Run(t, gatewayPath, "status"); !strings.Contains(text, " dora ") {
		t.Errorf("the status does not name the user:\n%s", text)
	}
	// Many a user of the system has no home: useradd --system makes none.
	m.Run(t, "rm", "-r", "/srv/dora")
	m.Systemctl(t, "restart", service)
	if code, _ := get(t, m, ipv4, "/healthz"); code != http.StatusOK {
		t.Errorf("without a home %s answered %d", ipv4, code)
	}
	if cwd := m.Run(t, "readlink", fmt.Sprintf("/proc/%d/cwd", gatewayStatus(t, m.Scope).Worker.PID)); strings.TrimSpace(cwd) != "/" {
		t.Errorf("without a home it starts in %s", cwd)
	}
	const unknown = "unknown user nobody-of-that-name; create the user first"
	if output, err := m.Output(gatewayPath, "install", "--system", "--run-as", "nobody-of-that-name"); err == nil || !strings.Contains(output+err.Error(), unknown) {
		t.Errorf("gateway install for a user that there is not: %v, want %q\n%s", err, unknown, output)
	}
}
