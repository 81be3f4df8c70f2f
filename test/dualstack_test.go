package test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"openclaw-gateway/test/machine"
)

// TestDualStack: one socket for both families, as a server has it that listens without a host, and what is said where
// there is none.
func TestDualStack(t *testing.T) { inScopes(t, testDualStack) }

func testDualStack(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	const (
		rest     = "  start: at-once\nready: {timeout: 20s}\nstop: {timeout: 1s}\nrestart: {backoff_min: 20s, backoff_max: 30s}\n"
		anywhere = "require('http').createServer((request, response) => response.end(request.socket.remoteAddress)).listen(18789)"
	)
	node, python := worker(nodePath, "-e", anywhere)+rest, worker("/usr/bin/python3", workersPath+"/listenfds.py")+rest
	begin := func(t *testing.T, configuration string) {
		t.Helper()
		install(t, m.Scope, m, configuration)
		m.Systemctl(t, "restart", service)
	}
	served := func(t *testing.T, addresses ...string) {
		t.Helper()
		for _, address := range []string{ipv4, ipv6} {
			if code, body := get(t, m, address, "/"); code != http.StatusOK {
				t.Errorf("%s answered %d %s", address, code, body)
			}
		}
		healthyAt(t, m.Scope, addresses...)
	}

	t.Run("advice", func(t *testing.T) {
		// It would have both families by itself.
		begin(t, strings.Replace(worker(nodePath, "-e", "process.on('uncaughtException', () => {}); setInterval(() => {}, 1000); "+anywhere)+rest, "20s", "2s", 1))
		statusText(t, m.Scope, "it wanted to listen on [::]:18789, which overlaps "+ipv4+" and "+ipv6, `or set listen to "*:18789"`)
	})
	t.Run("a socket for each family", func(t *testing.T) {
		each := strings.Replace(worker("/usr/bin/python3", workersPath+"/families.py")+rest, "20s", "2s", 1)
		begin(t, "listen: [\"*:18789\"]\n"+each)
		const line = `["0.0.0.0:18789", "[::]:18789"]`
		statusText(t, m.Scope, "it wanted to listen on ", ", which overlaps *:18789", "set listen to ", line)
		begin(t, "listen: "+line+"\n"+each)
		serving(t, m.Scope, 1)
		served(t, "0.0.0.0:18789", "[::]:18789")
	})
	t.Run("preload", func(t *testing.T) {
		begin(t, "listen: [\"*:18789\"]\n"+node)
		serving(t, m.Scope, 1)
		served(t, "*:18789")
		if m.User == "" {
			silent(t, m.Scope)
		}
		for address, want := range map[string]string{ipv4: "127.0.0.1", ipv6: "::1"} {
			if _, body := get(t, m, address, "/"); strings.TrimPrefix(body, "::ffff:") != want {
				t.Errorf("the worker sees the client of %s as %s", address, body)
			}
		}
	})
	t.Run("listen-fds, named", func(t *testing.T) {
		begin(t, "listen: [{address: \"*:18789\", name: web}]\n"+python)
		serving(t, m.Scope, 1)
		served(t, "*:18789")
		if _, body := get(t, m, ipv4, "/environment"); !strings.Contains(body, `"LISTEN_FDNAMES": "web"`) {
			t.Errorf("LISTEN_FDNAMES is not web in %s", body)
		}
		if name := gatewayStatus(t, m.Scope).Sockets[0].Name; name != "web" {
			t.Errorf("the status calls it %q", name)
		}
		// Another name is another environment.
		m.WriteFile(t, configPath(m.Scope), "listen: [{address: \"*:18789\", name: main}]\n"+python, 0o644)
		m.Run(t, gatewayPath, "reload")
		if _, body := get(t, m, ipv6, "/environment"); !strings.Contains(body, `"LISTEN_FDNAMES": "main"`) {
			t.Errorf("LISTEN_FDNAMES is not main in %s", body)
		}
	})
	t.Run("both wildcards", func(t *testing.T) {
		begin(t, "listen: ['0.0.0.0:18789', '[::]:18789']\n"+node)
		serving(t, m.Scope, 1)
		served(t, "0.0.0.0:18789", "[::]:18789")
	})
	t.Run("IPv6 alone", func(t *testing.T) {
		begin(t, "listen: ['[::]:18789']\n"+python)
		serving(t, m.Scope, 1)
		wantStatus(t, m.Scope, 0, "ok", "[::]:18789 takes IPv6 clients alone: \"*:18789\" in listen takes IPv4 ones too")
		begin(t, "listen: ['[::]:18789']\n"+node)
		serving(t, m.Scope, 1)
		wantStatus(t, m.Scope, 1, "degraded", "[::]:18789 takes IPv6 ones alone, so they are refused: set listen to \"*:18789\"")
		// What it says helps, once the units are rendered.
		m.WriteFile(t, configPath(m.Scope), "listen: [\"*:18789\"]\n"+node, 0o644)
		if _, err := m.Output(gatewayPath, "reload"); err == nil || !strings.Contains(err.Error(), "listen is *:18789, but systemd holds [::]:18789") {
			t.Errorf("gateway reload: %v", err)
		}
		if m.User == "" {
			if d := diagnose(t, m.Scope, gatewayPath); !strings.Contains(d.text(), "takes no IPv4 clients on *:18789") {
				t.Errorf("the doctor says\n%s", d.text())
			}
		}
		begin(t, "listen: [\"*:18789\"]\n"+node)
		serving(t, m.Scope, 1)
		served(t, "*:18789")
	})
	t.Run("a drop-in", func(t *testing.T) {
		m.WriteFile(t, fmt.Sprintf("/etc/systemd/%s/%s.d/six.conf", kind(m.Scope), socket), "[Socket]\nBindIPv6Only=ipv6-only\n", 0o644)
		m.Systemctl(t, "daemon-reload")
		m.Systemctl(t, "stop", socket, service)
		m.Systemctl(t, "start", socket, service)
		wantStatus(t, m.Scope, 1, "degraded", "listen is *:18789, but systemd holds [::]:18789: ", "six.conf says so, a drop-in")
		if m.User == "" {
			d := diagnose(t, m.Scope, gatewayPath)
			i := slices.IndexFunc(d.Findings, func(f finding) bool { return f.ID == "unit-overridden" })
			if i < 0 || !strings.Contains(d.Findings[i].Summary, "IPv4 clients are refused") {
				t.Fatalf("the doctor says\n%s", d.text())
			}
			m.Run(t, "sh", "-c", d.Findings[i].Fix)
			m.Systemctl(t, "start", service)
			silent(t, m.Scope)
			served(t, "*:18789")
		} else {
			m.System().Run(t, "rm", fmt.Sprintf("/etc/systemd/%s/%s.d/six.conf", kind(m.Scope), socket))
			m.Systemctl(t, "daemon-reload")
		}
	})
	t.Run("somebody has one family", func(t *testing.T) {
		m.Systemctl(t, "stop", socket, service)
		free := occupy(t, m, ipv4)
		// A journald that reads what is said when whoever has said it is gone, as on a busy machine.
		m.System().Systemctl(t, "kill", "--signal=STOP", "systemd-journald.service")
		if _, err := m.Output(kindOf(m)[0], append(kindOf(m)[1:], "start", socket)...); err == nil {
			t.Error("the socket unit has opened beside " + ipv4)
		}
		m.System().Systemctl(t, "kill", "--signal=CONT", "systemd-journald.service")
		if journal := m.Journal(t, socket); !strings.Contains(journal, "gateway reclaim --force") || !strings.Contains(journal, ipv4) || !strings.Contains(journal, "0.0.0.0:18789") {
			t.Errorf("it is not said who has %s:\n%s", ipv4, journal)
		}
		if m.User != "" { // who may not look into root's processes
			free()
		} else {
			d := diagnose(t, m.Scope, gatewayPath)
			i := slices.IndexFunc(d.Findings, func(f finding) bool { return f.ID == "socket-port-taken" })
			if i < 0 || !strings.Contains(d.Findings[i].Fix, "gateway reclaim --force '*:18789'") {
				t.Fatalf("the doctor says\n%s", d.text())
			}
			m.Run(t, "sh", "-c", d.Findings[i].Fix)
			silent(t, m.Scope)
		}
		m.Systemctl(t, "start", socket)
		m.Systemctl(t, "stop", socket, service)
	})
	t.Run("by hand", func(t *testing.T) {
		m.WriteFile(t, configPath(m.Scope), "listen: [\"*:18789\"]\n"+node, 0o644)
		h := runByHand(t, m)
		for _, address := range []string{ipv4, ipv6} {
			if code, body := get(t, m, address, "/"); code != http.StatusOK {
				t.Errorf("%s answered %d %s", address, code, body)
			}
		}
		m.WriteFile(t, configPath(m.Scope), "listen: ['[::]:18789']\n"+node, 0o644)
		if _, err := m.Output(gatewayPath, "reload"); err == nil || !strings.Contains(err.Error(), "[::]:18789 cannot be bound while *:18789 is held") {
			t.Errorf("gateway reload: %v", err)
		}
		m.Run(t, "kill", "-TERM", strconv.Itoa(gatewayStatus(t, m.Scope).Launcher.PID))
		if err := h.command.Wait(); err != nil {
			t.Errorf("%v\n%s", err, h.logged())
		}
		if _, _, err := tryGet(t.Context(), m, ipv4, "/"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("somebody still listens: %v", err)
		}
	})
}

func kindOf(m *machine.Machine) []string { return strings.Fields(systemctl(m.Scope)) }

// TestDualStackWithoutIPv6: what is left of both families is served.
func TestDualStackWithoutIPv6(t *testing.T) { onBoth(t, testDualStackWithoutIPv6) }

func testDualStackWithoutIPv6(t *testing.T, here place) {
	m := here.boot(t, machine.Options{DisableIPv6: true})
	for _, command := range [][]string{
		{"/usr/bin/python3", workersPath + "/listenfds.py"},
		{nodePath, "-e", "require('http').createServer((request, response) => response.end('here')).listen(18789)"},
	} {
		install(t, m.Scope, m, fmt.Sprintf("listen: [\"*:18789\"]\n%s  start: at-once\nready: {timeout: 20s}\n", worker(command...)))
		m.Systemctl(t, "restart", service)
		serving(t, m.Scope, 1)
		if code, body := get(t, m, ipv4, "/"); code != http.StatusOK {
			t.Errorf("%s answered %d %s", ipv4, code, body)
		}
		wantStatus(t, m.Scope, 0, "ok", "*:18789")
	}
}
