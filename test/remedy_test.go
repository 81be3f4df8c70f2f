package test

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"openclaw-gateway/test/machine"
)

// taker has the port, or the socket that systemd has passed, and tells whoever waits.
const taker = `
import os, signal, socket, sys
if "LISTEN_FDS" not in os.environ:
    taken = [socket.create_server(("127.0.0.1", 18789))]
    for other in sys.argv[1:]:
        host, port = other.split(":")
        taken.append(socket.create_server((host, int(port))))
if "NOTIFY_SOCKET" in os.environ:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect(os.environ["NOTIFY_SOCKET"])
        notify.send(b"READY=1")
else:
    print("listening", flush=True)
while True:
    signal.pause()
`

// takerOpenClaw is a gateway by its command line and its package, which does the same.
const takerOpenClaw = `
require('node:http').createServer().listen(18789, '127.0.0.1', () => {
  if (process.env.NOTIFY_SOCKET) require('node:child_process').execFileSync('systemd-notify', ['--ready']);
  else console.log('listening');
});
`

// TestRemedy brings about everybody who can have the port, and whatever can keep him running: status, doctor, reclaim and a
// bind that fails say the same command, to root, to the owner and to somebody else, and it does what it says.
func TestRemedy(t *testing.T) { onBoth(t, testRemedy) }

