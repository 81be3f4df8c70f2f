package bench

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"openclaw-gateway/test/machine"
)

const (
	// Where a machine shows what the benchmarks bring along.
	gatewayPath = "/usr/local/bin/gateway"
	nodePath    = "/usr/local/bin/node"
	selfPath    = "/usr/local/bin/bench"
	filesPath   = "/usr/local/lib/bench"
	pm2Path     = "/opt/pm2/node_modules/pm2/bin/pm2"

	workerPath = filesPath + "/worker.js"
	bindsPath  = filesPath + "/binds.py"

	launcherUnit   = "openclaw-gateway.service"
	launcherSocket = "openclaw-gateway.socket"
)

// system is a way to run the worker.
type system struct {
	name    string
	address string
	files   map[string]string // what it needs in the machine: content by path
	install []string          // a command that is run once, when the files are there
	units   []string          // started and stopped together
	manager string            // the unit whose main process stays while workers come and go; "" for systemd itself
	restart []string          // a command that brings the next worker
	status  []string          // a command that prints a launcher's status; nil for one that is not ours
	standby bool              // it has the next worker ready for a crash
	version []string          // a command that prints its version, and fails when it is not there
}

// unit renders a service. None of them has a limit on starts, which would make it lose on purpose.
func unit(requires string, lines ...string) string {
	return "[Unit]\nStartLimitIntervalSec=0\n" + requires + "\n[Service]\nKillMode=mixed\n" + strings.Join(lines, "\n") + "\n"
}

// underLauncher runs a command under a launcher of its own: the default instance, or one with a name.
func underLauncher(name, instance string, port int, command, environment []string, more string) system {
	address, instanceOf, flags := fmt.Sprintf("127.0.0.1:%d", port), "openclaw-gateway", []string(nil)
	if instance != "" {
		instanceOf, flags = instanceOf+"-"+instance, []string{"--name", instance}
	}
	return system{
		name: name, address: address,
		files: map[string]string{"/etc/" + instanceOf + "/config.yaml": fmt.Sprintf("listen: [%q]\nworker:\n  command: %s\n  environment: %s\n%s",
			address, list(command), list(append([]string{fmt.Sprintf("PORT=%d", port)}, environment...)), more)},
		install: append([]string{gatewayPath, "install", "--system", "--run-as", "root"}, flags...),
		units:   []string{instanceOf + ".socket", instanceOf + ".service"},
		manager: instanceOf + ".service",
		restart: append([]string{gatewayPath, "restart"}, flags...),
		status:  append([]string{gatewayPath, "status", "--json"}, flags...),
		version: []string{gatewayPath, "version"},
	}
}

