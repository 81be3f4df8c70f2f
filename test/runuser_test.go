package test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"openclaw-gateway/test/machine"
)

// TestRunuser: a worker that its own command makes another user.
func TestRunuser(t *testing.T) { onBoth(t, testRunuser) }

func testRunuser(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	m.Run(t, "useradd", "--create-home", "claw")
	uid := strings.TrimSpace(m.Run(t, "id", "-u", "claw"))
	m.WriteFile(t, "/tmp/own.js", strings.ReplaceAll(ofItself, "'pid '", "process.getuid() + ' in ' + process.cwd() + ' pid '"), 0o644)
	configure := func(handoff string, command []string) {
		m.WriteFile(t, configPath(m.Scope), worker(command...)+"  handoff: "+handoff+"\nready: {timeout: 10s}\nrestart: {backoff_min: 1h, backoff_max: 1h}\n", 0o644)
	}
	install(t, m.Scope, m, worker(nodePath, "/tmp/own.js"))
	get(t, m, ipv4, "/")
	serving(t, m.Scope, 1)
	python := []string{"/usr/bin/python3", workersPath + "/tells.py"}
	setpriv := []string{"/usr/bin/setpriv", "--reuid=claw", "--regid=claw", "--init-groups"}
	strict := []string{"/usr/bin/python3", workersPath + "/listenfds.py"} // as sd_listen_fds(3) wants it
	node := []string{nodePath, "/tmp/own.js"}
	behind := func(wrapper []string, command ...string) []string {
		return append(append([]string{}, wrapper...), command...)
	}
	login := []string{"/bin/su", "-", "claw", "-c", strings.Join(node, " ")}
	loginByRunuser := []string{"/usr/sbin/runuser", "-l", "claw", "-c", strings.Join(node, " ")}
	for _, test := range []struct {
		name, handoff string
		command       []string
	}{
		{"runuser", "preload", behind([]string{"/usr/sbin/runuser", "-u", "claw", "--"}, node...)},
		{"su", "preload", []string{"/bin/su", "-s", "/bin/sh", "claw", "-c", "exec " + strings.Join(node, " ")}},
		{"setpriv", "preload", behind(setpriv, node...)},
		{"setpriv by number", "preload", behind([]string{"/usr/bin/setpriv", "--reuid", uid, "--clear-groups"}, node...)},
		{"runuser, another program", "listen-fds", behind([]string{"/usr/sbin/runuser", "-u", "claw", "--"}, python...)},
		{"setpriv, another program that looks for its pid", "listen-fds", behind(setpriv, strict...)},
		// Who gets a new environment binds, and auto has intercept beside for the system's service.
		{"a login", "intercept", login},
		{"a login by runuser", "intercept", loginByRunuser},
	} {
		t.Run(test.name, func(t *testing.T) {
			configure("auto", test.command)
			m.Run(t, gatewayPath, "reload")
			for range 2 {
				code, body := get(t, m, ipv6, "/")
				s := gatewayStatus(t, m.Scope)
				if code != http.StatusOK || s.Worker.Handoff != test.handoff || len(s.Problems) > 0 {
					t.Fatalf("it answered %d %s; the worker is %+v, problems %q", code, body, s.Worker, s.Problems)
				}
				if test.handoff != "listen-fds" && !strings.HasPrefix(body, uid+" in /home/claw pid ") {
					t.Errorf("it runs as %s", body)
				}
				pid := s.Sockets[0].Holders[len(s.Sockets[0].Holders)-1].PID
				if owner := strings.TrimSpace(m.Run(t, "stat", "--format=%U", "/proc/"+strconv.Itoa(pid))); owner != "claw" {
					t.Errorf("pid %d is %s's", pid, owner)
				}
				m.Run(t, gatewayPath, "restart")
			}
		})
	}
	for _, test := range []struct {
		name, handoff, words string
		command              []string
	}{
		{"a login without intercept", "preload", "su - gives what it starts a new environment", login},
		{"a login by runuser without intercept", "preload", "runuser -l gives", loginByRunuser},
		{"env -i without intercept", "preload", "env -i gives", behind([]string{"/usr/bin/env", "-i"}, node...)},
		{"one that looks for its pid", "auto", "put setpriv --reuid=USER --regid=GROUP --init-groups in its place", behind([]string{"/usr/sbin/runuser", "-u", "claw", "--"}, strict...)},
	} {
		t.Run(test.name, func(t *testing.T) {
			configure(test.handoff, test.command)
			if _, err := m.Output(gatewayPath, "reload"); err == nil || !strings.Contains(err.Error(), test.words) {
				t.Errorf("gateway reload: %v", err)
			}
		})
	}
}