func testRemedy(t *testing.T, here place) {
	m := here.boot(t, machine.Options{Users: true})
	prepare(t, m)
	alice, bob := m.AddUser(t, "alice"), m.AddUser(t, "bob")
	const takerPath = "/opt/taker.py"
	m.WriteFile(t, takerPath, taker, 0o644)
	m.WriteFile(t, fakeEntry, takerOpenClaw, 0o644)
	m.WriteFile(t, path.Join(path.Dir(path.Dir(fakeEntry)), "package.json"), `{"name": "openclaw"}`, 0o644)
	claw, stranger := nodePath+" "+fakeEntry+" gateway --port 18789", "/usr/bin/python3 "+takerPath
	const config = "/opt/gateway.yaml"
	m.WriteFile(t, config, "listen: ['"+ipv4+"']\n", 0o644)
	for _, s := range []*machine.Scope{m.Scope, alice, bob} {
		m.WriteFile(t, configPath(s), "listen: ['"+ipv4+"']\n", 0o644)
		if s.User != "" {
			m.Run(t, "chown", "-R", s.User+":", s.Home()+"/.config")
		}
	}
	asAlice := fmt.Sprintf("runuser --pty -u alice -- env XDG_RUNTIME_DIR=/run/user/%d ", alice.UID)

	// unit writes a unit, which is gone when the test is.
	unit := func(t *testing.T, s *machine.Scope, name, content string) {
		t.Helper()
		file := unitPath(s, name)
		m.WriteFile(t, file, content, 0o644)
		if s.User != "" {
			m.Run(t, "chown", "-R", s.User+":", s.Home()+"/.config")
		}
		s.Systemctl(t, "daemon-reload")
		t.Cleanup(func() {
			_, _ = s.Output("systemctl", append(flagsOf(s), "disable", "--now", name)...)
			m.Run(t, "rm", file)
			s.Systemctl(t, "daemon-reload")
		})
	}
	service := func(command, more string) string {
		return "[Service]\nType=notify\nNotifyAccess=all\nExecStart=" + command + "\n" + more
	}
	const install = "[Install]\nWantedBy=default.target\n"
	// told returns what each of the four says to the user of a scope.
	told := func(s *machine.Scope) map[string]string {
		all := map[string]string{}
		status, err := s.Output(gatewayPath, "status")
		all["status"] = status + errorText(err)
		for _, f := range diagnose(t, s, gatewayPath).Findings {
			all["doctor"] += f.Summary + "\n`" + f.Fix + "`\n"
		}
		_, err = s.Output(gatewayPath, "reclaim", "--dry-run", ipv4)
		all["reclaim"] = errorText(err)
		_, err = s.Output(gatewayPath, "run", "--config", config)
		all["run"] = errorText(err)
		return all
	}
	// frees demands that those who are named say the command to the user of a scope, who runs it then.
	frees := func(t *testing.T, s *machine.Scope, command string, who ...string) {
		t.Helper()
		said := told(s)
		for _, name := range who {
			if !strings.Contains(said[name], "`"+command+"`") {
				t.Errorf("%s does not say %s:\n%s", name, command, said[name])
			}
		}
		s.Run(t, "/bin/sh", "-c", command)
		if left := inodes(t, m); len(left) > 0 {
			t.Fatalf("after %s somebody listens on %v", command, slices.Collect(maps.Keys(left)))
		}
	}
	everybody := []string{"status", "doctor", "reclaim", "run"}

	t.Run("orphan", func(t *testing.T) {
		for _, s := range []*machine.Scope{m.Scope, alice} {
			detached(t, m.As(alice), claw)
			command := "gateway reclaim " + ipv4
			// reclaim itself would end it, and so says nothing.
			frees(t, s, command, "status", "doctor", "run")
		}
	})
	for _, what := range []struct {
		name, command string
		end           string
	}{{"rival", claw, "disable --now"}, {"foreign", stranger, "stop"}} {
		t.Run(what.name+" of the system", func(t *testing.T) {
			unit(t, m.Scope, "x.service", service(what.command, install))
			m.Systemctl(t, "enable", "--now", "x.service")
			frees(t, m.Scope, "systemctl "+what.end+" x.service", everybody...)
			if state := m.Property(t, "x.service", "UnitFileState"); (state == "disabled") != (what.name == "rival") {
				t.Errorf("the unit is %s", state)
			}
			m.Systemctl(t, "start", "x.service")
			if s := told(bob)["doctor"]; !strings.Contains(s, "sudo gateway reclaim --dry-run "+ipv4) {
				t.Errorf("somebody else is told\n%s", s)
			}
		})
		t.Run(what.name+" of a user", func(t *testing.T) {
			unit(t, alice, "x.service", service(what.command, install))
			alice.Systemctl(t, "enable", "--now", "x.service")
			frees(t, m.Scope, asAlice+"systemctl --user "+what.end+" x.service", everybody...)
			alice.Systemctl(t, "enable", "--now", "x.service")
			frees(t, alice, "systemctl --user "+what.end+" x.service", everybody...)
		})
		t.Run(what.name+" in a transient unit", func(t *testing.T) {
			run := []string{"--unit=x", "--property=Type=notify", "--property=NotifyAccess=all", "--"}
			m.Run(t, "systemd-run", append(run, strings.Fields(what.command)...)...)
			frees(t, m.Scope, "systemctl stop x.service", everybody...)
			alice.Run(t, "systemd-run", append(append([]string{"--user"}, run...), strings.Fields(what.command)...)...)
			frees(t, m.Scope, asAlice+"systemctl --user stop x.service", everybody...)
		})
	}
	t.Run("foreign that serves more than the port", func(t *testing.T) {
		unit(t, m.Scope, "x.service", service(stranger+" 0.0.0.0:80", ""))
		m.Systemctl(t, "start", "x.service")
		// What frees the port is for its administrator to write: no command of ours stops what serves others.
		command, all := "systemctl status x.service", "systemctl stop x.service"
		for name, said := range told(m.Scope) {
			if !strings.Contains(said, "`"+command+"`") || !strings.Contains(said, "which serves 0.0.0.0:80 as well: take "+ipv4) || !strings.Contains(said, "`"+all+"`") {
				t.Errorf("%s does not say %s, and why:\n%s", name, command, said)
			}
		}
		m.Run(t, "/bin/sh", "-c", command)
		if len(inodes(t, m)) == 0 {
			t.Error("it has ended")
		}
		m.Run(t, "/bin/sh", "-c", all)
		detached(t, m, stranger+" 0.0.0.0:80")
		if said := told(m.Scope)["status"]; !strings.Contains(said, "ends it, and with it what it serves on 0.0.0.0:80") {
			t.Errorf("status does not say what ends with it:\n%s", said)
		}
		frees(t, m.Scope, "gateway reclaim --force "+ipv4, everybody...)
	})
	t.Run("foreign that a socket starts", func(t *testing.T) {
		unit(t, m.Scope, "x.service", service(stranger, ""))
		unit(t, m.Scope, "x.socket", "[Socket]\nListenStream=127.0.0.1:18789\n[Install]\nWantedBy=sockets.target\n")
		m.Systemctl(t, "enable", "--now", "x.socket")
		m.Systemctl(t, "start", "x.service")
		frees(t, m.Scope, "systemctl disable --now x.socket x.service", "doctor", "reclaim", "run")
		m.Systemctl(t, "start", "x.socket", "x.service")
		frees(t, m.Scope, "systemctl stop x.service x.socket", everybody...)
	})
	t.Run("foreign behind a shell", func(t *testing.T) {
		unit(t, m.Scope, "x.service", service("/bin/sh -c '"+stranger+" & wait'", ""))
		m.Systemctl(t, "start", "x.service")
		frees(t, m.Scope, "systemctl stop x.service", everybody...)
	})
	t.Run("foreign beside others", func(t *testing.T) {
		unit(t, m.Scope, "x.service", service("/bin/sh -c 'sleep infinity & setsid "+stranger+" & wait; wait'", ""))
		m.Systemctl(t, "start", "x.service")
		frees(t, m.Scope, "gateway reclaim --force "+ipv4, everybody...)
		if state := m.Unit(t, "x.service").ActiveState; state != "active" {
			t.Errorf("with the one that held the port its whole service was ended: it is %s", state)
		}
	})
	t.Run("foreign without a unit", func(t *testing.T) {
		for _, s := range []*machine.Scope{m.Scope, alice} {
			detached(t, m.As(alice), stranger)
			frees(t, s, "gateway reclaim --force "+ipv4, everybody...)
		}
	})
	t.Run("in a container", func(t *testing.T) {
		detached(t, m, "unshare --pid --fork --kill-child "+stranger)
		frees(t, m.Scope, "gateway reclaim --force "+ipv4, everybody...)
	})
	t.Run("somebody else asks", func(t *testing.T) {
		detached(t, m.As(alice), claw)
		command := "sudo gateway reclaim --dry-run " + ipv4
		for name, said := range told(bob) {
			if name != "status" && !strings.Contains(said, "`"+command+"`") {
				t.Errorf("%s does not say %s:\n%s", name, command, said)
			}
		}
		if output := bob.Run(t, "/bin/sh", "-c", command); !strings.Contains(output, fmt.Sprintf("would end orphan pid %d of user alice", onlyHolder(t, m, ipv4))) {
			t.Errorf("%s: %s", command, output)
		}
		m.Run(t, gatewayPath, "reclaim", ipv4)
	})
	t.Run("a socket unit", func(t *testing.T) {
		for _, s := range []*machine.Scope{m.Scope, alice} {
			unit(t, s, "x.service", "[Service]\nExecStart=/bin/true\n")
			unit(t, s, "x.socket", "[Socket]\nListenStream=127.0.0.1:18789\n")
			s.Systemctl(t, "start", "x.socket")
			command := "systemctl stop x.socket"
			if s == alice {
				command = asAlice + "systemctl --user stop x.socket"
			}
			frees(t, m.Scope, command, "doctor", "reclaim", "run")
		}
	})
	t.Run("a launcher of a unit", func(t *testing.T) {
		m.Run(t, gatewayPath, "install", "--system", "--run-as", "root", "--now")
		frees(t, m.Scope, "gateway stop --system", "run")
		m.Run(t, gatewayPath, "uninstall", "--system")
		alice.Run(t, gatewayPath, "install", "--user", "--now")
		frees(t, m.Scope, asAlice+"gateway stop --user", "run")
		alice.Run(t, gatewayPath, "start", "--user")
		frees(t, alice, "gateway stop --user") // she is told that her launcher runs before anything is bound
		alice.Run(t, gatewayPath, "uninstall", "--user")
	})
	t.Run("a launcher run by hand", func(t *testing.T) {
		detachedLauncher := "mkfifo /tmp/said && { setsid " + gatewayPath + " run --config " + config + " >/tmp/said 2>/dev/null </dev/null & read line </tmp/said; rm /tmp/said; }"
		alice.Run(t, "/bin/sh", "-c", detachedLauncher)
		pid := onlyHolder(t, m, ipv4)
		end := awaitEnd(t, m, pid)
		// It is one for her, and a stranger for everybody else.
		command := fmt.Sprintf("kill %d", pid)
		if _, err := alice.Output("env", "RUNTIME_DIRECTORY=/tmp/alice", gatewayPath, "run", "--config", config); !strings.Contains(errorText(err), "`"+command+"`") {
			t.Errorf("her own failed bind does not say %s: %v", command, err)
		}
		frees(t, m.Scope, "gateway reclaim --force "+ipv4, everybody...)
		end()
	})
}

func flagsOf(s *machine.Scope) []string {
	if s.User == "" {
		return nil
	}
	return []string{"--user"}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
