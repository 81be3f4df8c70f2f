package test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"openclaw-gateway/test/machine"
)

// fromSystemd takes the sockets by LISTEN_FDS alone, as SvelteKit's adapter-node does.
const fromSystemd = `if (process.env.LISTEN_PID != process.pid) throw new Error('LISTEN_PID is ' + process.env.LISTEN_PID);
const http = require('http');
for (let fd = 3; fd < 3 + Number(process.env.LISTEN_FDS); fd++) http.createServer((q, r) => r.end('pid ' + process.pid)).listen({fd});
`

// ofItself is any Node.js server.
const ofItself = `const http = require('http');
for (const host of ['127.0.0.1', '::1']) http.createServer((q, r) => r.end('pid ' + process.pid)).listen(18789, host);
`

// TestWrappers: what people put in front of a server, and the server that finds its sockets in two ways.
func TestWrappers(t *testing.T) { inScopes(t, testWrappers) }

func testWrappers(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	m.WriteFile(t, "/tmp/own.js", ofItself, 0o644)
	m.WriteFile(t, "/tmp/systemd.js", fromSystemd, 0o644)
	m.WriteFile(t, "/tmp/becomes", "#!/bin/sh -e\ncd /tmp\nexec "+nodePath+" own.js\n", 0o755)
	m.WriteFile(t, "/tmp/starts", "#!/bin/sh -e\n"+nodePath+" -e 0\n"+nodePath+" /tmp/own.js\necho ended\n", 0o755)
	m.WriteFile(t, "/tmp/node", "#!/bin/sh\nexec "+nodePath+" \"$@\"\n", 0o755) // as a version manager has them
	m.WriteFile(t, "/tmp/npm", "#!"+nodePath+"\nrequire('child_process').spawn(process.execPath, ['/tmp/own.js'], {stdio: 'inherit'}).on('exit', (code) => process.exit(code));\n", 0o755)
	configure := func(t *testing.T, command []string, more ...string) {
		t.Helper()
		m.WriteFile(t, configPath(m.Scope), worker(command...)+strings.Join(more, "")+"restart: {backoff_min: 1h, backoff_max: 1h}\n", 0o644)
	}
	install(t, m.Scope, m, worker(nodePath, "/tmp/own.js"))
	get(t, m, ipv4, "/")
	serving(t, m.Scope, 1)
	python := []string{"/usr/bin/python3", workersPath + "/tells.py"}
	for _, test := range []struct {
		name, handoff string
		command       []string
		main          bool // it serves by its main process
	}{
		{"nice", "preload", []string{"/usr/bin/nice", nodePath, "/tmp/own.js"}, true},
		{"env -S", "preload", []string{"/usr/bin/env", "-S", nodePath + " --no-warnings", "/tmp/own.js"}, true},
		{"setpriv", "preload", []string{"/usr/bin/setpriv", "--no-new-privs", nodePath, "/tmp/own.js"}, true},
		{"a script that becomes it", "preload", []string{"/tmp/becomes"}, true},
		{"a script that starts it", "preload", []string{"/tmp/starts"}, false},
		{"a login shell", "preload", []string{"/bin/bash", "-lc", nodePath + " /tmp/own.js"}, true},
		{"a shim of a version manager", "preload", []string{"/tmp/node", "/tmp/own.js"}, true},
		{"nice before another program", "listen-fds", append([]string{"/usr/bin/nice"}, python...), true},
		{"a shell before another program", "listen-fds", []string{"/bin/sh", "-c", "exec " + strings.Join(python, " ")}, true},
		{"Node.js by LISTEN_FDS", "preload", []string{nodePath, "/tmp/systemd.js"}, true},
		{"npm", "intercept", []string{"/tmp/npm", "start"}, false},
		{"Node.js by LISTEN_FDS behind a shell", "preload", []string{"/bin/sh", "-c", nodePath + " /tmp/systemd.js; exit 1"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			configure(t, test.command)
			m.Run(t, gatewayPath, "reload")
			for range 2 {
				for _, address := range []string{ipv4, ipv6} {
					code, body := get(t, m, address, "/")
					s := gatewayStatus(t, m.Scope)
					ofMain := strings.Contains(body, fmt.Sprintf("pid %d", s.Worker.PID))
					if code != http.StatusOK || ofMain != test.main || s.Worker.Handoff != test.handoff || len(s.Problems) > 0 {
						t.Fatalf("%s answered %d %s; the worker is %+v, problems %q", address, code, body, s.Worker, s.Problems)
					}
				}
				m.Run(t, gatewayPath, "restart")
			}
		})
	}
	for name, test := range map[string]struct {
		command []string
		words   string
	}{
		"npm":                {[]string{"/tmp/npm", "start"}, "npm starts another Node.js, which does not get the sockets: have worker.command begin with node"},
		"npm behind a shell": {[]string{"/bin/sh", "-c", "cd /tmp; /tmp/npm start"}, "npm starts another Node.js, which does not get the sockets"},
	} {
		t.Run(name, func(t *testing.T) {
			configure(t, test.command, "  handoff: preload\n")
			if _, err := m.Output(gatewayPath, "reload"); err == nil || !strings.Contains(err.Error(), test.words) {
				t.Errorf("gateway reload: %v", err)
			}
			check(t, m.Scope).want(t, 0, "worker.command: warning: "+test.words)
			if d := diagnose(t, m.Scope, gatewayPath); !strings.Contains(d.ids(), "sockets-lost") || !strings.Contains(d.text(), test.words) {
				t.Errorf("found %s", d.text())
			}
			// The line that is named.
			configure(t, []string{nodePath, "/tmp/own.js"})
			m.Run(t, gatewayPath, "reload")
			get(t, m, ipv4, "/")
		})
	}
}
