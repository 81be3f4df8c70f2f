package test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"openclaw-gateway/test/machine"
)

// adoptable is a machine with the real OpenClaw where npm puts it, and who owns services on it.
func adoptable(t *testing.T, here place) (m *machine.Machine, alice *machine.Scope) {
	modules := filepath.Dir(filepath.Dir(filepath.Dir(required(t, "OPENCLAW_ENTRY"))))
	m = here.boot(t, machine.Options{Users: true, Binds: map[string]string{"/usr/local/lib/node_modules": modules}})
	alice = m.Scope
	if !here.user {
		alice = m.AddUser(t, "alice")
	}
	root := m.As(m.System())
	root.Run(t, "ln", "-s", "../lib/node_modules/openclaw/openclaw.mjs", "/usr/local/bin/openclaw")
	// In what looks like a container OpenClaw listens on 0.0.0.0. What this computer's root has of an OpenClaw is no part of it.
	root.Run(t, "rm", "-rf", "/.dockerenv", "/root/.openclaw")
	return m, alice
}

// dryRun is what adopt says that it would do, and its exit status.
func dryRun(t testing.TB, s *machine.Scope, arguments ...string) (output string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	said, err := s.Command(ctx, gatewayPath, append([]string{"adopt", "--dry-run"}, arguments...)...).CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		status = exit.ExitCode()
	} else if err != nil {
		t.Fatalf("adopt --dry-run: %v\n%s", err, said)
	}
	return string(said), status
}

// adoptCase is a unit that somebody could have, and what adopt has to say of it.
type adoptCase struct {
	name   string
	unit   string
	text   string
	more   map[string]string // other files
	asked  []string          // arguments
	before []string          // of systemctl
	after  []string          // of systemctl
	status int
	says   []string
	never  []string
}

// node and entry are where the machine has them.
const (
	machineNode  = nodePath
	machineEntry = "/usr/local/lib/node_modules/openclaw/dist/index.js"
)

func (c adoptCase) run(t *testing.T, m *machine.Machine, s *machine.Scope) {
	folder := filepath.Dir(unitPath(s, c.unit))
	m = m.As(s)
	m.WriteFile(t, filepath.Join(folder, c.unit), c.text, 0o644)
	remove := []string{filepath.Join(folder, c.unit)}
	for path, content := range c.more {
		mode := os.FileMode(0o644)
		if strings.HasPrefix(content, "#!") {
			mode = 0o755
		}
		if strings.HasPrefix(content, "#600") {
			mode = 0o600
		}
		path = strings.ReplaceAll(path, "$UNITS", folder)
		m.WriteFile(t, path, content, mode)
		remove = append(remove, path)
	}
	m.Systemctl(t, "daemon-reload")
	if len(c.before) > 0 {
		m.Systemctl(t, c.before...)
	}
	defer func() {
		if len(c.after) > 0 {
			m.Systemctl(t, c.after...)
		}
		s.Run(t, "rm", append([]string{"-f"}, remove...)...)
		m.Systemctl(t, "daemon-reload")
	}()
	said, status := dryRun(t, s, append([]string{c.unit}, c.asked...)...)
	t.Log(said)
	if status != c.status {
		t.Errorf("exit status %d, want %d", status, c.status)
	}
	flat := strings.Join(strings.Fields(said), " ")
	for _, words := range c.says {
		if !strings.Contains(flat, words) {
			t.Errorf("it does not say %q", words)
		}
	}
	for _, words := range c.never {
		if strings.Contains(flat, words) {
			t.Errorf("it says %q", words)
		}
	}
}

// TestAdoptPlan has the real systemd load what people have, and adopt say what it would do with it.
func TestAdoptPlan(t *testing.T) {
	t.Parallel()
	in(t, testAdoptPlan, place{name: "system"}, place{name: "system of Debian 13", root: debian13})
}

func testAdoptPlan(t *testing.T, here place) {
	m, _ := adoptable(t, here)
	system := m.Scope
	if said, status := dryRun(t, system); status != 1 || !strings.Contains(strings.Join(strings.Fields(said), " "), "no service was found that runs an OpenClaw gateway: `openclaw gateway install`") {
		t.Errorf("without any: exit status %d\n%s", status, said)
	}
	for _, c := range systemCases {
		t.Run(c.name, func(t *testing.T) { c.run(t, m, system) })
	}
	t.Run("by its file, which is a link", func(t *testing.T) {
		m.WriteFile(t, "/srv/units/claw.service", "[Service]\nUser=alice\nExecStart="+machineNode+" "+machineEntry+" gateway --port 9999\n[Install]\nWantedBy=multi-user.target\nAlias=bot.service\n", 0o644)
		m.Systemctl(t, "enable", "/srv/units/claw.service")
		defer m.Systemctl(t, "disable", "claw.service")
		for _, name := range []string{"/srv/units/claw.service", "bot"} {
			said, status := dryRun(t, system, name)
			for _, words := range []string{"claw.service of the system (enabled", "\n      /etc/systemd/system/claw.service\n", "\n      /etc/systemd/system/bot.service\n", "\n      /etc/systemd/system/multi-user.target.wants/claw.service\n", "Alias=bot.service"} {
				if status != 0 || !strings.Contains(said, words) || strings.Contains(said, "is masked") {
					t.Errorf("exit status %d, it does not say %q:\n%s", status, words, said)
				}
			}
		}
	})
	t.Run("an instance of a template that has never run", func(t *testing.T) {
		m.WriteFile(t, unitPath(system, "claw@.service"), "[Service]\nUser=alice\nExecStart="+machineNode+" "+machineEntry+" gateway --port 9999\n", 0o644)
		m.Run(t, "mkdir", unitPath(system, "claw@main.service.d"))
		m.Run(t, "ln", "-s", "/dev/null", unitPath(system, "claw@main.service.d/masked.conf"))
		m.Systemctl(t, "daemon-reload")
		defer func() {
			m.Run(t, "rm", "-r", unitPath(system, "claw@.service"), unitPath(system, "claw@main.service.d"))
			m.Systemctl(t, "daemon-reload")
		}()
		if said, status := dryRun(t, system, "claw@main"); status != 0 || !strings.Contains(said, "listen: 127.0.0.1:9999") {
			t.Errorf("exit status %d\n%s", status, said)
		}
	})
	t.Run("by what a script waits for", func(t *testing.T) { testAdoptWaiting(t, m) })
}

