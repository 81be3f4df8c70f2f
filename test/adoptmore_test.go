package test

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"openclaw-gateway/test/machine"
)

// sandboxed is a unit with what guides for the hardening of services have in theirs.
const sandboxed = `[Service]
User=alice
Group=alice
SupplementaryGroups=users
NoNewPrivileges=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectSystem=strict
ProtectHome=tmpfs
BindPaths=/home/alice
ReadWritePaths=/home/alice
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
ProcSubset=pid
RestrictRealtime=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_INET AF_INET6
LockPersonality=yes
RemoveIPC=yes
UMask=0077
CapabilityBoundingSet=
AmbientCapabilities=
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
LimitNOFILE=2048
TasksMax=400
Nice=-5
OOMScoreAdjust=200
CPUWeight=50
MemoryHigh=3G
IPAddressDeny=any
IPAddressAllow=localhost
StateDirectory=bot
WorkingDirectory=/home/alice
ExecStart=` + nodePath + ` ` + machineEntry + ` gateway --port 18789 --allow-unconfigured
[Install]
WantedBy=multi-user.target
`

// TestAdoptSandbox has a unit with a whole sandbox go on as it was, launcher and all.
func TestAdoptSandbox(t *testing.T) {
	t.Parallel()
	in(t, testAdoptSandbox, place{name: "system"}, place{name: "system of Debian 13", root: debian13})
}

func testAdoptSandbox(t *testing.T, here place) {
	m, _ := adoptable(t, here)
	m.WriteFile(t, "/etc/systemd/system/bot.service", sandboxed, 0o644)
	m.Systemctl(t, "enable", "--now", "bot.service")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the journal of bot.service:\n%s", m.Journal(t, "bot.service"))
		}
	})
	awaitAnswer(t, m)
	before := confinement(t, m, m.Unit(t, "bot.service").MainPID)
	t.Log(m.Run(t, gatewayPath, "adopt", "--yes"))
	serving(t, m.Scope, 1)
	s := gatewayStatus(t, m.Scope)
	if s.Verdict != "ok" {
		t.Errorf("the status is %+v", s)
	}
	now := confinement(t, m, s.Worker.PID)
	for name, value := range before {
		if now[name] != value {
			t.Errorf("%s is %q, was %q", name, now[name], value)
		}
	}
	m.Run(t, gatewayPath, "restart")
	serving(t, m.Scope, 2)
	for property, want := range map[string]string{"IPAddressDeny": m.Property(t, service, "IPAddressDeny"), "IPAddressAllow": m.Property(t, service, "IPAddressAllow")} {
		if got := m.Property(t, socket, property); got != want || got == "" {
			t.Errorf("%s of the socket is %q, of the service %q", property, got, want)
		}
	}
	m.Run(t, gatewayPath, "adopt", "--undo")
	awaitAnswer(t, m)
	again := confinement(t, m, m.Unit(t, "bot.service").MainPID)
	for name, value := range before {
		if again[name] != value {
			t.Errorf("after --undo: %s is %q, was %q", name, again[name], value)
		}
	}
}

// confinement is what the kernel says of a process that its unit has confined.
func confinement(t testing.TB, m *machine.Machine, pid int) map[string]string {
	t.Helper()
	at := "/proc/" + strconv.Itoa(pid) + "/"
	is := map[string]string{"limits": m.Run(t, "cat", at+"limits"), "cwd": m.Run(t, "readlink", at+"cwd"), "oom": m.Run(t, "cat", at+"oom_score_adj")}
	for line := range strings.Lines(m.Run(t, "cat", at+"status")) {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Umask":
			is[name] = strings.TrimSpace(value)
		}
	}
	is["nice"] = strings.Fields(m.Run(t, "ps", "-o", "ni=", "-p", strconv.Itoa(pid)))[0]
	// What it sees of the file system.
	is["home"] = m.Run(t, "sh", "-c", "ls "+at+"root/home; nsenter -m -t "+strconv.Itoa(pid)+" sh -c 'touch /usr/x 2>&1; touch /home/alice/x 2>&1; ls /dev | sort | head -40'; true")
	return is
}

// TestAdoptRoots has a gateway of root's become one of a user's own, and root's again.
func TestAdoptRoots(t *testing.T) {
	t.Parallel()
	in(t, testAdoptRoots, place{name: "system"})
}

