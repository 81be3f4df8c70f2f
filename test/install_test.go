package test

import (
	"net/http"
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
	output := s.Run(t, gatewayPath, "install", scope)
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

	// The journal is read behind the restart, which the signal came before.
	m.Run(t, "kill", "-HUP", strconv.Itoa(status.Launcher.PID))
	s.Run(t, gatewayPath, "restart")
	serving(t, s, 3)
	if journal := s.Journal(t, service); !strings.Contains(journal, "signal=SIGHUP") || !strings.Contains(journal, "configuration has not changed") {
		t.Errorf("SIGHUP did not apply the configuration:\n%s", journal)
	}

	if shown := s.Run(t, gatewayPath, "config", "check", scope); !strings.Contains(shown, "openclaw-gateway/config.yaml: valid") {
		t.Errorf("gateway config check %s looks at another file than the service: %s", scope, shown)
	}

	// Again changes nothing, and restarts nothing.
	if output := s.Run(t, gatewayPath, "install", scope); strings.Count(output, "unchanged ") != 2 {
		t.Errorf("gateway install a second time:\n%s", output)
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
}

// TestWatchdog: the launcher's own loop answers for it. One that hangs is
// replaced, and no client is refused meanwhile.
func TestWatchdog(t *testing.T) { inScopes(t, testWatchdog) }

func testWatchdog(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	install(t, m.Scope, m, "{}\n")
	dropIn(t, m, "WatchdogSec=1s\nTimeoutAbortSec=1s\n")
	get(t, m, ipv4, "/healthz")
	serving(t, m.Scope, 1)
	first := m.Unit(t, service)

	// A whole watchdog period and more goes by in the life of a worker.
	m.WriteFile(t, configPath(m.Scope), worker(nodePath, workersPath+"/server.js")+"  environment: [BOOT_MS=3000]\n", 0o644)
	m.Run(t, gatewayPath, "reload")
	if now := m.Unit(t, service); now.MainPID != first.MainPID || now.NRestarts != 0 {
		t.Errorf("the watchdog ended a healthy launcher: main pid %d, then %d", first.MainPID, now.MainPID)
	}

	freeze(t, m, first.MainPID)
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
	const unknown = "unknown user nobody-of-that-name; create the user first"
	if output, err := m.Output(gatewayPath, "install", "--system", "--run-as", "nobody-of-that-name"); err == nil || !strings.Contains(output+err.Error(), unknown) {
		t.Errorf("gateway install for a user that there is not: %v, want %q\n%s", err, unknown, output)
	}
}
