package test

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/test/machine"
)

// claimant listens on the port, under the name that it is given, and tells whoever waits.
const claimant = `
import ctypes, os, signal, socket
if "CALLED" in os.environ:
    ctypes.CDLL(None).prctl(15, os.environ["CALLED"].encode()) # PR_SET_NAME
taken = socket.create_server(("127.0.0.1", 18789))
if "NOTIFY_SOCKET" in os.environ:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect(os.environ["NOTIFY_SOCKET"])
        notify.send(b"READY=1")
else:
    print("listening", flush=True)
while True:
    signal.pause()
`

// liar is a control socket that names a process of which the one that answers there knows nothing.
const liar = `
import json, os, socket, sys, threading
path, pid = sys.argv[1], int(sys.argv[2])
os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
if os.path.exists(path):
    os.unlink(path)
control = socket.socket(socket.AF_UNIX)
control.bind(path)
control.listen()
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.connect(os.environ["NOTIFY_SOCKET"])
    notify.send(b"READY=1")
said = json.dumps({
    "version": "v1", "verdict": "ok", "problems": [], "notes": [], "sockets": [],
    "launcher": {"pid": pid, "holder": "self"}, "worker": {"pid": pid, "state": "ready"}, "config": {},
})
def answer(conn):
    if conn.recv(65536):
        conn.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(said)}\r\n\r\n{said}".encode())
    conn.close()
while True:
    threading.Thread(target=answer, args=(control.accept()[0],)).start()
`

// crowd opens as many descriptors as it is told, in as many processes, and listens on the port behind all of them if told so.
const crowd = `
import os, resource, signal, socket, sys
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
for _ in range(int(sys.argv[1])):
    os.dup(0)
if len(sys.argv) > 3:
    taken = socket.create_server(("127.0.0.1", 18789))
for _ in range(int(sys.argv[2])):
    if os.fork() == 0:
        break
else:
    print("listening", flush=True)
signal.pause()
`

// TestOurs: ours is what systemd says, and nobody passes for it by what it says of itself. Whom systemd knows is not taken
// for a stranger either.
func TestOurs(t *testing.T) { onBoth(t, testOurs) }

