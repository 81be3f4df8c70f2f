package test

import (
	"fmt"
	"net/http"
	"path"
	"strings"
	"testing"

	"openclaw-gateway/test/machine"
)

// engine stands for what runs containers: it is called as docker, podman and the others are, and ends the process of the
// container that it is told, whose pid is in /run/containers.
const engine = `#!/bin/sh
case "$*" in *"ps --quiet --filter publish=18789"*) echo 0123456789ab; exit;; esac
for last; do :; done
kill "$(cat "/run/containers/$last")"
`

// TestMends runs the commands that are printed for what is seldom wrong, each where it is printed, and each mends it. The others
// are run in TestRemedy, TestDropIns, TestReclaim and those of the doctor.
func TestMends(t *testing.T) { inScopes(t, testMends) }

func testMends(t *testing.T, here place) {
	m := here.boot(t, machine.Options{Users: true})
	root, ctl, own := m.As(m.System()), systemctl(m.Scope), "--"+kind(m.Scope)
	prepare(t, m)
	install(t, m.Scope, m, "{}\n")
	start := func(t *testing.T) int {
		t.Helper()
		if code, _ := get(t, m, ipv4, "/healthz"); code != http.StatusOK {
			t.Fatalf("%s answered %d", ipv4, code)
		}
		serving(t, m.Scope, 1)
		return gatewayStatus(t, m.Scope).Launcher.PID
	}
	// says returns what stands between backquotes behind some words, and is a command.
	says := func(t *testing.T, text, words string) string {
		t.Helper()
		_, command, found := strings.Cut(text, words)
		_, command, opened := strings.Cut(command, "`")
		command, _, closed := strings.Cut(command, "`")
		if !found || !opened || !closed {
			t.Fatalf("no command behind %q in\n%s", words, text)
		}
		return command
	}
	asking := func(t *testing.T, arguments ...string) string {
		t.Helper()
		text, err := m.Output(gatewayPath, arguments...)
		return text + errorText(err)
	}
	start(t)

	t.Run("no environment", func(t *testing.T) {
		for _, arguments := range [][]string{{"doctor"}, {"status"}, {"reclaim"}} {
			if output, err := m.Output("env", append([]string{"-i", gatewayPath}, arguments...)...); err != nil || strings.Contains(output, "foreign") {
				t.Errorf("%s: %v\n%s", arguments, err, output)
			}
		}
		m.Run(t, "env", "-i", gatewayPath, "restart")
		silent(t, m.Scope)
	})
	t.Run("a stopped launcher", func(t *testing.T) {
		launcher := start(t)
		stopProcess(t, m, launcher)
		m.Run(t, "/bin/sh", "-c", says(t, asking(t, "status"), "its process was stopped by a signal"))
		if now := start(t); now != launcher {
			t.Errorf("the launcher is %d, was %d", now, launcher)
		}
		silent(t, m.Scope)
	})
	// iced keeps a process from running, and no signal but SIGKILL reaches it (cgroups(7), cgroup.freeze).
	iced := func(t *testing.T, pid int) {
		t.Helper()
		root.Run(t, "/bin/sh", "-euc", fmt.Sprintf("cd /sys/fs/cgroup && mkdir -p ice && echo 1 >ice/cgroup.freeze && echo %d >ice/cgroup.procs", pid))
		m.WaitFile(t, "/sys/fs/cgroup/ice/cgroup.events", bound, func(content string, _ error) bool { return strings.Contains(content, "frozen 1") })
	}
	t.Run("a launcher that hangs", func(t *testing.T) {
		launcher := start(t)
		worker := handleOf(t, process(t, m, gatewayStatus(t, m.Scope).Worker.PID))
		iced(t, launcher)
		m.Run(t, "/bin/sh", "-c", says(t, asking(t, "status"), "the launcher does not answer"))
		worker.awaitEnd(t) // until then it can answer a client, for whom nobody is started
		if now := start(t); now == launcher {
			t.Errorf("the launcher still is %d", now)
		}
		silent(t, m.Scope)
	})
	t.Run("one that is not running", func(t *testing.T) {
		m.Run(t, gatewayPath, "stop")
		_, command, _ := strings.Cut(asking(t, "restart"), `: "`)
		command, _, _ = strings.Cut(command, `" opens the port`)
		m.Run(t, "/bin/sh", "-c", command)
		start(t)
		silent(t, m.Scope)
	})
	t.Run("one that was started too often", func(t *testing.T) {
		drop(t, m, socket, "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=1\n")
		for range 2 {
			_, _ = m.Output("/bin/sh", "-c", ctl+" restart "+socket)
		}
		_, command, _ := strings.Cut(asking(t, "status"), `: "`)
		command, _, found := strings.Cut(command, `" opens the port`)
		if !found {
			t.Fatalf("the status is\n%s", asking(t, "status"))
		}
		m.Run(t, "/bin/sh", "-c", command)
		start(t)
		mended := finds(t, m.Scope, "unit-overridden")
		mend(t, m.Scope, mended, mended.Fix)
		root.Run(t, "rm", "-r", "/etc/systemd/"+kind(m.Scope)+"/"+socket+".d")
		m.Run(t, "rm", "-rf", unitPath(m.Scope, socket+".d"))
		m.Systemctl(t, "daemon-reload")
	})
	t.Run("a stop that took too long", func(t *testing.T) {
		// Longer than systemd waits, on any machine: the worker takes no signal.
		m.Systemctl(t, "stop", service)
		m.WriteFile(t, configPath(m.Scope), misbehaving("deaf.py"), 0o644)
		dropIn(t, m, "TimeoutStopSec=1s\nTimeoutAbortSec=1s\n")
		start(t)
		m.Systemctl(t, "stop", service)
		m.WriteFile(t, configPath(m.Scope), "{}\n", 0o644)
		root.Run(t, "rm", "-r", "/etc/systemd/"+kind(m.Scope)+"/"+service+".d")
		m.Systemctl(t, "daemon-reload")
		mend(t, m.Scope, finds(t, m.Scope, "service-failed"), ctl+" reset-failed openclaw-gateway.service && "+ctl+" start openclaw-gateway.service")
	})
	t.Run("no socket unit", func(t *testing.T) {
		m.Systemctl(t, "disable", "--now", socket)
		m.Run(t, "rm", unitPath(m.Scope, socket))
		m.Systemctl(t, "daemon-reload")
		f := expect(t, without(diagnose(t, m.Scope, gatewayPath), "service-failed"), "socket-not-enabled")
		mend(t, m.Scope, f, "gateway install "+own+" --now")
	})
	t.Run("a socket unit that systemd does not load", func(t *testing.T) {
		edit(t, m, unitPath(m.Scope, socket), "\n[Socket]\n", "\n[Socket]\nService=no.such\n")
		edit(t, m, unitPath(m.Scope, socket), "\nListenStream=", "\n#ListenStream=")
		m.Systemctl(t, "daemon-reload")
		m.Systemctl(t, "stop", socket)
		f := expect(t, without(without(diagnose(t, m.Scope, gatewayPath), "unit-changed-on-disk"), "socket-not-active"), "socket-failed")
		mend(t, m.Scope, f, "gateway install "+own+" --now")
	})
	t.Run("the unit file is gone", func(t *testing.T) {
		edit(t, m, unitPath(m.Scope, service), "ExecStart="+gatewayPath, "ExecStart=/opt/gone/gateway")
		edit(t, m, unitPath(m.Scope, service), "\nRestart=always", "\nRestart=no")
		m.Systemctl(t, "daemon-reload")
		_, _ = m.Output("/bin/sh", "-c", ctl+" restart "+service)
		m.Run(t, "rm", unitPath(m.Scope, service))
		m.Systemctl(t, "daemon-reload")
		f := finds(t, m.Scope, "service-missing")
		m.Run(t, "/bin/sh", "-c", f.Fix)
		start(t)
		silent(t, m.Scope)
	})
	t.Run("both masked", func(t *testing.T) {
		m.Run(t, gatewayPath, "uninstall", own)
		m.Systemctl(t, "mask", socket, service)
		more := ""
		if !here.user {
			more = " --run-as root"
		}
		mend(t, m.Scope, expect(t, without(diagnose(t, m.Scope, gatewayPath), "service-failed"), "socket-not-enabled"),
			ctl+" unmask "+socket+" "+service+" && gateway install "+own+" --now"+more)
		start(t)
	})
	t.Run("masked", func(t *testing.T) {
		m.Run(t, gatewayPath, "uninstall", own)
		m.Systemctl(t, "mask", service)
		command := says(t, asking(t, "install", own, "--run-as", "root")+asking(t, "install", own), service+" is masked")
		if want := ctl + " unmask " + service; command != want {
			t.Errorf("the command is %q, want %q", command, want)
		}
		m.Run(t, "/bin/sh", "-c", command)
		install(t, m.Scope, m, "{}\n")
		start(t)
		silent(t, m.Scope)
	})
	t.Run("one that was started by hand", func(t *testing.T) {
		m.Run(t, gatewayPath, "stop")
		m.Run(t, "/bin/sh", "-c", "mkfifo /tmp/said && { setsid "+gatewayPath+" run >/tmp/said 2>/dev/null </dev/null & read line </tmp/said; rm /tmp/said; }")
		f := expect(t, without(diagnose(t, m.Scope, gatewayPath), "socket-not-active"), "main-pid-not-launcher")
		launcher := gatewayStatus(t, m.Scope).Launcher.PID
		if want := fmt.Sprintf("kill %d", launcher); f.Fix != want {
			t.Errorf("the fix is %q, want %q", f.Fix, want)
		}
		m.Run(t, "/bin/sh", "-c", f.Fix+" && timeout 60 tail -f /dev/null --pid "+fmt.Sprint(launcher))
		mend(t, m.Scope, finds(t, m.Scope, "socket-not-active"), ctl+" start openclaw-gateway.socket")
	})
	t.Run("one that was started by hand hangs", func(t *testing.T) {
		m.Run(t, gatewayPath, "stop")
		m.Run(t, "/bin/sh", "-c", "mkfifo /tmp/said && { setsid "+gatewayPath+" run >/tmp/said 2>/dev/null </dev/null & read line </tmp/said; rm /tmp/said; }")
		launcher := gatewayStatus(t, m.Scope).Launcher.PID
		iced(t, launcher)
		f := expect(t, without(diagnose(t, m.Scope, gatewayPath), "socket-not-active"), "launcher-not-answering")
		if want := fmt.Sprintf("kill -KILL %d", launcher); f.Fix != want {
			t.Errorf("the fix is %q, want %q", f.Fix, want)
		}
		m.Run(t, "/bin/sh", "-c", f.Fix+" && timeout 60 tail -f /dev/null --pid "+fmt.Sprint(launcher))
		mend(t, m.Scope, finds(t, m.Scope, "socket-not-active"), ctl+" start openclaw-gateway.socket")
	})
	t.Run("that of another user", func(t *testing.T) {
		if !here.user {
			return
		}
		start(t)
		text, err := root.Output(gatewayPath, "status", "--system")
		if output := root.Run(t, "/bin/sh", "-c", says(t, text+errorText(err), "belongs to the launcher of user "+m.User)); !strings.HasPrefix(output, "ok") {
			t.Errorf("the status is\n%s", output)
		}
		// In a shell that is no login of hers.
		_, err = m.Output("env", "-u", "XDG_RUNTIME_DIR", "-u", "DBUS_SESSION_BUS_ADDRESS", gatewayPath, "install", "--user")
		_, command, _ := strings.Cut(errorText(err), `or run "`)
		command, _, _ = strings.Cut(command, `" first`)
		m.Run(t, "env", "-u", "XDG_RUNTIME_DIR", "/bin/sh", "-c", command+" && gateway install --user")
		silent(t, m.Scope)
	})
	t.Run("in a shell of root's", func(t *testing.T) {
		if !here.user {
			return // whose units are root's
		}
		m.Run(t, gatewayPath, "uninstall", "--user")
		for _, program := range []string{gatewayPath, "sh -c 'exec " + gatewayPath + " \"$@\"' sh"} {
			_, err := m.Output("/bin/sh", "-c", "sudo "+program+" install --user --now")
			command := says(t, errorText(err), "--user under sudo is about root's own units")
			if want := fmt.Sprintf("runuser --pty -u %s -- env XDG_RUNTIME_DIR=/run/user/%d gateway install --user --now", m.User, m.UID); command != want {
				t.Errorf("the command is %q, want %q", command, want)
			}
			root.Run(t, "/bin/sh", "-c", command)
			start(t)
			silent(t, m.Scope)
			_, err = m.Output("/bin/sh", "-c", "sudo "+program+" uninstall --user")
			root.Run(t, "/bin/sh", "-c", says(t, errorText(err), "--user under sudo is about root's own units"))
		}
		install(t, m.Scope, m, "{}\n")
	})
	t.Run("in a container of an engine", func(t *testing.T) {
		if here.user {
			return // engines are root's here
		}
		m.Run(t, gatewayPath, "uninstall", own)
		m.WriteFile(t, "/opt/taker.py", taker, 0o644)
		const id = "0123456789ab0123456789ab0123456789ab0123456789ab0123456789ab0123"
		alice := m.AddUser(t, "alice") // who has a rootless Docker
		hers := fmt.Sprintf("/user.slice/user-%d.slice/user@%[1]d.service/app.slice/docker", alice.UID)
		run := fmt.Sprintf("/run/user/%d", alice.UID)
		as, rootless := "runuser --pty -u alice -- env XDG_RUNTIME_DIR="+run+" ", "docker --host unix://"+run+"/docker.sock "
		for _, test := range []struct{ engine, cgroup, name, command string }{
			{"docker", "/system.slice/docker-" + id + ".scope", "0123456789ab", "docker stop 0123456789ab"},
			{"docker", "/system.slice/docker.service", "0123456789ab", "sh -c 'docker stop $(docker ps --quiet --filter publish=18789)'"},
			{"docker", hers + "-" + id + ".scope", "0123456789ab", as + rootless + "stop 0123456789ab"},
			{"docker", hers + ".service", "0123456789ab", as + "sh -c '" + rootless + "stop $(" + rootless + "ps --quiet --filter publish=18789)'"},
			{"podman", "/machine.slice/libpod-" + id + ".scope", "0123456789ab", "podman stop 0123456789ab"},
			{"lxc-stop", "/lxc.payload.web", "web", "lxc-stop --name web"},
			{"machinectl", `/machine.slice/machine-my\x2dweb.scope`, "my-web", "machinectl poweroff my-web"},
			{"virsh", `/machine.slice/machine-qemu\x2d3\x2dmy\x2dvm.scope`, "my-vm", "virsh shutdown my-vm"},
		} {
			m.WriteFile(t, "/opt/engines/"+test.engine, engine, 0o755)
			program := "/usr/bin/python3"
			if path.Base(test.cgroup) == "docker.service" {
				program = "/opt/engines/docker-proxy"
				if test.cgroup == hers+".service" {
					program = "/opt/engines/rootlesskit"
				}
				m.Run(t, "cp", "/usr/bin/python3", program)
			}
			if strings.HasPrefix(test.cgroup, hers) {
				program = "setpriv --reuid=alice --regid=alice --init-groups " + program
			}
			cgroup := "'/sys/fs/cgroup" + test.cgroup + "'"
			m.WriteFile(t, "/opt/contain", "#!/bin/sh\nmkdir -p "+cgroup+" /run/containers && echo $$ >"+cgroup+"/cgroup.procs && echo $$ >/run/containers/"+test.name+
				"\nexec "+program+" /opt/taker.py\n", 0o755)
			detached(t, m, "/opt/contain")
			f := finds(t, m.Scope, "port-held-by-foreign")
			if f.Fix != test.command {
				t.Errorf("in %s the fix is %q, want %q", test.cgroup, f.Fix, test.command)
			}
			ended := awaitEnd(t, m, onlyHolder(t, m, ipv4))
			m.Run(t, "/bin/sh", "-c", "PATH=/opt/engines:$PATH; "+f.Fix)
			ended()
			silent(t, m.Scope)
		}
	})
}
