package test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
)

// TestUnixSockets: clients of a unix socket meet what those of TCP do.
func TestUnixSockets(t *testing.T) { everywhere(t, testUnixSockets) }

// overUnix makes connections to a path in the machine.
func overUnix(m *machine.Machine, path string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", m.Root()+path)
	}
}

// getUnix makes one request over a unix socket.
func getUnix(t testing.TB, m *machine.Machine, path, of string) (int, string) {
	t.Helper()
	code, body, err := tryUnix(t.Context(), m, path, of)
	if err != nil {
		t.Fatal(err)
	}
	return code, body
}

func tryUnix(ctx context.Context, m *machine.Machine, path, of string) (int, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*bound)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+of, nil)
	if err != nil {
		return 0, "", err
	}
	client := http.Client{Transport: &http.Transport{DialContext: overUnix(m, path), DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

func testUnixSockets(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	directory := "/run/web"
	if m.User != "" {
		directory = m.RuntimeDir() + "/web"
	}
	app, two := directory+`/a b%$é'\"x.sock`, directory+"/two.sock"
	const rest = "  start: at-once\nstop: {timeout: 1s}\nrestart: {backoff_min: 20s, backoff_max: 30s}\n"
	python := worker("/usr/bin/python3", workersPath+"/listenfds.py") + rest
	access := `mode: "0660", user: nobody, group: "1"`
	if m.User != "" {
		access = `mode: "0666"` // a user gives nothing away
	}
	listen := fmt.Sprintf("listen: [%q, {address: %q, %s, name: app}, %q]\n", ipv4, "unix:"+app, access, "unix:"+two)
	modes := func(want ...string) {
		t.Helper()
		if got := strings.Fields(m.Run(t, "stat", "--format=%a:%U:%g", app, two)); !slices.Equal(got, want) {
			t.Errorf("the files of the sockets have %s, want %s", got, want)
		}
	}
	healthy := func(t *testing.T, addresses ...string) {
		t.Helper()
		healthyAt(t, m.Scope, addresses...)
		if m.User == "" {
			silent(t, m.Scope)
		}
	}
	begin := func(t *testing.T, configuration string) {
		t.Helper()
		install(t, m.Scope, m, configuration)
		m.Systemctl(t, "restart", service)
	}

	// Before there is a configuration that has worked.
	t.Run("a crash", func(t *testing.T) {
		begin(t, listen+worker("/bin/false")+rest)
		statusText(t, m.Scope, "exit code 1", "next start at")
		if code, body := getUnix(t, m, app, "/"); code != http.StatusServiceUnavailable || !strings.Contains(body, "exit code 1") {
			t.Errorf("the front desk answered %d %s", code, body)
		}
	})
	t.Run("a worker that binds the path", func(t *testing.T) {
		thief := worker("/usr/bin/python3", "-c", fmt.Sprintf(`import os, socket
os.unlink(%[1]q)
s = socket.socket(socket.AF_UNIX)
s.bind(%[1]q)
s.listen()
while True:
    c, _ = s.accept()
    c.recv(9999)
    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    c.close()`, two)) + "ready: {timeout: 2s}\nstop: {timeout: 1s}\nrestart: {backoff_min: 20s, backoff_max: 30s}\n"
		install(t, m.Scope, m, fmt.Sprintf("listen: [%q]\n", "unix:"+two)+thief)
		m.Systemctl(t, "start", socket)
		go func() { _, _, _ = tryUnix(t.Context(), m, two, "/") }() // stands in a queue that nobody looks at
		statusText(t, m.Scope, "another socket has taken the place of unix:"+two+": if the worker binds the path itself, it has to take the socket from LISTEN_FDS instead")
		install(t, m.Scope, m, fmt.Sprintf("listen: [%q]\n", "unix:"+two)+python)
		m.Systemctl(t, "restart", socket)
		serving(t, m.Scope, 1)
		healthy(t, "unix:"+two)
	})
	t.Run("listen-fds", func(t *testing.T) {
		begin(t, listen+python)
		serving(t, m.Scope, 1)
		if m.User == "" {
			modes("660:nobody:1", "600:root:0")
		} else {
			id := strings.TrimSpace(m.Run(t, "id", "-g"))
			modes("666:"+m.User+":"+id, "600:"+m.User+":"+id)
		}
		healthy(t, ipv4, "unix:"+app, "unix:"+two)
		for _, path := range []string{app, two} {
			if code, body := getUnix(t, m, path, "/environment"); code != http.StatusOK || !strings.Contains(body, `"LISTEN_FDNAMES": "gateway:app:gateway"`) {
				t.Errorf("%s answered %d %s", path, code, body)
			}
		}
		l := load.Start(t.Context(), load.Options{URL: "http://localhost/", Dial: overUnix(m, app), Limit: 3 * bound})
		answered(t, l)
		m.Run(t, gatewayPath, "restart")
		answered(t, l)
		m.Systemctl(t, "restart", service)
		answered(t, l)
		report := l.Stop()
		t.Logf("%s", report)
		// The Python worker ends without an answer for whom it talks to.
		if report.Refused > 0 || report.Hung > 0 || len(report.Status) > 0 || report.Lost() > 8 {
			t.Errorf("want nobody refused or hung: %s", report)
		}
		healthy(t, ipv4, "unix:"+app, "unix:"+two)
	})
	node := worker(nodePath, "-e", fmt.Sprintf(`const fs = require('fs');
try { fs.unlinkSync(%[1]q); } catch {}
const server = require('http').createServer((request, response) => response.end(String(server.address())));
server.listen(%[1]q);
process.on('SIGTERM', () => { fs.rmSync(%[1]q, { force: true }); server.close(); });`, two)) + "  start: at-once\nready: {path: /, timeout: 20s}\nalive: {queue: 2s}\nstop: {timeout: 5s}\n"
	t.Run("preload", func(t *testing.T) {
		begin(t, fmt.Sprintf("listen: [%q]\n", "unix:"+two)+node)
		serving(t, m.Scope, 1)
		healthy(t, "unix:"+two)
		l := load.Start(t.Context(), load.Options{URL: "http://localhost/", Dial: overUnix(m, two), Limit: 3 * bound})
		answered(t, l)
		for range 2 {
			m.Run(t, gatewayPath, "restart")
			answered(t, l)
		}
		report := l.Stop()
		t.Logf("%s", report)
		if report.Refused > 0 || report.Hung > 0 || len(report.Status) > 0 || report.Lost() > 0 {
			t.Errorf("want everybody served: %s", report)
		}
		if _, body := getUnix(t, m, two, "/"); body != two {
			t.Errorf("server.address() is %q", body)
		}
		healthy(t, "unix:"+two)
	})
	t.Run("hung", func(t *testing.T) {
		pid := gatewayStatus(t, m.Scope).Worker.PID
		stopProcess(t, m, pid)
		client := make(chan error, 1)
		go func() {
			_, _, err := tryUnix(t.Context(), m, two, "/")
			client <- err
		}()
		statusText(t, m.Scope, "a client has waited on unix:"+two)
		s := gatewayStatus(t, m.Scope)
		if s.Verdict != "hung" || s.Worker.Hung == nil || s.Worker.Hung.By != "queue" || s.Worker.Hung.Address != "unix:"+two || s.Sockets[0].Waiting < 2 {
			t.Errorf("the status is %+v", s)
		}
		m.Run(t, "kill", "-CONT", strconv.Itoa(pid))
		if err := <-client; err != nil {
			t.Error(err)
		}
		serving(t, m.Scope, 1)
	})
	t.Run("removed", func(t *testing.T) {
		m.Run(t, "rm", two)
		s := gatewayStatus(t, m.Scope)
		command := systemctl(m.Scope) + " restart " + socket
		if s.Verdict != "degraded" || !slices.ContainsFunc(s.Problems, func(problem string) bool {
			return strings.Contains(problem, "somebody has removed the file of unix:"+two) && strings.Contains(problem, "`"+command+"`")
		}) {
			t.Errorf("the status is %+v", s)
		}
		m.Run(t, "sh", "-c", command)
		if code, _ := getUnix(t, m, two, "/"); code != http.StatusOK {
			t.Errorf("it answered %d", code)
		}
		serving(t, m.Scope, 1)
		healthy(t, "unix:"+two)
	})
	t.Run("another mode", func(t *testing.T) {
		changed := fmt.Sprintf("listen: [{address: %q, mode: \"0666\"}]\n", "unix:"+two) + node
		m.WriteFile(t, configPath(m.Scope), changed, 0o644)
		m.Run(t, gatewayPath, "reload")
		wantStatus(t, m.Scope, 1, "degraded", "unix:"+two+" has mode 0600, and listen wants mode 0666: run \"gateway install\" again")
		begin(t, changed)
		serving(t, m.Scope, 1)
		healthy(t, "unix:"+two)
	})
	t.Run("a drop-in", func(t *testing.T) {
		begin(t, fmt.Sprintf("listen: [%q]\n", ipv4)+python)
		dropIn := fmt.Sprintf("/etc/systemd/%s/%s.d/path.conf", kind(m.Scope), socket)
		m.WriteFile(t, dropIn, "[Socket]\nListenStream="+strings.ReplaceAll(app, "%", "%%")+"\n", 0o644)
		m.Systemctl(t, "daemon-reload")
		m.Systemctl(t, "stop", socket, service)
		m.Systemctl(t, "start", socket)
		for range 2 {
			if code, body := getUnix(t, m, app, "/"); code != http.StatusOK {
				t.Errorf("it answered %d %s", code, body)
			}
			healthy(t, ipv4, "unix:"+app)
			m.Run(t, gatewayPath, "restart")
		}
		// Nobody waits for a worker that does not know of it.
		m.WriteFile(t, configPath(m.Scope), fmt.Sprintf("listen: [%q]\n", ipv4)+
			worker(nodePath, "-e", "require('http').createServer((q, r) => r.end('here')).listen(18789, '127.0.0.1')")+rest, 0o644)
		m.Run(t, gatewayPath, "reload")
		if code, _ := get(t, m, ipv4, "/"); code != http.StatusOK {
			t.Errorf("%s answered %d", ipv4, code)
		}
		m.System().Run(t, "rm", dropIn)
		m.Systemctl(t, "daemon-reload")
	})
	t.Run("stop", func(t *testing.T) {
		begin(t, listen+python)
		m.Run(t, gatewayPath, "stop")
		if left := strings.TrimSpace(m.Run(t, "find", filepath.Dir(app), "-type", "s")); left != "" {
			t.Errorf("these stay: %s", left)
		}
	})
	t.Run("by hand", func(t *testing.T) {
		m.WriteFile(t, configPath(m.Scope), fmt.Sprintf("listen: [%q, {address: %q, mode: \"0666\"}]\n", ipv4, "unix:"+app)+python, 0o644)
		for range 2 { // a killed launcher leaves its file, and another one takes the path
			h := runByHand(t, m)
			if code, body := getUnix(t, m, app, "/"); code != http.StatusOK {
				t.Errorf("it answered %d %s", code, body)
			}
			if got := strings.TrimSpace(m.Run(t, "stat", "--format=%a", app)); got != "666" {
				t.Errorf("its mode is %s", got)
			}
			m.Run(t, "kill", "-KILL", strconv.Itoa(gatewayStatus(t, m.Scope).Launcher.PID))
			_ = h.command.Wait()
			if _, err := os.Lstat(m.Root() + app); err != nil {
				t.Errorf("its file: %v", err)
			}
		}
		h := runByHand(t, m)
		// An edit closes it, and the end of the launcher.
		m.WriteFile(t, configPath(m.Scope), fmt.Sprintf("listen: [%q, %q]\n", ipv4, "unix:"+two)+python, 0o644)
		m.Run(t, gatewayPath, "reload")
		if code, body := getUnix(t, m, two, "/"); code != http.StatusOK {
			t.Errorf("it answered %d %s", code, body)
		}
		if _, err := os.Lstat(m.Root() + app); !os.IsNotExist(err) {
			t.Errorf("the file of the removed one: %v", err)
		}
		m.Run(t, "kill", "-TERM", strconv.Itoa(gatewayStatus(t, m.Scope).Launcher.PID))
		if err := h.command.Wait(); err != nil {
			t.Errorf("%v\n%s", err, h.logged())
		}
		if _, err := os.Lstat(m.Root() + two); !os.IsNotExist(err) {
			t.Errorf("its file: %v", err)
		}
	})
}