// testAdoptWaiting: what a script starts that does not show it, and waits for, is found by what runs, and what runs is compared with the unit.
func testAdoptWaiting(t *testing.T, m *machine.Machine) {
	const entry = "/opt/waits/node_modules/openclaw/dist/index.js"
	m.WriteFile(t, entry, "require('node:http').createServer((q, a) => a.end()).listen(process.env.OPENCLAW_GATEWAY_PORT, '127.0.0.1')\n", 0o644)
	m.WriteFile(t, filepath.Dir(filepath.Dir(entry))+"/package.json", `{"name": "openclaw", "version": "2026.9.6"}`, 0o644)
	m.WriteFile(t, "/opt/waits.sh", "#!/bin/sh\nwhat='gateway --allow-unconfigured'\n"+machineNode+" "+entry+" $what\necho ended\n", 0o755)
	unit := unitPath(m.Scope, "waits.service")
	m.WriteFile(t, unit, "[Service]\nUser=alice\nEnvironment=OPENCLAW_STATE_DIR=/home/alice/.waits OPENCLAW_GATEWAY_PORT=9008\nExecStart=/opt/waits.sh\n", 0o644)
	m.Systemctl(t, "daemon-reload")
	m.Systemctl(t, "start", "waits.service")
	defer m.Systemctl(t, "stop", "waits.service")
	m.Run(t, "curl", "-sf", "--retry", "1000", "--retry-delay", "1", "--retry-max-time", "240", "--retry-all-errors", "http://127.0.0.1:9008/")
	for _, step := range []struct {
		edit   string
		status int
		says   []string
	}{
		{"", 0, []string{"listen: 127.0.0.1:9008", machineNode + " " + entry + " gateway --allow-unconfigured --port 9008 --bind loopback", "what waits.sh has started and runs now"}},
		{"s/9008/9009/", 1, []string{"waits.service of the system listens on 127.0.0.1:9008, and going by its unit and its configuration that would be 127.0.0.1:9009 and [::1]:9009", "Add --port 9008 to its ExecStart="}},
		{"s/9009/9008/; s/[.]waits /.other /", 1, []string{"the one that runs has its state in /home/alice/.waits", "OPENCLAW_STATE_DIR=/home/alice/.waits"}},
	} {
		m.Run(t, "sed", "-i", step.edit, unit)
		m.Systemctl(t, "daemon-reload")
		said, status := dryRun(t, m.Scope, "waits")
		for _, words := range step.says {
			if flat := strings.Join(strings.Fields(said), " "); status != step.status || !strings.Contains(flat, words) {
				t.Errorf("edited by %q: exit status %d, want %d; it does not say %q:\n%s", step.edit, status, step.status, words, said)
			}
		}
	}
}