func testAdoptRoots(t *testing.T, here place) {
	m, _ := adoptable(t, here)
	const state, copied = "/root/.openclaw", "/home/openclaw/.openclaw"
	const settings = `// mine
{"gateway": {"mode": "local", "port": 18789, "auth": {"mode": "token", "token": "a-token-that-is-long-enough-for-a-test"}}, "agents": {"defaults": {"workspace": "/root/.openclaw/workspace"}}}
`
	m.WriteFile(t, state+"/openclaw.json", settings, 0o600)
	m.WriteFile(t, state+"/workspace/a b/notes.md", "mine\n", 0o640)
	m.Run(t, "ln", "-s", "nowhere", state+"/link")
	m.Run(t, "chmod", "755", state) // nobody gets there through /root
	// What each program has of root's that it runs as another user, who can trace it: it can do what that user likes.
	const seen = "/srv/seen"
	m.Run(t, "install", "-d", "-m", "777", seen)
	for _, program := range []string{"tar", "sed", "rm"} {
		m.WriteFile(t, "/usr/local/bin/"+program, `#!/bin/sh
if [ $(id -u) != 0 ]; then
	echo "terminal $(ps -o tty= -p $$), $(ls -l /proc/$$/fd | grep -c pts) of its descriptors, 7 $(test -e /proc/$$/fd/7 && echo open || echo closed)," \
		"in $(readlink /proc/$$/cwd), with $(tr '\0' '\n' </proc/$$/environ | grep -o '^[A-Z_]*=' | tr -d '\n'), state $(stat -c %a /home/openclaw/.openclaw)" >`+seen+`/`+program+`
	[ "${0##*/}" != sed ] || [ ! -e `+seen+`/fail ] || exit 3
fi
exec /usr/bin/`+program+` "$@"
`, 0o755)
	}
	apart := func(t *testing.T, programs ...string) {
		t.Helper()
		for _, program := range programs {
			if is, want := m.ReadFile(t, seen+"/"+program), "terminal ?, 0 of its descriptors, 7 closed, in /, with PATH=, state 700\n"; is != want {
				t.Errorf("%s has %q, want %q", program, is, want)
			}
			m.Run(t, "rm", seen+"/"+program)
		}
	}
	// inTerminal is for a shell, with a descriptor open that a careless parent has left.
	inTerminal := func(arguments string) (string, error) {
		return m.Output("sh", "-c", "script -qec '"+gatewayPath+" "+arguments+" 7</etc/shadow' /dev/null </dev/null")
	}
	m.WriteFile(t, "/etc/systemd/system/openclaw.service", "[Service]\nGroup=root\nExecStart=/usr/local/bin/openclaw gateway\nRestart=always\n[Install]\nWantedBy=multi-user.target\n", 0o644)
	m.Systemctl(t, "enable", "--now", "openclaw.service")
	awaitAnswer(t, m)
	nobody := func(t *testing.T) {
		t.Helper()
		if output, err := m.Output("id", "openclaw"); err == nil {
			t.Errorf("there is a user openclaw: %s", output)
		}
		m.Run(t, "test", "!", "-e", "/home/openclaw")
	}

	said, status := dryRun(t, m.Scope)
	t.Log(said)
	flat := strings.Join(strings.Fields(said), " ")
	for _, words := range []string{
		"as user openclaw.", "it runs as user openclaw, who is made for it, with a copy of /root/.openclaw in /home/openclaw/.openclaw", "that costs: what its agents have done as root",
		"where the configuration names /root/.openclaw, its copy names /home/openclaw/.openclaw", "`gateway adopt openclaw.service --system --run-as root`",
	} {
		if status != 0 || !strings.Contains(flat, words) {
			t.Errorf("exit status %d, it does not say %q", status, words)
		}
	}
	// What has a home of its own has its state there, and not in root's.
	m.WriteFile(t, "/etc/systemd/system/alex.service", "[Service]\nEnvironment=HOME=/root/agents/alex\nExecStart=/usr/local/bin/openclaw gateway --port 18790\n", 0o644)
	m.Systemctl(t, "daemon-reload")
	if said, status := dryRun(t, m.Scope, "alex.service"); status != 1 || !strings.Contains(said, "HOME=/root/agents/alex") || !strings.Contains(said, "`gateway adopt alex.service --system --run-as root` leaves it root's") {
		t.Errorf("exit status %d\n%s", status, said)
	}
	m.Run(t, "rm", "/etc/systemd/system/alex.service")
	m.Systemctl(t, "daemon-reload")
	// On a terminal it is asked.
	typed := func(answers string) string {
		output, _ := m.Output("sh", "-c", "printf '"+answers+"' | script -qec '"+gatewayPath+" adopt' /dev/null")
		return output
	}
	for answers, want := range map[string]string{`\nn\n`: "of the launcher, as user openclaw.", `root\nn\n`: "of the launcher, as user root.", `bob\n`: "is neither openclaw nor root"} {
		if output := typed(answers); !strings.Contains(strings.Join(strings.Fields(output), " "), want) || !strings.Contains(output, "or leave it root's? [openclaw/root]") {
			t.Errorf("answered %q:\n%s", answers, output)
		}
	}
	nobody(t)

	// Killed half way, the copy and its user go.
	c := begin(t, m.Scope, adopting(m.Scope)...)
	c.after(t, "copying /root/.openclaw", 0)
	t.Log(c.end(t, m, unix.SIGKILL))
	m.Run(t, gatewayPath, "adopt", "--undo")
	nobody(t)
	awaitAnswer(t, m)

	said, err := inTerminal("adopt --yes")
	t.Log(said)
	if err != nil {
		t.Fatal(err)
	}
	apart(t, "tar", "sed")
	serving(t, m.Scope, 1)
	s := gatewayStatus(t, m.Scope)
	if owner := strings.Fields(m.Run(t, "ps", "-o", "user=,group=", "-p", strconv.Itoa(s.Worker.PID))); owner[0] != "openclaw" || owner[1] != "openclaw" {
		t.Errorf("the worker is %s's", owner)
	}
	for path, want := range map[string]string{
		state: "root 755", copied: "openclaw 700", "/home/openclaw": "openclaw 700",
		state + "/openclaw.json": "root 600", copied + "/openclaw.json": "openclaw 600", copied + "/workspace/a b/notes.md": "openclaw 640", copied + "/link": "openclaw 777", copied + "/.env": "openclaw 600",
	} {
		if is := strings.TrimSpace(m.Run(t, "stat", "-c", "%U %a", path)); is != want {
			t.Errorf("%s is %s, want %s", path, is, want)
		}
	}
	if got := m.ReadFile(t, state+"/openclaw.json"); got != settings {
		t.Errorf("root's configuration is\n%s", got)
	}
	if got, want := m.ReadFile(t, copied+"/openclaw.json"), strings.ReplaceAll(settings, state, copied); got != want {
		t.Errorf("the copy's configuration is\n%s\nwant\n%s", got, want)
	}
	output, err := tried(t, m.Scope, gatewayPath, "adopt", "--undo")
	_, remove, told := strings.Cut(output, "the user openclaw and the state in /home/openclaw/.openclaw stay: `")
	remove, _, _ = strings.Cut(remove, "`")
	if err != nil || !told {
		t.Fatalf("%v\n%s", err, output)
	}
	awaitAnswer(t, m)
	m.Systemctl(t, "is-enabled", "openclaw.service")
	m.Run(t, "test", "!", "-e", copied+"/.env")

	// What that user has is not taken for root's.
	said, status = dryRun(t, m.Scope)
	_, away, told := strings.Cut(said, "to have root's copied, move it away (`")
	away, _, _ = strings.Cut(away, "`")
	if status != 1 || !told || !strings.HasPrefix(away, "runuser --pty -u openclaw -- ") || !strings.Contains(said, "`gateway adopt openclaw.service --system --run-as openclaw` uses that as it is") {
		t.Fatalf("exit status %d\n%s", status, said)
	}
	if said, status := dryRun(t, m.Scope, "--run-as", "openclaw"); status != 0 || !strings.Contains(strings.Join(strings.Fields(said), " "), "with the state that this user has in /home/openclaw/.openclaw") {
		t.Errorf("exit status %d\n%s", status, said)
	}
	m.Run(t, "sh", "-euc", away)
	if said, status := dryRun(t, m.Scope); status != 0 || strings.Contains(said, "who is made for it") {
		t.Errorf("exit status %d\n%s", status, said)
	}
	// One that has come to nothing takes the copy away again, and that user stays, whose home others may look into.
	m.Run(t, "chmod", "755", "/home/openclaw")
	m.Run(t, "touch", seen+"/fail")
	if said, err := inTerminal("adopt --yes"); err == nil || !strings.Contains(said, "sed") || !strings.Contains(said, "nothing is adopted") {
		t.Errorf("%v\n%s", err, said)
	}
	apart(t, "tar", "sed", "rm")
	m.Run(t, "test", "!", "-e", copied)
	m.Run(t, "test", "-e", copied+".old")
	awaitAnswer(t, m)
	m.Run(t, "sh", "-euc", remove)
	nobody(t)
}