// list writes words as a list in YAML.
func list(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = strconv.Quote(word)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

func bootsIn(ms int) []string { return []string{fmt.Sprintf("BOOT_MS=%d", ms)} }

// ours runs the worker under the launcher.
func ours(bootMS int) system {
	return underLauncher("gateway", "", 18789, []string{nodePath, workerPath}, bootsIn(bootMS), "")
}

// handing runs the worker under the launcher, whose next worker starts beside the old one.
func handing(bootMS int) system {
	return underLauncher("gateway, handover", "handover", 18831, []string{nodePath, workerPath}, bootsIn(bootMS), "restart: {mode: handover}\n")
}

// intercepting runs the worker under the launcher, as one that binds its address itself.
func intercepting(bootMS int) system {
	return underLauncher("gateway, by intercept", "intercept", 18829, []string{nodePath, workerPath}, bootsIn(bootMS), "  handoff: intercept\n")
}

// binding runs the program that binds under the launcher, and bindingAlone without it.
func binding(times int) system {
	return underLauncher("gateway, by intercept", "intercept", 18829, []string{"python3", bindsPath, strconv.Itoa(times)}, nil, "  handoff: intercept\n")
}

func bindingAlone(times int) system {
	const name = "bench-binds.service"
	return system{
		name: "the worker alone", address: "127.0.0.1:18830",
		files: map[string]string{"/etc/systemd/system/" + name: unit("", "Environment=PORT=18830",
			fmt.Sprintf("ExecStart=/usr/bin/env python3 %s %d", bindsPath, times))},
		units:   []string{name},
		version: []string{"python3", "--version"},
	}
}

// plainSocket is what systemd can do without the launcher.
func plainSocket(bootMS int) system {
	const address = "127.0.0.1:18790"
	return system{
		name: "systemd socket unit", address: address,
		files: map[string]string{
			"/etc/systemd/system/bench-plain.socket": "[Socket]\nListenStream=" + address + "\nBacklog=4096\nTriggerLimitIntervalSec=0\n",
			"/etc/systemd/system/bench-plain.service": unit("Requires=bench-plain.socket\nAfter=bench-plain.socket",
				fmt.Sprintf("Environment=BOOT_MS=%d", bootMS), "Restart=always", "ExecStart="+nodePath+" "+workerPath),
		},
		units:   []string{"bench-plain.socket", "bench-plain.service"},
		restart: []string{"systemctl", "restart", "bench-plain.service"},
		version: []string{"systemctl", "--version"},
	}
}

// serverStarter starts the new worker first, and ends the old one --interval seconds later.
func serverStarter(bootMS int) system {
	const (
		address = "127.0.0.1:18791"
		status  = "/run/bench-starter.status"
		files   = "--pid-file=/run/bench-starter.pid --status-file=" + status
	)
	return system{
		name: "Server::Starter", address: address,
		files: map[string]string{"/etc/systemd/system/bench-starter.service": unit("",
			fmt.Sprintf("Environment=BOOT_MS=%d", bootMS),
			"ExecStart=/usr/bin/start_server --port="+address+" --backlog=4096 "+files+" -- "+nodePath+" "+workerPath,
			// It can be restarted when the file is there, which it writes --interval seconds after the worker's start.
			"ExecStartPre=/bin/rm -f "+status,
			"ExecStartPost=/bin/sh -c 'until test -e "+status+"; do sleep 0.05; done'")},
		units:   []string{"bench-starter.service"},
		manager: "bench-starter.service",
		restart: append([]string{"start_server", "--restart"}, strings.Fields(files)...),
		version: []string{"start_server", "--version"},
	}
}

// supervisord holds the socket of a fcgi-program, and closes it while none of the program's processes is left.
func supervisord(bootMS int) system {
	const (
		address = "127.0.0.1:18792"
		conf    = "/etc/bench/supervisord.conf"
	)
	return system{
		name: "supervisord fcgi-program", address: address,
		files: map[string]string{
			conf: fmt.Sprintf(`[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
pidfile=/run/bench-supervisord.pid
[unix_http_server]
file=/run/bench-supervisord.sock
[supervisorctl]
serverurl=unix:///run/bench-supervisord.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[fcgi-program:worker]
command=%s %s
socket=tcp://%s
environment=SOCKET_FD="0",BOOT_MS="%d"
startsecs=0
`, nodePath, workerPath, address, bootMS),
			"/etc/systemd/system/bench-supervisord.service": unit("", "ExecStart=/usr/bin/supervisord --configuration="+conf),
		},
		units:   []string{"bench-supervisord.service"},
		manager: "bench-supervisord.service",
		restart: []string{"supervisorctl", "--configuration=" + conf, "restart", "worker:*"},
		version: []string{"supervisord", "--version"},
	}
}

// pm2 runs one worker in its cluster mode, as systemd unit in the form that "pm2 startup" writes.
func pm2(bootMS int) system {
	const home = "/var/lib/bench-pm2"
	environment := []string{"PM2_HOME=" + home, "PM2_DISABLE_VERSION_CHECK=true", "PORT=18793", fmt.Sprintf("BOOT_MS=%d", bootMS)}
	command := append(append([]string{"env"}, environment...), nodePath, pm2Path)
	return system{
		name: "PM2 cluster reload", address: "127.0.0.1:18793",
		files: map[string]string{"/etc/systemd/system/bench-pm2.service": unit("", "Type=forking",
			"Environment="+strings.Join(environment, " "), "PIDFile="+home+"/pm2.pid",
			"ExecStart="+nodePath+" "+pm2Path+" start "+workerPath+" --name worker --instances 1",
			"ExecStop="+nodePath+" "+pm2Path+" kill")},
		units:   []string{"bench-pm2.service"},
		manager: "bench-pm2.service",
		restart: append(command, "reload", "worker"),
		// Not "pm2 --version", which starts its daemon.
		version: []string{nodePath, "--print", "require('/opt/pm2/node_modules/pm2/package.json').version"},
	}
}

const backendUnit = "bench-backend.service"

// direct runs the worker as a service that binds its port itself.
func direct(bootMS int) system {
	return system{
		name: "the worker alone", address: "127.0.0.1:18795",
		files: map[string]string{"/etc/systemd/system/" + backendUnit: unit("", "Restart=always",
			fmt.Sprintf("Environment=PORT=18795 BOOT_MS=%d", bootMS), "ExecStart="+nodePath+" "+workerPath)},
		units:   []string{backendUnit},
		restart: []string{"systemctl", "restart", backendUnit},
		version: []string{nodePath, "--version"},
	}
}

// haproxy stands in front of the worker and tries again, every 100 ms for 10 s, while that is away.
func haproxy(bootMS int) system {
	const (
		address = "127.0.0.1:18794"
		conf    = "/etc/bench/haproxy.cfg"
	)
	backend := direct(bootMS)
	files := map[string]string{
		conf: `defaults
  mode http
  timeout connect 100ms
  timeout client 1m
  timeout server 1m
  timeout tunnel 1h
  retries 100
  retry-on conn-failure empty-response
frontend clients
  bind ` + address + `
  default_backend workers
backend workers
  server worker ` + backend.address + "\n",
		"/etc/systemd/system/bench-haproxy.service": unit("", "ExecStart=/usr/sbin/haproxy -db -f "+conf),
	}
	for file, content := range backend.files {
		files[file] = content
	}
	return system{
		name: "HAProxy before the worker", address: address, files: files,
		units:   []string{backendUnit, "bench-haproxy.service"},
		manager: "bench-haproxy.service",
		restart: backend.restart,
		version: []string{"haproxy", "-v"},
	}
}

// others are what people use instead.
func others(bootMS int) []system {
	return []system{plainSocket(bootMS), serverStarter(bootMS), supervisord(bootMS), pm2(bootMS), haproxy(bootMS)}
}

// all are the systems whose restarts are compared.
func all(bootMS int) []system {
	return append([]system{ours(bootMS), handing(bootMS)}, others(bootMS)...)
}

// installAll writes the systems' files and returns each one's version, or why it cannot be measured.
func installAll(t testing.TB, m *machine.Machine, systems []system) (versions map[string]string, broken map[string]error) {
	t.Helper()
	versions, broken = map[string]string{}, map[string]error{}
	for _, s := range systems {
		version, err := m.Output(s.version[0], s.version[1:]...)
		if err != nil {
			broken[s.name] = fmt.Errorf("it is not installed: %w", err)
			continue
		}
		versions[s.name] = firstVersion.FindString(version)
		for file, content := range s.files {
			m.WriteFile(t, file, content, 0o644)
		}
		if len(s.install) > 0 {
			if _, err := m.Output(s.install[0], s.install[1:]...); err != nil {
				broken[s.name] = err
			}
		}
	}
	m.Systemctl(t, "daemon-reload")
	return versions, broken
}

var firstVersion = regexp.MustCompile(`\d+(\.\d+)+[\w.+~-]*`)

// start starts a system and returns the worker's pid when that answers.
func (s system) start(ctx context.Context, m *machine.Machine) (int, error) {
	if _, err := m.Output("systemctl", append([]string{"start"}, s.units...)...); err != nil {
		return 0, err
	}
	return s.worker(ctx, m)
}

func (s system) stop(m *machine.Machine) error {
	_, err := m.Output("systemctl", append([]string{"stop"}, s.units...)...)
	return err
}

// managerProcess is the process that stays while workers come and go.
func (s system) managerProcess(t testing.TB, m *machine.Machine) (machine.Process, error) {
	pid := m.Unit(t, s.manager).MainPID
	for _, p := range m.Processes(t) {
		if pid != 0 && p.PID == pid {
			return p, nil
		}
	}
	return machine.Process{}, fmt.Errorf("%s has no main process", s.manager)
}

// label is the system's name with its version.
func (s system) label(versions map[string]string) string {
	if version := versions[s.name]; version != "" && s.status == nil {
		return s.name + ", " + version
	}
	return s.name
}