var systemCases = []adoptCase{
	{
		name: "a socket unit of somebody else's that has the name of ours", unit: "openclaw-gateway.service",
		text: "[Service]\nUser=alice\nExecStart=" + machineNode + " " + machineEntry + " gateway\n",
		more: map[string]string{"$UNITS/openclaw-gateway.socket": "[Socket]\nListenStream=127.0.0.1:19999\n"}, status: 1,
		says: []string{"openclaw-gateway.socket is there already", "`systemctl disable --now openclaw-gateway.socket`"},
	},
	{
		name: "words of its user's that begin lines", unit: "claw.service",
		text: "[Service]\nUser=alice\nExecStart=" + machineNode + " " + machineEntry + " gateway\n",
		more: map[string]string{"/home/alice/.openclaw/openclaw.json": `{"$include": "./x\n\nAs root run:\n"}`}, status: 1,
		says: []string{"is not there: /home/alice/.openclaw/x; ; As root run:"},
	},
	{
		name: "variables of several lines, and some that are taken out", unit: "openclaw-gateway.service",
		text: `[Service]
User=alice
Environment="PEM=-----BEGIN KEY-----\nAbCdEf==\n-----END KEY-----" GONE=1 
UnsetEnvironment=GONE
ExecStart=` + machineNode + ` ` + machineEntry + ` gateway
`,
		more:  map[string]string{"/etc/systemd/system.control/openclaw-gateway.service.d/50-MemoryMax.conf": "[Service]\nMemoryMax=1G\n"},
		says:  []string{"(only its user can read it) PEM Stays", "50-MemoryMax.conf stays where it is"},
		never: []string{"AbCdEf", "MemoryMax=1G"},
	},
	{
		name: "an administrator's", unit: "claw.service",
		text: `[Unit]
Description=my bot
After=network-online.target postgresql.service
Wants=network-online.target
StartLimitBurst=3
OnFailure=mail@%n.service

[Service]
Type=simple
User=alice
WorkingDirectory=/home/alice
EnvironmentFile=/etc/claw.env
Environment=NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt "GREETING=hello world"
ExecStartPre=-/usr/bin/fuser -k 9999/tcp
ExecStartPre=/bin/mkdir -p /tmp/claw-%n
ExecStart=` + machineNode + ` --max-old-space-size=2048 ` + machineEntry + ` gateway --port 9999 --token ${CLAW_TOKEN}
Restart=always
RestartSec=5
TimeoutStopSec=60
KillMode=process
LimitNOFILE=4096
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
IPAddressDeny=any
IPAddressAllow=localhost

[Install]
WantedBy=multi-user.target
`,
		more: map[string]string{
			"/etc/claw.env":                       "#600\nCLAW_TOKEN=very-secret-value\nOPENCLAW_NO_RESPAWN=1\n",
			"$UNITS/claw.service.d/limits.conf":   "[Service]\nMemoryMax=1G\nCPUQuota=150%\n",
			"$UNITS/claw.service.d/override.conf": "[Service]\nEnvironment=HTTPS_PROXY=http://u:p@proxy.example:3128\n",
		},
		says: []string{
			"claw.service of the system", "becomes the instance default", "as user alice", "127.0.0.1:9999 and [::1]:9999", "--max-old-space-size=2048",
			"--port 9999 --bind loopback", "/etc/openclaw-gateway/environment", "NODE_EXTRA_CA_CERTS, GREETING, HTTPS_PROXY", "EnvironmentFile=/etc/claw.env", "only root can read it",
			"MemoryMax=1G", "CPUQuota=150%", "LimitNOFILE=4096", "KillMode=process", "ProtectControlGroups=yes", "Restart=always", "StartLimitBurst=3", "OPENCLAW_NO_RESPAWN",
			"RestrictAddressFamilies=AF_UNIX AF_NETLINK", "IPAddressDeny=any", "mkdir", "fuser", "stop.timeout: 57s", "nothing is changed", "OnFailure",
		},
		never: []string{"very-secret-value", "u:p@", "hello world"},
	},
	{
		name: "as root", unit: "openclaw.service",
		text:   "[Service]\nExecStart=/usr/local/bin/openclaw gateway\n[Install]\nWantedBy=multi-user.target\n",
		status: 1,
		says:   []string{"root has no OpenClaw state that could be copied for user openclaw", "/root/.openclaw is not there", "`gateway adopt openclaw.service --system --run-as root` leaves it root's"},
	},
	{
		name: "as root, with a Node.js of root's", unit: "openclaw.service",
		text:   "[Service]\nExecStart=/root/node " + machineEntry + " gateway\n[Install]\nWantedBy=multi-user.target\n",
		more:   map[string]string{"/root/node": "#!/bin/sh\n"},
		status: 1,
		says:   []string{"its Node.js is not found", "as user openclaw; `gateway adopt openclaw.service --system --run-as root` leaves it root's"},
	},
	{
		name: "as root, and to stay so", unit: "openclaw.service", asked: []string{"--run-as", "root"},
		text: "[Service]\nExecStart=/usr/local/bin/openclaw gateway\n[Install]\nWantedBy=multi-user.target\n",
		says: []string{"as user root", machineNode + " " + machineEntry + " gateway --port 18789 --bind loopback", "openclaw.mjs may start itself a second time", "worker.directory: /", "ready.path: /startupz"},
	},
	{
		name: "a wrapper", unit: "mybot.service",
		text: "[Service]\nUser=alice\nExecStart=/opt/bot/start.sh --verbose\n",
		more: map[string]string{"/opt/bot/start.sh": "#!/bin/bash\nset -eu\nPORT=9000\nAPP=" + machineEntry + "\nexport NODE_OPTIONS=--max-old-space-size=900\nexec " + machineNode + " \"$APP\" gateway run \\\n  --port \"$PORT\" \"$@\"\n"},
		says: []string{"/opt/bot/start.sh --verbose --port 9000 --bind loopback", "127.0.0.1:9000"},
	},
	{
		name: "a wrapper that passes nothing on", unit: "mybot.service",
		text: "[Service]\nUser=alice\nExecStart=/bin/bash /opt/bot/start.sh\n",
		more: map[string]string{"/opt/bot/start.sh": "PORT=${PORT:-9000}\nexec " + machineNode + " " + machineEntry + " gateway run --port \"$PORT\" --bind lan\n"},
		says: []string{"worker.command: /bin/bash /opt/bot/start.sh as its unit", "0.0.0.0:9000"},
	},
	{
		name: "the openclaw command in a wrapper", unit: "mybot.service",
		text: "[Service]\nUser=alice\nEnvironment=NODE_COMPILE_CACHE=/tmp/c\nExecStart=/bin/bash -c 'exec openclaw gateway --port 9001'\n",
		says: []string{"worker.cache: off", "NODE_COMPILE_CACHE with it the openclaw command starts itself a second time", "bash -c \"exec openclaw gateway --port 9001\"", "127.0.0.1:9001"},
	},
	{
		name: "nice", unit: "mybot.service",
		text: "[Service]\nUser=alice\nExecStart=/usr/bin/nice -n 3 openclaw gateway --port 9001 --force\n",
		says: []string{"/usr/bin/nice -n 3 /usr/local/bin/node " + machineEntry + " gateway --port 9001 --bind loopback"},
	},
	{
		name: "another entry", unit: "mybot.service",
		text: "[Service]\nUser=alice\nExecStart=/usr/local/bin/node /usr/local/lib/node_modules/openclaw/dist/entry.js gateway\n",
		says: []string{"/usr/local/bin/node " + machineEntry + " gateway", "entry.js may start itself"},
	},
	{
		name: "force in a wrapper", unit: "mybot.service", status: 1,
		text: "[Service]\nUser=alice\nExecStart=/bin/bash -c 'exec openclaw gateway --force'\n", says: []string{"kills whoever holds the port"},
	},
	{
		name: "PM2", unit: "mybot.service", status: 1,
		text: "[Service]\nUser=alice\nExecStart=/usr/bin/pm2 start openclaw -- gateway\n", says: []string{"goes through pm2"},
	},
	{
		name: "npx in a wrapper", unit: "mybot.service", status: 1,
		text: "[Service]\nUser=alice\nExecStart=/bin/bash /opt/bot/start.sh\n",
		more: map[string]string{"/opt/bot/start.sh": "exec npx openclaw gateway run\n"},
		says: []string{"cannot be adopted", "npx"},
	},
	{
		name: "env, quotes and specifiers", unit: "moltbot-gateway.service",
		text: `[Service]
User=alice
Environment="OPENCLAW_GATEWAY_PORT=7001" 'A=b c'
ExecStart=-/usr/bin/env TZ=UTC "` + machineNode + `" '` + machineEntry + `' gateway --verbose --name "a %% b"
`,
		says: []string{"127.0.0.1:7001", "TZ", `"a % b"`, "env(1) is not needed", "the - before its command", "default"},
	},
	{
		name: "sudo", unit: "oc.service", status: 1,
		text: "[Service]\nExecStart=/usr/bin/sudo -u alice openclaw gateway\n",
		says: []string{"oc.service of the system cannot be adopted: it becomes user alice itself, by sudo: give its unit User=alice, and take sudo out (`systemctl edit --full oc.service`)"}, never: []string{"--run-as"},
	},
	{
		name: "runuser", unit: "oc.service", status: 1, asked: []string{"--run-as", "root"},
		text: "[Service]\nExecStart=/usr/sbin/runuser -u alice -- " + machineNode + " " + machineEntry + " gateway\n",
		says: []string{"it becomes user alice itself, by runuser: give its unit User=alice"},
	},
	{
		name: "setpriv by a variable", unit: "oc.service", status: 1,
		text: "[Service]\nEnvironment=\"AS=setpriv --reuid=alice --regid=alice --init-groups\"\nExecStart=/usr/bin/env $AS " + machineNode + " " + machineEntry + " gateway\n",
		says: []string{"it becomes user alice itself, by setpriv"}, never: []string{"--run-as"},
	},
	{
		name: "a wrapper that becomes another user", unit: "oc.service", status: 1,
		text: "[Service]\nExecStart=/root/start.sh\n", more: map[string]string{"/root/start.sh": "#!/bin/sh\nexec gosu alice " + machineNode + " " + machineEntry + " gateway\n"},
		says: []string{"it becomes user alice itself, by gosu: give its unit User=alice"}, never: []string{"--run-as"},
	},
	{
		name: "to the background, as another user", unit: "oc.service", status: 1,
		text: "[Service]\nType=forking\nExecStart=/sbin/start-stop-daemon --start --background --chuid alice --exec " + machineNode + " -- " + machineEntry + " gateway\n",
		says: []string{"it becomes user alice itself, by start-stop-daemon"}, never: []string{"--run-as"},
	},
	{
		name: "a user's that becomes another one", unit: "oc.service", status: 1,
		text: "[Service]\nUser=alice\nExecStart=/usr/bin/doas -u root " + machineNode + " " + machineEntry + " gateway\n",
		says: []string{"it becomes user root itself, by doas: take doas out of what it starts"}, never: []string{"--run-as", "User="},
	},
	{
		name: "setpriv that changes no user", unit: "oc.service",
		text: "[Service]\nUser=alice\nExecStart=/usr/bin/setpriv --no-new-privs " + machineNode + " " + machineEntry + " gateway --name su\n",
		says: []string{"/usr/bin/setpriv --no-new-privs " + machineNode + " " + machineEntry + " gateway --name su"},
	},
	{
		name: "a container", unit: "oc.service", status: 1,
		text: "[Service]\nUser=alice\nExecStart=/usr/bin/docker run --rm openclaw openclaw gateway\n",
		says: []string{"container"},
	},
	{
		name: "a container, as root", unit: "oc.service", status: 1,
		text: "[Service]\nExecStart=/usr/bin/docker run --rm openclaw gosu node openclaw gateway\n", says: []string{"container"}, never: []string{"--run-as"},
	},
	{
		name: "companions", unit: "oc.service",
		text: "[Service]\nUser=alice\nExecStart=" + machineNode + " " + machineEntry + " gateway\n",
		more: map[string]string{
			"$UNITS/beside.service": "[Unit]\nPartOf=oc.service\n[Service]\nExecStart=/bin/sleep 1000\n",
			"$UNITS/below.service":  "[Unit]\nBindsTo=oc.service\n[Service]\nExecStart=/bin/sleep 1000\n",
		},
		before: []string{"start", "--no-block", "beside.service", "below.service"}, after: []string{"stop", "beside.service", "below.service", "oc.service"},
		says: []string{"beside.service stops with it (PartOf=)", "below.service stops with it (BindsTo=)", "it does not know ours: name openclaw-gateway.service"},
	},
	{
		name: "several commands", unit: "oc.service",
		text: "[Service]\nType=oneshot\nRemainAfterExit=yes\nUser=alice\nExecStart=/bin/true\nExecStart=" + machineNode + " " + machineEntry + " gateway\nExecStart=/bin/echo ended\n",
		says: []string{"ExecStart=/bin/true", "ExecStart=/bin/echo ended", "Type=oneshot"},
	},
	{
		name: "a file that is missing", unit: "oc.service", status: 1,
		text: "[Service]\nUser=alice\nEnvironmentFile=/etc/not-there.env\nExecStart=" + machineNode + " " + machineEntry + " gateway\n",
		says: []string{"EnvironmentFile=/etc/not-there.env", "cannot be read", "systemctl edit --full oc.service"},
	},
	{
		name: "a Node.js that is too old", unit: "oc.service", status: 1,
		text: "[Service]\nUser=alice\nExecStart=/opt/v20.1.0/bin/node " + machineEntry + " gateway\n",
		more: map[string]string{"/opt/v20.1.0/bin/node": "#!/bin/sh\n"},
		says: []string{"Node.js 20.1.0", ">=24.16.0"},
	},
	{
		name: "no such user", unit: "oc.service", status: 1,
		text: "[Service]\nUser=bob\nExecStart=" + machineNode + " " + machineEntry + " gateway\n",
		says: []string{"bob", "not there"},
	},
	{
		name: "an entry that is not there", unit: "oc.service", status: 1,
		text: "[Service]\nUser=alice\nExecStart=" + machineNode + " /opt/openclaw/dist/index.js gateway\n",
		says: []string{"OpenClaw's program cannot be opened"},
	},
	{
		name: "a profile", unit: "openclaw-gateway-work.service",
		text:  "[Service]\nUser=alice\nEnvironment=OPENCLAW_PROFILE=work OPENCLAW_STATE_DIR=/home/alice/.openclaw-work\nExecStart=" + machineNode + " " + machineEntry + " gateway --port 19002\n",
		says:  []string{"becomes the instance work", "/etc/openclaw-gateway-work/config.yaml", "openclaw-gateway-work.socket", "/home/alice/.openclaw-work/.env"},
		never: []string{"OPENCLAW_SYSTEMD_UNIT"},
	},
	{
		name: "a second one that is no profile", unit: "claw2.service", asked: []string{"--name", "lab"},
		text: "[Service]\nUser=alice\nEnvironment=OPENCLAW_STATE_DIR=/home/alice/lab OPENCLAW_SYSTEMD_UNIT=claw2.service\nExecStart=" + machineNode + " " + machineEntry + " gateway --port 19002\nExecStartPost=/bin/sh -c \"logger 'up; again'\"\n",
		says: []string{"becomes the instance lab", "OPENCLAW_SYSTEMD_UNIT=openclaw-gateway-lab.service", "it names the old unit", `ExecStartPost=/bin/sh -c "logger 'up; again'"`},
	},
	{
		name: "drop-ins that hold for ours as well", unit: "openclaw-gateway-work.service",
		text: "[Service]\nUser=alice\nExecStart=" + machineNode + " " + machineEntry + " --profile work gateway --port 19002\n",
		more: map[string]string{
			"$UNITS/openclaw-gateway-.service.d/all.conf": "[Service]\nMemoryMax=2G\n", "$UNITS/openclaw-.service.d/all.conf": "[Service]\nCPUWeight=50\n",
			"$UNITS/openclaw-gateway-work.service.d/own.conf": "[Service]\nTasksMax=99\n",
		},
		says: []string{"becomes the instance work", "TasksMax=99"}, never: []string{"MemoryMax=2G", "CPUWeight=50"},
	},
	{
		name: "drop-ins that do not", unit: "claw-bot.service",
		text: "[Service]\nUser=alice\nExecStart=" + machineNode + " " + machineEntry + " gateway --port 19002\n",
		more: map[string]string{"$UNITS/claw-.service.d/all.conf": "[Service]\nMemoryMax=2G\n"},
		says: []string{"becomes the instance default", "MemoryMax=2G"},
	},
	{
		name: "a search path", unit: "claw.service",
		text: "[Service]\nUser=alice\nExecSearchPath=/opt/n24:/usr/bin\nExecStart=node24 " + machineEntry + " gateway --port 19002\n",
		more: map[string]string{"/opt/n24/node24": "#!/bin/sh\n"},
		says: []string{"/opt/n24/node24 " + machineEntry + " gateway --port 19002", "ExecSearchPath=/opt/n24:/usr/bin"},
	},
	{
		name: "files with blanks and patterns", unit: "claw.service",
		text: "[Service]\nUser=alice\nEnvironmentFile=-/etc/my bot 100%%/*.env\nEnvironmentFile=-/etc/none/*.env\nExecStart=\"" + machineNode + "\" \"/opt/my bot/dist/index.js\" gateway --port 19002 --token \"${TOKEN}\" \\\n  # a comment\n  --verbose\n",
		more: map[string]string{
			"/etc/my bot 100%/a.env": "#600\nTOKEN=very-secret-value\n", "/opt/my bot/package.json": `{"name": "openclaw", "version": "2026.9.6"}`, "/opt/my bot/dist/index.js": "",
		},
		says:  []string{`"/opt/my bot/dist/index.js" gateway`, "--verbose --port 19002", "EnvironmentFile=-/etc/my bot 100%/*.env", "only root can read it", "its command has variables in it (TOKEN)"},
		never: []string{"very-secret-value"},
	},
	{
		name: "a profile whose name no instance can have", unit: "openclaw-gateway-My_Bot.service",
		text: "[Service]\nUser=alice\nEnvironment=OPENCLAW_PROFILE=My_Bot\nExecStart=" + machineNode + " " + machineEntry + " gateway --port 19002\n",
		says: []string{"becomes the instance my-bot", "OPENCLAW_SYSTEMD_UNIT=openclaw-gateway-my-bot.service"},
	},
	{
		name: "bind and port of openclaw.json", unit: "oc.service",
		text: "[Service]\nUser=alice\nEnvironment=OPENCLAW_CONFIG_PATH=/home/alice/oc.json\nExecStart=" + machineNode + " " + machineEntry + " gateway\n",
		more: map[string]string{"/home/alice/oc.json": "// mine\n{ gateway: { port: 7100, bind: 'lan', tls: { enabled: true, }, }, }\n"},
		says: []string{"0.0.0.0:7100", "gateway.bind of /home/alice/oc.json is lan", "--port 7100 --bind lan", "https://127.0.0.1:7100/startupz"},
	},
	{
		name: "root's port by a user's word", unit: "oc.service", status: 1,
		text: "[Service]\nUser=alice\nEnvironment=OPENCLAW_CONFIG_PATH=/home/alice/oc.json\nExecStart=" + machineNode + " " + machineEntry + " gateway\n",
		more: map[string]string{"/home/alice/oc.json": "{ gateway: { port: 443 } }\n"},
		says: []string{"one that only root may open", "user alice asks for it"},
	},
	{
		name: "root's port by the unit", unit: "oc.service",
		text: "[Service]\nUser=alice\nExecStart=" + machineNode + " " + machineEntry + " gateway --port 443\n", says: []string{"127.0.0.1:443"},
	},
	{
		name: "a tailnet without Tailscale", unit: "oc.service", status: 1,
		text: "[Service]\nUser=alice\nExecStart=" + machineNode + " " + machineEntry + " gateway --bind tailnet\n",
		says: []string{"tailscale up"},
	},
	{
		name: "a broken openclaw.json", unit: "oc.service", status: 1,
		text: "[Service]\nUser=alice\nEnvironment=OPENCLAW_CONFIG_PATH=/home/alice/oc.json\nExecStart=" + machineNode + " " + machineEntry + " gateway\n",
		more: map[string]string{"/home/alice/oc.json": "{ gateway: "},
		says: []string{"/home/alice/oc.json"},
	},
	{
		name: "DynamicUser", unit: "oc.service", status: 1,
		text: "[Service]\nDynamicUser=yes\nExecStart=" + machineNode + " " + machineEntry + " gateway\n",
		says: []string{"DynamicUser=yes"},
	},
	{
		name: "as root in spite of User=", unit: "oc.service", status: 1,
		text: "[Service]\nUser=alice\nExecStart=+" + machineNode + " " + machineEntry + " gateway\n",
		says: []string{"begins with + or !"},
	},
	{
		name: "no gateway", unit: "oc.service", status: 1,
		text: "[Service]\nUser=alice\nExecStart=" + machineNode + " " + machineEntry + " gateway status\n",
		says: []string{"no service that runs an OpenClaw gateway"},
	},
}