// TestAdoptOpen has an OpenClaw go on that listens for all, with TLS. It makes its certificate with openssl, which the smallest
// Debian 13 does not have.
func TestAdoptOpen(t *testing.T) {
	t.Parallel()
	m, alice := adoptable(t, place{user: true})
	answers := func() {
		t.Helper()
		answer := alice.Run(t, "curl", "-ksf", "--retry", "1000", "--retry-delay", "1", "--retry-max-time", "240", "--retry-all-errors", "https://127.0.0.1:18789/healthz")
		if !strings.Contains(answer, `"ok":true`) {
			t.Errorf("it answers %s", answer)
		}
	}
	m.WriteFile(t, "/home/alice/.openclaw/openclaw.json",
		`{gateway: {mode: 'local', bind: 'lan', port: 18789, tls: {enabled: true, autoGenerate: true}, auth: {mode: 'token', token: 'a-token-that-is-long-enough-for-a-test'}, /* mine */}}`, 0o600)
	alice.Run(t, "openclaw", "gateway", "install")
	answers()
	t.Log(alice.Run(t, gatewayPath, "adopt", "--yes"))
	serving(t, alice, 1)
	s := gatewayStatus(t, alice)
	if s.Verdict != "ok" || len(s.Sockets) != 1 || s.Sockets[0].Address != "0.0.0.0:18789" {
		t.Errorf("the status is %+v", s)
	}
	answers()
	alice.Run(t, gatewayPath, "adopt", "--undo")
	answers()
}

