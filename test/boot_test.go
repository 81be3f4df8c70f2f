package test

import (
	"fmt"
	"strings"
	"testing"

	"openclaw-gateway/test/machine"
)

// TestBootWithDyingWorker: no boot hangs on a worker that does not come up.
func TestBootWithDyingWorker(t *testing.T) {
	t.Parallel()
	dying := worker("/bin/false") + "  start: at-once\n"
	t.Run("system", func(t *testing.T) {
		m := boot(t, machine.Options{Prepare: func(m *machine.Machine) {
			m.WriteFile(t, configPath(m.Scope), dying, 0o644)
			m.Run(t, gatewayPath, "install", "--system", "--run-as", "root", "--root", "/")
			m.Run(t, "systemctl", "enable", socket, service)
		}})
		// Boot has returned: multi-user.target is reached.
		bootedWithDyingWorker(t, m)
	})
	t.Run("user of Debian 13", func(t *testing.T) {
		m := place{user: true, root: debian13}.boot(t, machine.Options{})
		install(t, m.Scope, m, dying)
		// The user's manager anew, as at a boot. It is up when its basic.target is reached.
		m.System().Systemctl(t, "restart", fmt.Sprintf("user@%d.service", m.UID))
		m.Systemctl(t, "is-system-running", "--wait")
		bootedWithDyingWorker(t, m)
	})
}

func bootedWithDyingWorker(t *testing.T, m *machine.Machine) {
	t.Helper()
	unit := statusText(t, m.Scope, "exit code 1", "next start at")
	if unit.ActiveState != "reloading" || unit.NRestarts != 0 {
		t.Errorf("%s is %s after %d restarts, want reloading: the worker does not answer, and the launcher lives", service, unit.ActiveState, unit.NRestarts)
	}
	if state := m.Unit(t, socket).ActiveState; state != "active" {
		t.Errorf("%s is %s", socket, state)
	}
	if state := strings.TrimSpace(m.Systemctl(t, "is-system-running")); state != "running" {
		t.Errorf("the system is %s", state)
	}
}

// TestFatalExitCode: the launcher waits to be asked, and then tries again.
func TestFatalExitCode(t *testing.T) { inScopes(t, testFatalExitCode) }

func testFatalExitCode(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	install(t, m.Scope, m, worker("/bin/sh", "-c", "exit 78")+"  start: at-once\n")
	m.Systemctl(t, "start", service)
	statusText(t, m.Scope, "exit code 78", "gateway restart")
	if s := gatewayStatus(t, m.Scope); s.Worker.State != "failed" || s.Worker.Generation != 1 {
		t.Errorf("the worker is %+v, want failed after one generation", s.Worker)
	}
	if output, err := m.Output(gatewayPath, "restart"); err == nil || !strings.Contains(err.Error(), "exit code 78") {
		t.Errorf("gateway restart: %v %s, want the reason", err, output)
	}
	m.WriteFile(t, configPath(m.Scope), "{}\n", 0o644)
	m.Run(t, gatewayPath, "reload")
	serving(t, m.Scope, 3)
}

// TestBrokenConfiguration: the launcher holds the sockets and says what is
// wrong, until the file is right.
func TestBrokenConfiguration(t *testing.T) { inScopes(t, testBrokenConfiguration) }

func testBrokenConfiguration(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	install(t, m.Scope, m, "{}\n")
	m.WriteFile(t, configPath(m.Scope), "worker:\n  comand: [x]\n", 0o644)
	m.Systemctl(t, "start", service)
	unit := statusText(t, m.Scope, "config.yaml:2", "comand", "worker.command")
	if unit.ActiveState != "reloading" {
		t.Errorf("%s is %s, want reloading", service, unit.ActiveState)
	}
	s := gatewayStatus(t, m.Scope)
	if s.Config.State != "rejected" || !strings.Contains(s.Config.Error, "comand") || s.Worker.State != "failed" || s.Verdict != "degraded" {
		t.Errorf("the status is %+v, want a rejected configuration", s)
	}
	// Not by systemctl reload, which waits for as long as systemd shows "reloading".
	if _, err := m.Output(gatewayPath, "reload"); err == nil || !strings.Contains(err.Error(), "comand") {
		t.Errorf("gateway reload with a broken configuration: %v", err)
	}
	m.WriteFile(t, configPath(m.Scope), "{}\n", 0o644)
	m.Run(t, gatewayPath, "reload")
	serving(t, m.Scope, 1)
	// And again while it serves: a bad edit costs nothing.
	before := gatewayStatus(t, m.Scope)
	m.WriteFile(t, configPath(m.Scope), "listen: [localhost:1]\n", 0o644)
	for _, reload := range [][]string{{gatewayPath, "reload"}, {"systemctl", "--" + kind(m.Scope), "reload", service}} {
		if output, err := m.Output(reload[0], reload[1:]...); err == nil {
			t.Errorf("%v succeeded with a broken configuration: %s", reload, output)
		}
	}
	after := gatewayStatus(t, m.Scope)
	if after.Worker.PID != before.Worker.PID || after.Config.State != "rejected" || after.Verdict != "degraded" {
		t.Errorf("the status is %+v, want the same worker and a rejected configuration", after)
	}
}