// TestAdoptFinds has adopt find the services of both scopes, stock ones of the real OpenClaw among them, and say who can do it, and
// how, where that is not the caller.
func TestAdoptFinds(t *testing.T) { onBoth(t, testAdoptFinds) }

func testAdoptFinds(t *testing.T, here place) {
	m, alice := adoptable(t, here)
	root := m.System()
	as := func(t *testing.T, s *machine.Scope, arguments []string, status int, says ...string) string {
		t.Helper()
		said, got := dryRun(t, s, arguments...)
		t.Log(said)
		if got != status {
			t.Errorf("exit status %d, want %d", got, status)
		}
		flat := strings.Join(strings.Fields(said), " ")
		for _, words := range says {
			if !strings.Contains(flat, words) {
				t.Errorf("it does not say %q", words)
			}
		}
		return said
	}
	// pasted is the first command between backquotes, as its reader types it.
	pasted := func(t *testing.T, s *machine.Scope, said, more string) (string, error) {
		t.Helper()
		_, command, _ := strings.Cut(said, "`")
		command, _, found := strings.Cut(command, "`")
		if !found {
			t.Fatalf("no command in\n%s", said)
		}
		return s.Output("bash", "-euc", command+more)
	}
	alice.Run(t, "openclaw", "gateway", "install")
	awaitAnswer(t, m)

	t.Run("the stock unit", func(t *testing.T) {
		said := as(
			t, alice, nil, 0, "openclaw-gateway.service of user alice (enabled, active) becomes the instance default of the launcher.", "stopped and set aside",
			"/home/alice/.config/systemd/user/default.target.wants/openclaw-gateway.service /home/alice/.config/systemd/user/openclaw-gateway.service",
			"127.0.0.1:18789 and [::1]:18789", "at boot it is started", "stop.timeout: 5m27s", "/home/alice/.config/openclaw-gateway/environment", "OPENCLAW_SERVICE_MARKER",
		)
		for _, never := range []string{"held by", "enable-linger"} {
			if strings.Contains(said, never) {
				t.Errorf("it says %q", never)
			}
		}
	})
	t.Run("a masked one", func(t *testing.T) {
		root.Run(t, "systemctl", "mask", "masked-claw.service")
		said := as(t, root, []string{"masked-claw.service"}, 1, "masked-claw.service of the system is masked")
		if output, err := pasted(t, root, said, ""); err != nil {
			t.Errorf("pasted: %v\n%s", err, output)
		}
		as(t, root, []string{"masked-claw.service"}, 1, "is no service that runs an OpenClaw gateway")
	})
	t.Run("without lingering", func(t *testing.T) {
		root.Run(t, "rm", "/var/lib/systemd/linger/alice")
		defer root.Run(t, "touch", "/var/lib/systemd/linger/alice")
		as(t, alice, nil, 0, "loginctl enable-linger")
	})
	t.Run("another user's", func(t *testing.T) {
		said := as(t, root, nil, 1, "openclaw-gateway.service of user alice is that user's own")
		if output, err := pasted(t, root, said, " --dry-run"); err != nil || !strings.Contains(output, "becomes the instance default") {
			t.Errorf("pasted: %v\n%s", err, output)
		}
	})
	t.Run("a profile", func(t *testing.T) {
		alice.Run(t, "openclaw", "--profile", "work", "gateway", "install", "--port", "19555")
		said, status := dryRun(t, alice, "openclaw-gateway-work.service")
		t.Log(said)
		flat := strings.Join(strings.Fields(said), " ")
		for _, words := range []string{"becomes the instance work", "127.0.0.1:19555", "/home/alice/.config/openclaw-gateway-work/config.yaml", "/home/alice/.openclaw-work/.env"} {
			if status != 0 || !strings.Contains(flat, words) {
				t.Errorf("exit status %d, it does not say %q", status, words)
			}
		}
		as(t, alice, nil, 64, "gateway adopt openclaw-gateway-work.service --user", "gateway adopt openclaw-gateway.service --user", "there are 2 OpenClaw services: say which one")
		output := alice.Run(t, "sh", "-c", `printf '1\n' | script -qec "`+gatewayPath+` adopt --dry-run" /dev/null`)
		if !strings.Contains(output, "Which one?") || !strings.Contains(output, "becomes the instance work") {
			t.Errorf("on a terminal, number 1:\n%s", output)
		}
		as(t, alice, []string{"openclaw-gateway", "--name", "work"}, 64, "the instance work would have the name of openclaw-gateway-work.service of user alice")
	})
	t.Run("nobody to agree", func(t *testing.T) {
		output, err := alice.Output(gatewayPath, "adopt", "openclaw-gateway")
		if err == nil || !strings.Contains(errorText(err), "--yes") || !strings.Contains(output, "becomes the instance") {
			t.Errorf("%v\n%s", err, output)
		}
	})
	m.As(root).WriteFile(t, "/etc/systemd/system/bot.service", "[Service]\nUser=alice\nExecStart="+machineNode+" "+machineEntry+" gateway --port 9999\n[Install]\nWantedBy=multi-user.target\n", 0o644)
	root.Systemctl(t, "daemon-reload")
	t.Run("root's, for a user", func(t *testing.T) {
		as(t, alice, []string{"bot"}, 1, "bot.service of the system is root's to change: run `sudo gateway adopt bot.service --system`")
	})
	t.Run("another scope's on the same port", func(t *testing.T) {
		root.Run(t, "sed", "-i", "s/9999/18789/", "/etc/systemd/system/bot.service")
		root.Systemctl(t, "daemon-reload")
		root.Systemctl(t, "enable", "bot.service")
		said := as(t, alice, []string{"openclaw-gateway"}, 1, "bot.service of the system wants port 18789 as well", "sudo systemctl disable --now bot.service")
		if output, err := pasted(t, root, strings.ReplaceAll(said, "sudo ", ""), ""); err != nil {
			t.Errorf("pasted: %v\n%s", err, output)
		}
		as(t, alice, []string{"openclaw-gateway"}, 0, "becomes the instance default")
		// A user's word counts for less with root: the port itself is looked at.
		as(t, root, []string{"bot"}, 1, "port 18789 is held by pid", "openclaw-gateway.service")
	})
	t.Run("files that systemd has not read", func(t *testing.T) {
		alice.Run(t, "sed", "-i", "s/TimeoutStopSec=330/TimeoutStopSec=300/", unitPath(alice, service))
		said := as(t, alice, []string{"openclaw-gateway"}, 1, "have changed since systemd has read them")
		if output, err := pasted(t, alice, said, ""); err != nil {
			t.Errorf("pasted: %v\n%s", err, output)
		}
		as(t, alice, []string{"openclaw-gateway"}, 0, "stop.timeout: 4m57s")
	})
	alice.Systemctl(t, "disable", "--now", "openclaw-gateway.service", "openclaw-gateway-work.service")
	root.Run(t, "sed", "-i", "s/18789/9000/", "/etc/systemd/system/bot.service")
	root.Systemctl(t, "daemon-reload")
	t.Run("somebody else on the port", func(t *testing.T) {
		root.Run(t, "systemd-run", "--unit=squatter", "--service-type=notify", "python3", workersPath+"/squat.py", "127.0.0.1:9000")
		said := as(t, root, []string{"bot"}, 1, "port 9000 is held by pid", "it is no OpenClaw gateway")
		if output, err := pasted(t, root, said, ""); err != nil {
			t.Errorf("pasted: %v\n%s", err, output)
		}
		as(t, root, []string{"bot"}, 0)
	})
	t.Run("somebody on the port whom the user cannot see", func(t *testing.T) {
		root.Run(t, "systemd-run", "--unit=hider", "--service-type=notify", "python3", workersPath+"/squat.py", "127.0.0.1:18789")
		defer root.Systemctl(t, "stop", "hider.service")
		said := as(t, alice, []string{"openclaw-gateway"}, 1, "port 18789 is held by somebody of user root who cannot be seen from here")
		if output, err := pasted(t, root, strings.ReplaceAll(said, "sudo ", ""), ""); err == nil || !strings.Contains(errorText(err), "squat.py") {
			t.Errorf("pasted: %v\n%s", err, output)
		}
	})
	t.Run("a file of an earlier installation", func(t *testing.T) {
		m.As(root).WriteFile(t, "/etc/openclaw-gateway/config.yaml", "{}\n", 0o644)
		said := as(t, root, []string{"bot"}, 1, "/etc/openclaw-gateway/config.yaml is there already")
		if output, err := pasted(t, root, said, ""); err != nil {
			t.Errorf("pasted: %v\n%s", err, output)
		}
		as(t, root, []string{"bot"}, 0)
	})
	t.Run("another instance", func(t *testing.T) {
		m.As(root).WriteFile(t, "/etc/openclaw-gateway-one/config.yaml", "listen: ['127.0.0.1:9000']\n", 0o644)
		root.Run(t, gatewayPath, "install", "--system", "--name", "one", "--run-as", "root")
		said := as(t, root, []string{"bot"}, 1, "port 9000 is that of the instance one")
		as(t, root, []string{"bot", "--name", "one"}, 64, "the instance one would have the name of openclaw-gateway-one.service")
		if output, err := pasted(t, root, said, ""); err != nil {
			t.Errorf("pasted: %v\n%s", err, output)
		}
		as(t, root, []string{"bot"}, 0)
	})
	t.Run("a package's unit", func(t *testing.T) {
		m.As(root).WriteFile(t, "/usr/lib/systemd/system/clawdbot.service", "[Service]\nUser=alice\nExecStart="+machineNode+" "+machineEntry+" gateway --port 9001\n", 0o644)
		root.Systemctl(t, "daemon-reload")
		as(t, root, []string{"clawdbot.service"}, 0, "/lib/systemd/system/clawdbot.service stays where it is and is masked")
	})
	t.Run("a linked unit", func(t *testing.T) {
		m.As(root).WriteFile(t, "/opt/units/linked.service", "[Service]\nUser=alice\nExecStart="+machineNode+" "+machineEntry+" gateway --port 9002\n[Install]\nWantedBy=multi-user.target\n", 0o644)
		root.Systemctl(t, "enable", "/opt/units/linked.service")
		said := as(t, root, []string{"linked.service"}, 0, "/etc/systemd/system/multi-user.target.wants/linked.service /etc/systemd/system/linked.service", "at boot it is started")
		if strings.Contains(said, "masked") {
			t.Error("it would be masked as well")
		}
	})
	t.Run("an instance of a template", func(t *testing.T) {
		m.As(root).WriteFile(t, "/etc/systemd/system/claw@.service", "[Service]\nUser=alice\nEnvironment=OPENCLAW_STATE_DIR=/home/alice/.%i\nReadWritePaths=/home/%i\nExecStart="+
			machineNode+" "+machineEntry+" gateway --port 9003\n[Install]\nWantedBy=multi-user.target\n", 0o644)
		root.Systemctl(t, "enable", "claw@alice.service")
		as(t, root, []string{"claw@alice.service"}, 0, "/etc/systemd/system/multi-user.target.wants/claw@alice.service", "/etc/systemd/system/claw@.service stays where it is and is masked", "/home/alice/.alice/.env")
		root.Systemctl(t, "disable", "claw@alice.service")
	})
	t.Run("a transient one", func(t *testing.T) {
		root.Run(t, "systemd-run", "--unit=passing", "--uid=alice", machineNode, machineEntry, "gateway", "--port", "9004")
		defer root.Systemctl(t, "stop", "passing.service")
		as(t, root, []string{"passing.service"}, 1, "has no file: it was started by systemd-run")
	})
	const tells = "/home/alice/runs"
	m.As(root).WriteFile(t, "/opt/tells.cjs", "require('node:fs').writeFileSync('"+tells+"', 'yes')\n", 0o644)
	runs := func(unit string) { // what it starts first has become OpenClaw
		root.Run(t, "rm", "-f", tells)
		root.Systemctl(t, "restart", unit)
		m.WaitFile(t, tells, bound, func(content string, err error) bool { return err == nil && content == "yes" })
	}
	t.Run("by what runs", func(t *testing.T) {
		m.As(root).WriteFile(t, "/opt/launch", "#!/usr/bin/perl\nexec('"+machineNode+"', '"+machineEntry+"', 'gateway', '--port', '9005', '--allow-unconfigured');\n", 0o755)
		m.As(root).WriteFile(t, "/etc/systemd/system/hidden.service", "[Service]\nUser=alice\nEnvironment=OPENCLAW_STATE_DIR=/home/alice/.hidden NODE_OPTIONS=--require=/opt/tells.cjs\nExecStart=/opt/launch\n", 0o644)
		root.Systemctl(t, "daemon-reload")
		runs("hidden.service")
		defer root.Systemctl(t, "stop", "hidden.service")
		as(t, root, []string{"hidden.service"}, 0, "127.0.0.1:9005", machineNode+" "+machineEntry+" gateway --allow-unconfigured --port 9005 --bind loopback", "what launch has started and runs now")
	})
	t.Run("as another user than its unit's", func(t *testing.T) {
		m.As(alice).WriteFile(t, "/home/alice/start.sh", "#!/bin/sh\nset -- gateway --port 9007 --allow-unconfigured\nexec "+machineNode+" "+machineEntry+" \"$@\"\n", 0o755)
		// Its command says so, and another one's does not: then what runs shows it.
		m.As(root).WriteFile(t, "/opt/become", "#!/usr/bin/perl\nmy (undef, undef, $uid, $gid) = getpwnam('alice');\n$( = $gid; $) = \"$gid $gid\"; $< = $uid; $> = $uid;\nexec('/home/alice/start.sh');\n", 0o755)
		unit := func(command string) {
			m.As(root).WriteFile(t, "/etc/systemd/system/turned.service", "[Service]\nEnvironment=OPENCLAW_STATE_DIR=/home/alice/.turned NODE_OPTIONS=--require=/opt/tells.cjs\n"+
				"ExecStart="+command+"\n", 0o644)
			root.Systemctl(t, "daemon-reload")
		}
		unit("/opt/become")
		runs("turned.service")
		defer root.Systemctl(t, "stop", "turned.service")
		as(t, root, []string{"turned.service", "--run-as", "root"}, 1, "it becomes user alice itself: give its unit User=alice, and take what makes it that user out")
		unit("/usr/bin/setpriv --reuid=alice --regid=alice --init-groups /home/alice/start.sh")
		runs("turned.service")
		const refused = "turned.service of the system cannot be adopted: it becomes user alice itself, by setpriv: give its unit User=alice, and take setpriv out"
		said := as(t, root, []string{"turned.service"}, 1, refused)
		as(t, root, []string{"turned.service", "--run-as", "root"}, 1, refused)
		if strings.Contains(said, "--run-as") {
			t.Error("it would leave root what is alice's")
		}
		// The editor does what it says.
		m.As(root).WriteFile(t, "/opt/editor", "#!/bin/sh\nexec sed -i 's,/usr/bin/setpriv .* /home,/home,; s,^\\[Service],&\\nUser=alice,' \"$@\"\n", 0o755)
		_, command, _ := strings.Cut(said, "`")
		command, _, _ = strings.Cut(command, "`")
		root.Run(t, "sh", "-c", "SYSTEMD_EDITOR=/opt/editor script -qec '"+command+"' /dev/null </dev/null")
		runs("turned.service")
		as(t, root, []string{"turned.service"}, 0, "as user alice.", "127.0.0.1:9007")
	})
	t.Run("npx", func(t *testing.T) {
		m.As(alice).WriteFile(t, "/home/alice/.npm/_npx/0a1b/node_modules/.keep", "", 0o644)
		alice.Run(t, "ln", "-s", "/usr/local/lib/node_modules/openclaw", "/home/alice/.npm/_npx/0a1b/node_modules/openclaw")
		m.As(root).WriteFile(t, "/etc/systemd/system/byx.service", "[Service]\nUser=alice\nExecStart=/usr/bin/npx -y openclaw@latest gateway --port 9006\n", 0o644)
		root.Systemctl(t, "daemon-reload")
		as(t, root, []string{"byx.service"}, 0, "node_modules/openclaw/dist/index.js gateway --port 9006 --bind loopback", "no sockets get through npx")
	})
	t.Run("which", func(t *testing.T) { as(t, root, nil, 64, "say which one", "gateway adopt bot.service --system") })
}
