package test

import (
	"fmt"
	"path"
	"strings"
	"testing"

	"openclaw-gateway/test/machine"
)

// again starts an OpenClaw whenever it has ended, as what its argv says: PM2 writes that itself. The first may say that it
// listens, and the rest has nobody to tell.
const again = `
import os, signal, subprocess, sys
output = None
def stop(*_):
    os.kill(child.pid, signal.SIGKILL) # Popen waits in the very thread, and has its lock
    os.waitpid(child.pid, 0)
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
while True:
    child = subprocess.Popen(sys.argv[1:], stdout=output)
    output = subprocess.DEVNULL
    with open("/run/again", "w") as file:
        file.write(str(os.getpid()))
    child.wait()
`

// TestRestarters: what starts an OpenClaw again, and is no unit, is named before and after reclaim, with the command that ends
// that. Without it the next one has the port as soon as that is free.
func TestRestarters(t *testing.T) { inScopes(t, testRestarters) }

func testRestarters(t *testing.T, here place) {
	m := here.boot(t, machine.Options{Users: true})
	root, own := m.As(m.System()), "--"+kind(m.Scope)
	prepare(t, m)
	root.Run(t, "install", "-m", "666", "/dev/null", "/run/again")
	m.WriteFile(t, fakeEntry, stubborn, 0o644)
	m.WriteFile(t, path.Join(path.Dir(path.Dir(fakeEntry)), "package.json"), `{"name": "openclaw"}`, 0o644)
	m.WriteFile(t, configPath(m.Scope), "listen: ['"+ipv4+"']\n", 0o644)
	m.WriteFile(t, "/opt/again.py", again, 0o644)
	m.WriteFile(t, "/opt/supervisord", again, 0o644)
	for _, name := range []string{"pm2", "supervisorctl", "sv", "s6-svc"} {
		m.WriteFile(t, "/usr/local/bin/"+name, "#!/bin/sh\necho \"$*\" >>/tmp/"+name+".log; kill \"$(cat /run/again)\"; timeout 60 tail -f /dev/null --pid \"$(cat /run/again)\"\n", 0o755)
	}
	// As nvm has it: in no PATH but that of PM2's daemon, which is a Python here.
	m.WriteFile(t, "/opt/nvm/pm2", "import os, sys\nos.execv('/usr/local/bin/pm2', sys.argv)\n", 0o755)
	python := strings.TrimSpace(m.Run(t, "readlink", "-f", "/usr/bin/python3"))
	as := []string{"install", own, "--now"}
	if !here.user {
		as = append(as, "--run-as", "root")
	}
	m.WriteFile(t, "/opt/titled/dist/index.js", "process.title = 'node ' + __filename;"+stubborn, 0o644)
	m.WriteFile(t, "/opt/titled/package.json", `{"name": "openclaw"}`, 0o644)
	claw := nodePath + " " + fakeEntry + " gateway --port 18789"
	for _, test := range []struct{ name, command, what, stop string }{
		{"a loop", "sh -c 'exec 2>/dev/null; " + claw + "; exec >/dev/null; while :; do " + claw + "; done'", "a loop in a shell, pid ", "kill PID"},
		{"PM2", "env pm_id=3 bash -c 'exec -a \"PM2 v5.4.3: God Daemon (" + m.Home() + "/.pm2)\" /usr/bin/python3 /opt/again.py " + claw + "'", "PM2, pid ", "pm2 delete 3"},
		{"PM2 with a script", "env pm_id=4 PATH=/opt/nvm:/usr/bin:/bin bash -c 'exec -a \"PM2 v7.0.4: God Daemon (/srv/pm2)\" /usr/bin/python3 /opt/again.py " + nodePath + " /opt/titled/dist/index.js gateway --port 18789'", "PM2, pid ", "env PM2_HOME=/srv/pm2 " + python + " /opt/nvm/pm2 delete 4"},
		{"supervisord", "env SUPERVISOR_GROUP_NAME=bots SUPERVISOR_PROCESS_NAME=claw /usr/bin/python3 /opt/supervisord " + claw, "supervisord, pid ", "supervisorctl stop bots:claw"},
		{"runit", "env -C /opt bash -c 'exec -a runsv /usr/bin/python3 /opt/again.py " + claw + "'", "runsv, pid ", "sv down /opt"},
		{"s6", "env -C /opt bash -c 'exec -a s6-supervise /usr/bin/python3 /opt/again.py " + claw + "'", "s6-supervise, pid ", "s6-svc -d /opt"},
	} {
		passed := t.Run(test.name, func(t *testing.T) {
			start := func(t *testing.T) (stop, restarter string) {
				t.Helper()
				detached(t, m, test.command)
				restarter = fmt.Sprint(process(t, m, onlyHolder(t, m, ipv4)).ParentPID)
				return strings.ReplaceAll(test.stop, "PID", restarter), restarter
			}
			stop, _ := start(t)
			f := finds(t, m.Scope, "port-held-by-orphan")
			if want := stop + " && gateway reclaim " + ipv4; f.Fix != want || !strings.Contains(f.Summary, test.what) || !strings.Contains(f.Summary, "starts it again") {
				t.Errorf("found %+v, want the fix %s", f, want)
			}
			if output, _ := m.Output(gatewayPath, "status"); !strings.Contains(output, "`"+f.Fix+"` ends it, for good") {
				t.Errorf("the status is\n%s", output)
			}
			mend(t, m.Scope, f, stop+" && gateway reclaim "+ipv4)

			// Reclaim alone: the next one is there at once, or as soon as nobody else has the port.
			stop, restarter := start(t)
			output, err := m.Output("/bin/sh", "-c", "gateway reclaim 2>&1")
			if !strings.Contains(output, " starts it again: `"+stop+"` ends that") {
				t.Errorf("reclaim: %v\n%s", err, output)
			}
			// Between the end of one and the bind of ours the next one could have the port.
			m.Run(t, "kill", "-STOP", restarter)
			m.Run(t, gatewayPath, as...)
			m.Run(t, "kill", "-CONT", restarter)
			f = finds(t, m.Scope, "openclaw-restarted")
			if !strings.Contains(f.Summary, test.what) {
				t.Errorf("found %+v", f)
			}
			mend(t, m.Scope, f, stop)
			_, _ = m.Output("kill", "-KILL", fmt.Sprint(pidOf(t, f))) // who waits would have the port now: a loop's lives on
			m.Run(t, gatewayPath, "uninstall", own)
		})
		if !passed {
			return // what it has left would be in the way of the others
		}
	}
}
