package test

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"

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
	m.Run(t, gatewayPath, "install", "--system")

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
			if text := diagnose(t, m.Scope, gatewayPath).text(); os.Getenv("DBG") != "" || !strings.Contains(text, "port-held-by-foreign") || !strings.Contains(text, strconv.Itoa(pid)) {
				t.Errorf("gateway doctor does not find pid %d:\n%s", pid, text)
			}
			if output, err := m.Output(gatewayPath, "reclaim", "--force"); err != nil || alive(t, m, pid) {
				t.Errorf("gateway reclaim --force: %v\n%s", err, output)
			}
		})
	}

	t.Run("rivals and orphans", func(t *testing.T) {
		claw := nodePath + " " + fakeEntry + " gateway --port 18789"
		for _, s := range []*machine.Scope{m.Scope, alice} {
			for _, test := range []struct {
				name, command, role string
				properties          []string
			}{
				{"behind a shell", claw + " & wait", "rival", nil},
				{"behind two", "sh -c '" + claw + " & wait' & wait", "rival", nil},
				{"reparented", "(setsid " + claw + " &); sleep infinity", "orphan", nil},
			} {
				t.Run(test.name+" of "+scopeName(s), func(t *testing.T) {
					run(t, s, "wrapped", test.command, test.properties...)
					pid := onlyHolder(t, m, ipv4)
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
	t.Run("between fork and exec", func(t *testing.T) {
		m.WriteFile(t, runPath(m.Scope, "slow.service"), "[Service]\nType=oneshot\nExecStart=/bin/sleep 60\n", 0o644)
		m.WriteFile(t, runPath(m.Scope, "idle.service"), "[Service]\nType=idle\nExecStart=/bin/sleep infinity\n", 0o644)
		m.Systemctl(t, "daemon-reload")
		m.Systemctl(t, "enable", "--now", socket)
		// forked starts such a unit and returns its process before it is executed.
		forked := func(t *testing.T) int {
			t.Helper()
			m.Systemctl(t, "start", "--no-block", "slow.service")
			m.Systemctl(t, "start", "--no-block", "idle.service")
			pid := m.WaitUnit(t, "idle.service", bound, func(u machine.Unit) bool { return u.MainPID != 0 }).MainPID
			if having := holding(t, m, inodes(t, m)[ipv4]); here.root == "" && len(having) != 2 {
				t.Errorf("%s is held by %v: the test has lost its subject", ipv4, having)
			}
			return pid
		}
		end := func(t *testing.T) { m.Systemctl(t, "stop", "slow.service", "idle.service") }
		t.Run("is the manager", func(t *testing.T) {
			t.Cleanup(func() { end(t) })
			pid := forked(t)
			for _, holder := range gatewayStatus(t, m.Scope).Sockets[0].Holders {
				if holder.Role != "systemd" {
					t.Errorf("pid %d is %s", holder.PID, holder.Role)
				}
			}
			silent(t, m.Scope)
			m.Run(t, gatewayPath, "reclaim", "--force")
			if !alive(t, m, pid) {
				t.Errorf("gateway reclaim --force has ended systemd's child, pid %d", pid)
			}
		})
		t.Run("lets go before the bind", func(t *testing.T) {
			t.Cleanup(func() { end(t) })
			forked(t)
			m.Systemctl(t, "stop", socket)
			m.Systemctl(t, "start", socket)
		})
		t.Run("of busy units", func(t *testing.T) {
			m.WriteFile(t, runPath(m.Scope, "busy@.service"),
				"[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/true\nRestart=always\nRestartSec=1ms\n", 0o644)
			m.Systemctl(t, "daemon-reload")
			busy := []string{"busy@1.service", "busy@2.service", "busy@3.service", "busy@4.service"}
			m.Systemctl(t, append([]string{"start"}, busy...)...)
			t.Cleanup(func() { m.Systemctl(t, append([]string{"stop"}, busy...)...) })
			for look := range 100 {
				s := gatewayStatus(t, m.Scope)
				for _, socket := range s.Sockets {
					for _, holder := range socket.Holders {
						if holder.Role != "systemd" {
							t.Fatalf("look %d: pid %d is %s: %q", look, holder.PID, holder.Role, s.Problems)
						}
					}
				}
			}
		})
		m.Systemctl(t, "disable", "--now", socket)
	})
}