func testOurs(t *testing.T, here place) {
	m := here.boot(t, machine.Options{Users: true})
	prepare(t, m)
	alice, mallory := m.AddUser(t, "alice"), m.AddUser(t, "mallory")
	const claims, lies, byHandConfig = "/opt/claims/run", "/opt/liar.py", "/opt/gateway.yaml"
	m.WriteFile(t, claims, claimant, 0o644)
	m.WriteFile(t, lies, liar, 0o644)
	m.WriteFile(t, byHandConfig, "listen: ['"+ipv4+"']\n", 0o644)
	m.WriteFile(t, fakeEntry, takerOpenClaw, 0o644)
	m.WriteFile(t, path.Join(path.Dir(path.Dir(fakeEntry)), "package.json"), `{"name": "openclaw"}`, 0o644)
	m.WriteFile(t, configPath(m.Scope), "{}\n", 0o644)
	m.Run(t, gatewayPath, "install", "--system", "--run-as", "root")

	// run starts a unit of a user's manager that says when it is ready.
	run := func(t *testing.T, s *machine.Scope, unit, command string, properties ...string) {
		t.Helper()
		arguments := []string{"--unit=" + unit, "--collect", "--property=Type=notify", "--property=NotifyAccess=all"}
		for _, property := range properties {
			arguments = append(arguments, "--property="+property)
		}
		s.Run(t, "systemd-run", append(append(flagsOf(s), arguments...), "--", "/bin/sh", "-c", command)...)
		t.Cleanup(func() { _, _ = s.Output("systemctl", append(flagsOf(s), "stop", unit+".service")...) })
	}
	// inCgroup is a command that goes into a cgroup below its own first.
	m.WriteFile(t, "/opt/inside.sh", `cgroup=/sys/fs/cgroup$(grep -o '/.*' /proc/self/cgroup | tail -n 1)/$1; shift
mkdir -p $cgroup && echo $$ >$cgroup/cgroup.procs && cd /opt/claims && exec "$@"
`, 0o644)
	inCgroup := func(name, command string) string { return "exec /bin/sh /opt/inside.sh " + name + " " + command }
	byHand := "mkfifo /tmp/said && { setsid " + gatewayPath + " run --config " + byHandConfig + " >/tmp/said 2>/dev/null </dev/null & read line </tmp/said; rm /tmp/said; }"
	const claim = "/usr/bin/python3 " + claims
	marked := func(of string) string {
		return fmt.Sprintf("env GATEWAY_LAUNCHER=/x:%[1]s:$(cut -d' ' -f22 /proc/%[1]s/stat) %[2]s", of, claim)
	}
	lying := func(of int) string {
		return fmt.Sprintf("/usr/bin/python3 %s %s/openclaw-gateway/control.sock %d", lies, mallory.RuntimeDir(), of)
	}
	for _, test := range []struct {
		name  string
		start func(t *testing.T)
	}{
		{"a mark of PID 1", func(t *testing.T) { detached(t, m.As(mallory), marked("1")) }},
		{"a mark of a launcher of its own", func(t *testing.T) { detached(t, m.As(mallory), marked("$$")) }},
		{"the cgroup of a generation", func(t *testing.T) {
			run(t, mallory, "claim", inCgroup("openclaw-gateway.service/generation-3", claim), "Delegate=yes")
		}},
		{"the cgroup of the launcher", func(t *testing.T) {
			run(t, mallory, "claim", inCgroup("openclaw-gateway.service", "/usr/bin/python3 run"), "Delegate=yes")
		}},
		{"a manager by its name", func(t *testing.T) {
			run(t, mallory, "claim", inCgroup("init.scope", claim), "Delegate=yes", "Environment=CALLED=systemd")
		}},
		{"a manager's child by its name", func(t *testing.T) {
			run(t, mallory, "claim", claim, "Environment=CALLED=(gateway)")
		}},
		{"the unit of another scope", func(t *testing.T) { run(t, mallory, "openclaw-gateway", "exec "+claim) }},
		{"a launcher of another scope", func(t *testing.T) {
			run(t, mallory, "openclaw-gateway", "cd /opt/claims && exec /usr/bin/python3 run")
		}},
		{"a launcher run by hand", func(t *testing.T) { mallory.Run(t, "/bin/sh", "-c", byHand) }},
		{"the word of a control socket", func(t *testing.T) {
			detached(t, m.As(mallory), claim)
			run(t, mallory, "liar", "exec "+lying(onlyHolder(t, m, ipv4)))
		}},
		{"a control socket in another network", func(t *testing.T) {
			detached(t, m.As(mallory), claim)
			run(t, mallory, "liar", "exec unshare --net --map-current-user "+lying(1))
		}},
	} {
		t.Run("claims: "+test.name, func(t *testing.T) {
			test.start(t)
			pid := onlyHolder(t, m, ipv4)
			t.Cleanup(func() {
				if alive(t, m, pid) {
					kill(t, m, pid)
				}
			})
			if output, err := m.Output(gatewayPath, "reclaim"); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("pid %d of user mallory", pid)) {
				t.Errorf("gateway reclaim: %v\n%s", err, output)
			}
			if text := diagnose(t, m.Scope, gatewayPath).text(); !strings.Contains(text, "port-held-by-foreign") || !strings.Contains(text, strconv.Itoa(pid)) {
				t.Errorf("gateway doctor does not find pid %d:\n%s", pid, text)
			}
			if text, exit := printedStatus(t, m.Scope, "--system"); exit == 0 || !strings.Contains(text, fmt.Sprintf("pid %d", pid)) {
				t.Errorf("gateway status does not find pid %d: exit status %d\n%s", pid, exit, text)
			}
			if output, err := m.Output(gatewayPath, "reclaim", "--force"); err != nil || alive(t, m, pid) {
				t.Errorf("gateway reclaim --force: %v\n%s", err, output)
			}
		})
	}

	t.Run("rivals and orphans", func(t *testing.T) {
		claw := nodePath + " " + fakeEntry + " gateway --port 18789"
		m.WriteFile(t, "/opt/god.sh", fmt.Sprintf(`mkfifo /tmp/god && { setsid sh -c 'echo $$ >/tmp/god.pid; %s & wait' >/tmp/god & read line </tmp/god; rm /tmp/god; }; true`, claw), 0o644)
		for _, s := range []*machine.Scope{m.Scope, alice} {
			m.WriteFile(t, "/opt/scope.sh", fmt.Sprintf("env -u NOTIFY_SOCKET systemd-run %s --scope --quiet %s | { read line; systemd-notify --ready; cat; }",
				strings.Join(flagsOf(s), " "), claw), 0o644)
			for _, test := range []struct {
				name, command, role string
				properties          []string
			}{
				{"behind a shell", claw + " & wait", "rival", nil},
				{"behind two", "sh -c '" + claw + " & wait' & wait", "rival", nil},
				{"below a daemon", ". /opt/god.sh", "rival", []string{"Type=forking", "PIDFile=/tmp/god.pid", "NotifyAccess=none"}},
				{"reparented", "(setsid " + claw + " &); sleep infinity", "orphan", nil},
				// As a login leaves the service that has let it in.
				{"in a scope of its own", ". /opt/scope.sh", "orphan", nil},
			} {
				t.Run(test.name+" of "+scopeName(s), func(t *testing.T) {
					run(t, s, "wrapped", test.command, test.properties...)
					pid := onlyHolder(t, m, ipv4)
					t.Cleanup(func() {
						if alive(t, m, pid) {
							kill(t, m, pid)
						}
					})
					output, err := m.Output(gatewayPath, "reclaim", "--dry-run")
					if said := output + errorText(err); !strings.Contains(said, fmt.Sprintf("%s pid %d ", test.role, pid)) || (err == nil) != (test.role == "orphan") {
						t.Errorf("want that pid %d is %s: %s", pid, test.role, said)
					}
				})
			}
		}
	})

	// While a job is under way, systemd holds back the program of such a unit for up to 5 s (Type=idle, systemd.service(5)).
	// Until 252 the child that waits has everything open that the manager had.
	alice.Run(t, gatewayPath, "install", "--user")
	for _, s := range []*machine.Scope{m.Scope, alice} {
		t.Run("between fork and exec of "+scopeName(s), func(t *testing.T) {
			m.WriteFile(t, runPath(s, "slow.service"), "[Service]\nType=oneshot\nExecStart=/bin/sleep 60\n", 0o644)
			m.WriteFile(t, runPath(s, "idle.service"), "[Service]\nType=idle\nExecStart=/bin/sleep infinity\n", 0o644)
			s.Systemctl(t, "daemon-reload")
			s.Systemctl(t, "enable", "--now", socket)
			t.Cleanup(func() { s.Systemctl(t, "disable", "--now", socket, service) })
			// forked starts such a unit and returns its process before it is executed.
			forked := func(t *testing.T) int {
				t.Helper()
				s.Systemctl(t, "start", "--no-block", "slow.service")
				s.Systemctl(t, "start", "--no-block", "idle.service")
				t.Cleanup(func() { s.Systemctl(t, "stop", "slow.service", "idle.service") })
				pid := s.WaitUnit(t, "idle.service", bound, func(u machine.Unit) bool { return u.MainPID != 0 }).MainPID
				if having := holding(t, m, inodes(t, m)[ipv4]); here.root == "" && len(having) != 2 {
					t.Errorf("%s is held by %v: the test has lost its subject", ipv4, having)
				}
				return pid
			}
			t.Run("is the manager", func(t *testing.T) {
				pid := forked(t)
				for _, asking := range []*machine.Scope{m.Scope, s} {
					if d := diagnose(t, asking, gatewayPath); strings.Contains(d.text(), "port-held") {
						t.Errorf("gateway doctor of %s:\n%s", scopeName(asking), d.text())
					}
					var exit int // to root, a user's manager is in the way
					if asking != s {
						exit = 1
					}
					if code := exitCode(t, asking.Command(t.Context(), gatewayPath, "reclaim", "--force", ipv4)); code != exit || !alive(t, m, pid) {
						t.Errorf("gateway reclaim --force of %s ends with %d, and pid %d lives: %t", scopeName(asking), code, pid, alive(t, m, pid))
					}
				}
				text, _ := printedStatus(t, s, "--"+kind(s))
				if strings.Contains(text, "foreign") {
					t.Errorf("gateway status:\n%s", text)
				}
			})
			t.Run("lets go", func(t *testing.T) {
				forked(t)
				if s == m.Scope {
					s.Systemctl(t, "stop", socket)
				} else {
					s.Run(t, gatewayPath, "stop", "--user") // which looks whether the port is closed
				}
				s.Systemctl(t, "start", socket)
			})
			if s != m.Scope {
				return // to alice, status shows both scopes
			}
			t.Run("of busy units", func(t *testing.T) {
				m.WriteFile(t, runPath(s, "busy@.service"),
					"[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/true\nRestart=always\nRestartSec=1ms\n", 0o644)
				s.Systemctl(t, "daemon-reload")
				busy := []string{"busy@1.service", "busy@2.service"}
				s.Systemctl(t, append([]string{"start"}, busy...)...)
				t.Cleanup(func() { s.Systemctl(t, append([]string{"stop"}, busy...)...) })
				for look := range 30 {
					status := gatewayStatus(t, s)
					for _, socket := range status.Sockets {
						for _, holder := range socket.Holders {
							if holder.Role != "systemd" {
								t.Fatalf("look %d: pid %d is %s: %q", look, holder.PID, holder.Role, status.Problems)
							}
						}
					}
				}
			})
		})
	}

	if here.root != "" {
		return // what follows is the kernel's
	}
	t.Run("a crowd of descriptors", func(t *testing.T) {
		m.WriteFile(t, "/opt/crowd.py", crowd, 0o644)
		crowded := func(more string) {
			// Some 2 million; root's doctor, status and reclaim took half a minute.
			detached(t, m.As(mallory), "/usr/bin/python3 /opt/crowd.py 19000 100"+more)
			t.Cleanup(func() { _, _ = m.Output("pkill", "-KILL", "--uid", "mallory", "--full", "/opt/crowd.py") })
		}
		inTime := func(words string) {
			t.Helper()
			for _, command := range [][]string{{"status", "--system"}, {"doctor", "--system"}, {"reclaim", "--dry-run", ipv4}} {
				ctx, cancel := context.WithTimeout(t.Context(), mostSeconds*time.Second)
				output, err := m.Command(ctx, gatewayPath, command...).CombinedOutput()
				if !strings.Contains(string(output), words) || ctx.Err() != nil {
					t.Errorf("gateway %v: %v, %v\n%s", command, err, ctx.Err(), output)
				}
				cancel()
			}
		}
		detached(t, m.As(alice), nodePath+" "+fakeEntry+" gateway --port 18789")
		orphan := onlyHolder(t, m, ipv4)
		crowded("")
		inTime(fmt.Sprintf("pid %d", orphan))
		m.Systemctl(t, "start", socket)
		if alive(t, m, orphan) {
			t.Errorf("the orphan, pid %d, lives", orphan)
		}
		m.Systemctl(t, "stop", socket)
		crowded(" and listens")
		inTime("user mallory")
	})
}