// TestAdoptOlder has 2026.5.5 go on.
func TestAdoptOlder(t *testing.T) {
	t.Parallel()
	old := filepath.Dir(filepath.Dir(filepath.Dir(required(t, "OLD_OPENCLAW_ENTRY"))))
	m := place{user: true, root: debian13}.boot(t, machine.Options{Users: true, Binds: map[string]string{"/usr/local/lib/node_modules": old}})
	root := m.As(m.System())
	root.Run(t, "ln", "-s", "../lib/node_modules/openclaw/openclaw.mjs", "/usr/local/bin/openclaw")
	root.Run(t, "rm", "-f", "/.dockerenv")
	m.WriteFile(t, "/home/alice/.openclaw/openclaw.json", `{"gateway": {"mode": "local"}}`, 0o600) // its install does not write it
	m.Run(t, "openclaw", "gateway", "install")
	awaitAnswer(t, m)
	said := m.Run(t, gatewayPath, "adopt", "--yes")
	t.Log(said)
	if !strings.Contains(said, "ready.path: /healthz") {
		t.Errorf("2026.5.5 is asked for:\n%s", said)
	}
	serving(t, m.Scope, 1)
	m.Run(t, gatewayPath, "restart")
	serving(t, m.Scope, 2)
	m.Run(t, gatewayPath, "adopt", "--undo")
	awaitAnswer(t, m)
}

// TestAdoptFormer has one go on that is of what OpenClaw was called: another name of the package, of the unit and of all variables.
func TestAdoptFormer(t *testing.T) {
	t.Parallel()
	m := place{user: true, root: debian13}.boot(t, machine.Options{Users: true})
	root := m.As(m.System())
	root.Run(t, "rm", "-f", "/.dockerenv")
	root.Run(t, "sh", "-euc", `mkdir -p /opt/clawdbot/dist; echo '{"name": "clawdbot", "version": "2026.1.24", "type": "module"}' >/opt/clawdbot/package.json
cat >/opt/clawdbot/dist/entry.js <<'end'
import http from "node:http"
import { spawn } from "node:child_process"
const { env } = process
if (env.CLAWDBOT_NODE_OPTIONS_READY === "1") http.createServer((q, a) => a.end("bot " + env.CLAWDBOT_STATE_DIR)).listen(Number(env.CLAWDBOT_GATEWAY_PORT), "127.0.0.1")
else spawn(process.execPath, process.argv.slice(1), { stdio: "inherit", env: { ...env, CLAWDBOT_NODE_OPTIONS_READY: "1" } }).on("exit", code => process.exit(code ?? 1)) // as its src/entry.ts does
end`)
	m.WriteFile(t, unitPath(m.Scope, "clawdbot-gateway.service"), "[Service]\nExecStart="+nodePath+" /opt/clawdbot/dist/entry.js gateway --port 18789\nEnvironment=CLAWDBOT_GATEWAY_PORT=18789 CLAWDBOT_STATE_DIR=%h/.clawdbot CLAWDBOT_SERVICE_MARKER=clawdbot\n[Install]\nWantedBy=default.target\n", 0o644)
	m.Systemctl(t, "enable", "--now", "clawdbot-gateway.service")
	awaitAnswer(t, m)
	said := m.Run(t, gatewayPath, "adopt", "clawdbot-gateway", "--yes")
	t.Log(said)
	if !strings.Contains(said, "has not taken [::1]") {
		t.Error("it opens an address that nobody serves")
	}
	if _, body := get(t, m, ipv4, "/"); body != "bot /home/alice/.clawdbot" {
		t.Errorf("it answers %q", body)
	}
	if s := gatewayStatus(t, m.Scope); s.Worker.Generation != 1 { // a second one would have got the sockets by intercept
		t.Errorf("it is served by generation %d", s.Worker.Generation)
	}
	m.Run(t, gatewayPath, "adopt", "--undo")
}
