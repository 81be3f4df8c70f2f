package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
)

// adopting is what a test types; nobody is there to be asked.
func adopting(s *machine.Scope, more ...string) []string {
	return append([]string{gatewayPath, "adopt", "--" + kind(s), "--yes"}, more...)
}

// tried runs a command, whatever becomes of it, and returns all that it says.
func tried(t testing.TB, s *machine.Scope, argv ...string) (output string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*bound)
	defer cancel()
	said, err := s.Command(ctx, argv[0], argv[1:]...).CombinedOutput()
	return string(said), err
}

// journalOf is where the journal of an adoption lies.
func journalOf(s *machine.Scope, instance string) string {
	if s.User == "" {
		return "/var/lib/openclaw-gateway.adopt/" + instance
	}
	return s.Home() + "/.local/state/openclaw-gateway.adopt/" + instance
}

// everything is all that an adoption may touch: the files with their bytes, modes, owners and times, and what systemd makes of the
// units. The launcher's own state is not in it.
func everything(t testing.TB, m *machine.Machine, units ...string) string {
	t.Helper()
	folders := "/etc/systemd /etc/systemd/system/ /etc/openclaw-gateway*" // that one may be a link
	if m.User != "" {
		folders = "~/.config ~/.local/state/openclaw-gateway"
	}
	var b strings.Builder
	b.WriteString(m.Run(t, "sh", "-c", "find "+folders+` ! -type d -printf '%p %y %m %U %G %l ' \( -type f -printf '%T@ ' -exec sha256sum {} \; -o -printf '\n' \) 2>/dev/null | sort;
		find `+folders+` -type d -printf '%p %m %U %G\n' 2>/dev/null | sort; ls -a ~/.openclaw/.env ~/.openclaw-*/.env 2>/dev/null; true`))
	for _, unit := range units {
		fmt.Fprintf(&b, "%s is %s\n%s", unit, m.Unit(t, unit).ActiveState, properties(t, m.Scope, unit))
	}
	return b.String()
}

// volatile are the properties of a unit that are others each time that it runs, or after each look.
var volatile = regexp.MustCompile(`^(ActiveEnter|ActiveExit|Assert|Condition|CPUUsage|ControlGroup|ControlPID|EffectiveCPU|EffectiveMemoryNodes|EffectiveTasks|EffectiveMemory|ExecMain|ExecStart|ExecStop|ExecCondition|FileDescriptorStore|GID|IO(Read|Write)|IP(Egress|Ingress)|Inactive(Enter|Exit)|Invocation|Job|MainPID|Memory(Current|Available|Peak|Swap(Current|Peak)|ZSwap(Current|Peak))|NFileDescriptorStore|NRestarts|StateChange|SubState|ActiveState|Result|StatusErrno|Tasks(Current)|TimeoutCleanUSec|UID|Watchdog(Timestamp)|OOMKills|ManagedOOMKills|Markers|NeedDaemonReload|UnitFileState|Perpetual|DebugInvocation|CanFreeze|FreezerState)`)

// properties are those of a unit that stay as they are, and its first command line.
func properties(t testing.TB, s *machine.Scope, unit string) string {
	t.Helper()
	var lines []string
	for line := range strings.Lines(s.Systemctl(t, "show", unit)) {
		if name, value, _ := strings.Cut(line, "="); !volatile.MatchString(line) {
			words := strings.Fields(value) // systemd has them in any order
			slices.Sort(words)
			lines = append(lines, name+"="+strings.Join(words, " ")+"\n")
		}
	}
	argv, _, _ := strings.Cut(s.Property(t, unit, "ExecStart"), "; ignore_errors")
	lines = append(lines, argv+"\n", "it is "+s.Property(t, unit, "UnitFileState")+"\n")
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// same fails the test, with what differs, unless all is as it was.
func same(t testing.TB, got, was string) {
	t.Helper()
	if got == was {
		return
	}
	before, now := strings.Split(was, "\n"), strings.Split(got, "\n")
	for _, line := range before {
		if !slices.Contains(now, line) {
			t.Errorf("gone: %s", line)
		}
	}
	for _, line := range now {
		if !slices.Contains(before, line) {
			t.Errorf("new: %s", line)
		}
	}
	if !t.Failed() {
		t.Errorf("the order differs:\n%s\nwas\n%s", got, was)
	}
}

// stepwise is a command that waits before each line that it prints until the one before has been read: so it can be ended at each
// of its steps.
type stepwise struct {
	cmd     *exec.Cmd
	read    *os.File
	said    bytes.Buffer
	printed []string
}

// begin starts a command with a pipe for its output that takes one line: of packets (O_DIRECT, pipe(2)) each has a page.
func begin(t testing.TB, s *machine.Scope, argv ...string) *stepwise {
	t.Helper()
	pair := make([]int, 2)
	if err := unix.Pipe2(pair, unix.O_DIRECT|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(pair[1]), unix.F_SETPIPE_SZ, os.Getpagesize()); err != nil {
		t.Fatal(err)
	}
	read, write := os.NewFile(uintptr(pair[0]), "read"), os.NewFile(uintptr(pair[1]), "write")
	defer write.Close()
	c := &stepwise{cmd: s.Command(t.Context(), argv[0], argv[1:]...), read: read}
	c.cmd.Stdout, c.cmd.Stderr = write, &c.said
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close() })
	return c
}

// line waits for the next line and takes it; false at the end.
func (c *stepwise) line(t testing.TB) bool {
	t.Helper()
	if !c.await(t) {
		return false
	}
	packet := make([]byte, 1<<16)
	n, err := unix.Read(int(c.read.Fd()), packet)
	if err != nil {
		t.Fatal(err)
	}
	if n > 0 {
		c.printed = append(c.printed, strings.TrimSuffix(string(packet[:n]), "\n"))
	}
	return n > 0
}

// after waits until another line is about to come, so many behind the first one that begins so; false if there is none.
func (c *stepwise) after(t testing.TB, first string, lines int) bool {
	t.Helper()
	for begun := false; !begun || lines > 0; {
		if !c.line(t) {
			return false
		}
		if begun {
			lines--
		}
		begun = begun || strings.HasPrefix(c.printed[len(c.printed)-1], first)
	}
	return c.await(t)
}

// await waits until the next line is there, or the end: false then.
func (c *stepwise) await(t testing.TB) bool {
	t.Helper()
	poll := []unix.PollFd{{Fd: int32(c.read.Fd()), Events: unix.POLLIN}}
	for deadline := time.Now().Add(2 * bound); ; {
		n, err := unix.Poll(poll, int(time.Until(deadline).Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || n == 0:
			t.Fatalf("nothing more is printed: %v; so far:\n%s\n%s", err, strings.Join(c.printed, "\n"), c.said.String())
		default:
			return poll[0].Revents&unix.POLLIN != 0
		}
	}
}

// wait waits for the end while the machine shuts down, which stops all processes for a moment: nsenter(1) stops with its child, and would
// never see that end.
func (c *stepwise) wait() error {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, c.cmd.Process.Pid, &info, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || info.Code != cldStopped:
			return errors.Join(err, c.cmd.Wait())
		default:
			if err := c.cmd.Process.Signal(unix.SIGCONT); err != nil {
				return err
			}
		}
	}
}

// cldStopped is CLD_STOPPED of waitid(2).
const cldStopped = 5

// end sends a signal to the command, and returns what it had to say when it has ended.
func (c *stepwise) end(t testing.TB, m *machine.Machine, signal unix.Signal) string {
	t.Helper()
	for _, p := range m.Processes(t) {
		if len(p.Args) > 1 && p.Args[0] == gatewayPath && p.Args[1] == "adopt" {
			if err := unix.Kill(p.HostPID, signal); err != nil && !errors.Is(err, unix.ESRCH) {
				t.Fatal(err)
			}
		}
	}
	for c.line(t) {
	}
	_ = c.cmd.Wait() // its status is that of a killed process, or of a failure
	return strings.Join(c.printed, "\n") + "\n" + c.said.String()
}

// stale is OpenClaw's own unit as it was found: what looks like OpenClaw, with a drop-in, enabled and running.
func stale(t testing.TB, m *machine.Machine) {
	t.Helper()
	prepare(t, m)
	m.Run(t, "rm", unitPath(m.Scope, "claw.service"), unitPath(m.Scope, "stranger.service"))
	m.System().Run(t, "rm", "-f", "/.dockerenv") // in what looks like a container OpenClaw listens on 0.0.0.0
	user := ""
	if m.User == "" {
		user = "User=claw\n"
		m.Run(t, "useradd", "--create-home", "claw")
	}
	m.WriteFile(t, unitPath(m.Scope, service), "[Unit]\nDescription=OpenClaw Gateway\n[Service]\nType=notify\nNotifyAccess=all\nEnvironment=NOTIFY=1\n"+user+
		"ExecStart="+nodePath+" "+clawEntry+" gateway --port 18789\nRestart=always\nRestartSec=5\nTimeoutStopSec=30\n[Install]\nWantedBy=default.target\n", 0o640)
	m.WriteFile(t, unitPath(m.Scope, service+".d/limits.conf"), "[Service]\nMemoryMax=1G\nEnvironment=MINE=1\nRuntimeDirectory=bot\nStateDirectory=bot\nCacheDirectory=bot\n", 0o600)
	m.Systemctl(t, "daemon-reload")
	m.Systemctl(t, "enable", "--now", service)
}

// TestAdoptInterrupted ends an adoption, and what takes it back, at each of its steps: all goes back.
func TestAdoptInterrupted(t *testing.T) { inScopes(t, testAdoptInterrupted) }

func testAdoptInterrupted(t *testing.T, here place) {
	m := here.boot(t, machine.Options{Users: true})
	stale(t, m)
	before := everything(t, m, service)
	cached := "/var/cache/bot/mine"
	if m.User != "" {
		cached = m.Home() + "/.cache/bot/mine"
	}
	m.Run(t, "touch", cached)
	intact := func(t *testing.T) {
		t.Helper()
		m.Run(t, "test", "-e", cached) // it is the old one's, in a directory that ours has as well
		same(t, everything(t, m, service), before)
		if code, body := get(t, m, ipv4, "/"); code != http.StatusOK || !strings.HasPrefix(body, "generation undefined") {
			t.Errorf("the port is answered by %d %q, want the old one", code, body)
		}
	}
	unfinished := func() bool {
		_, err := m.Output("test", "-e", journalOf(m.Scope, "openclaw-gateway")+"/unfinished.json")
		return err == nil
	}
	adopted := func(t *testing.T, argv ...string) {
		t.Helper()
		output, err := tried(t, m.Scope, argv...)
		if code, body := get(t, m, ipv4, "/"); err != nil || code != http.StatusOK || !strings.HasPrefix(body, "generation 1") {
			t.Fatalf("%v: %d %q\n%s", err, code, body, output)
		}
	}

	// Each is ended where it is about to print a line, before or within the step that the line is about.
	steps := 0
	for at := 0; !t.Failed(); at++ {
		c := begin(t, m.Scope, adopting(m.Scope)...)
		if !c.after(t, "keeping what is there", at) {
			t.Logf("all of it:\n%s", c.end(t, m, unix.SIGKILL))
			m.Run(t, gatewayPath, "adopt", "--undo", "--"+kind(m.Scope))
			intact(t)
			break
		}
		steps++
		signal := []unix.Signal{unix.SIGKILL, unix.SIGINT, unix.SIGKILL, unix.SIGTERM, unix.SIGKILL, unix.SIGHUP}[at%6]
		if here.user {
			signal = []unix.Signal{unix.SIGINT, unix.SIGKILL, unix.SIGTERM, unix.SIGKILL}[at%4]
		}
		said := c.end(t, m, signal)
		t.Logf("%s after %d lines:\n%s", unix.SignalName(signal), at, said)
		if half := unfinished(); half && signal != unix.SIGKILL {
			t.Errorf("it is half done after %s", unix.SignalName(signal))
		} else if half {
			if output, _ := tried(t, m.Scope, gatewayPath, "status"); !strings.Contains(output, "was interrupted") {
				t.Errorf("gateway status does not say that it is half done:\n%s", output)
			}
			if output, err := tried(t, m.Scope, gatewayPath, "adopt", "--dry-run"); err == nil || !strings.Contains(output, "was interrupted") {
				t.Errorf("adopt --dry-run does not say that it is half done:\n%s", output)
			}
			found := diagnose(t, m.Scope, gatewayPath)
			i := slices.IndexFunc(found.Findings, func(f finding) bool { return f.ID == "adoption-unfinished" })
			if i < 0 {
				t.Errorf("gateway doctor does not say that it is half done:\n%s", found.text())
			} else if at%4 == 0 {
				m.Run(t, "/bin/sh", "-c", found.Findings[i].Fix)
			}
		}
		if complete := strings.Contains(said, "answers after"); complete || unfinished() || at%3 == 0 {
			adopted(t, adopting(m.Scope)...) // which puts back first
			m.Run(t, gatewayPath, "adopt", "--undo", "--"+kind(m.Scope))
		}
		intact(t)
	}
	if steps < 6 {
		t.Errorf("it was ended at %d steps: the test has lost its subject", steps)
	}

	back := []string{gatewayPath, "adopt", "--undo", "--" + kind(m.Scope)}
	for at := 0; !t.Failed(); at++ {
		adopted(t, adopting(m.Scope)...)
		c := begin(t, m.Scope, back...)
		over := !c.after(t, "giving back", at)
		said := c.end(t, m, []unix.Signal{unix.SIGKILL, unix.SIGINT}[at%2])
		t.Logf("ended after %d lines:\n%s", at, said)
		m.Run(t, back[0], back[1:]...)
		intact(t)
		if over {
			break
		}
	}
	if output, err := tried(t, m.Scope, back...); err != nil || !strings.Contains(output, "already") {
		t.Errorf("giving back what was given back: %v\n%s", err, output)
	}
	intact(t)
}

// effective is what a process has of its unit.
type effective struct {
	environment map[string]string
	limits      string
	directory   string
	uid         string
	argv        []string
	memory      string // of the unit
}

// itself are variables that tell of one start of a process, or of the service manager.
var itself = regexp.MustCompile(`^(INVOCATION_ID|JOURNAL_STREAM|SYSTEMD_EXEC_PID|MEMORY_PRESSURE_.*|MANAGERPID|MANAGERPIDFDID|NOTIFY_SOCKET|_|SHLVL|PWD|OLDPWD)$`)

func effectiveOf(t testing.TB, m *machine.Machine, unit string, pid int) effective {
	t.Helper()
	root, at := m.System(), fmt.Sprintf("/proc/%d/", pid)
	e := effective{
		environment: map[string]string{}, limits: root.Run(t, "cat", at+"limits"), directory: root.Run(t, "readlink", at+"cwd"),
		uid: root.Run(t, "grep", "^Uid:", at+"status"), argv: process(t, m, pid).Args, memory: m.Property(t, unit, "MemoryMax"),
	}
	for entry := range strings.SplitSeq(strings.TrimSuffix(root.Run(t, "cat", at+"environ"), "\x00"), "\x00") {
		if name, value, _ := strings.Cut(entry, "="); !itself.MatchString(name) {
			e.environment[name] = value
		}
	}
	return e
}

// goesOn fails the test unless what a unit gave its process is given to our worker.
func goesOn(t testing.TB, was, is effective) {
	t.Helper()
	// Whoever supervises it says so.
	theirs := []string{
		"OPENCLAW_SERVICE_MARKER", "OPENCLAW_SERVICE_KIND", "OPENCLAW_SYSTEMD_UNIT", "OPENCLAW_WINDOWS_TASK_NAME", "OPENCLAW_WINDOWS_TASK_HIDDEN_LAUNCHER",
	}
	for name, value := range was.environment {
		got, there := is.environment[name]
		switch {
		case slices.Contains(theirs, name):
		case !there || got != value && (name != "NODE_OPTIONS" || !strings.Contains(got, value)):
			t.Errorf("%s is %q (%v), was %q", name, got, there, value)
		}
	}
	for name := range is.environment {
		if _, was := was.environment[name]; !was && !regexp.MustCompile(`^(GATEWAY_|LISTEN_|NODE_|OPENCLAW_SUPERVISOR_MODE|OPENCLAW_SERVICE_REPAIR_POLICY|OPENCLAW_GATEWAY_PORT|(RUNTIME|STATE|CACHE)_DIRECTORY)`).MatchString(name) {
			t.Errorf("new: %s=%s", name, is.environment[name])
		}
	}
	if is.limits != was.limits {
		t.Errorf("the limits are\n%s\nwere\n%s", is.limits, was.limits)
	}
	if is.directory != was.directory || is.uid != was.uid || is.memory != was.memory {
		t.Errorf("directory, user and MemoryMax= are %q %q %q, were %q %q %q", is.directory, is.uid, is.memory, was.directory, was.uid, was.memory)
	}
	t.Logf("the command line was\n%q\nis\n%q", was.argv, is.argv)
}

// thereAndBack adopts a unit and gives it back, and compares what its process has before, meanwhile and after.
func thereAndBack(t *testing.T, m *machine.Machine, address, unit, name string, arguments ...string) {
	t.Helper()
	ours := "openclaw-gateway.service"
	instance := []string{}
	if name != "" {
		ours, instance = "openclaw-gateway-"+name+".service", []string{"--name", name}
	}
	answers := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 4*bound)
		defer cancel()
		l := load.Start(ctx, load.Options{URL: "http://" + address + "/healthz", Dial: m.DialContext, Loops: 1, Limit: bound})
		defer l.Stop()
		if err := l.WaitOK(ctx, 1); err != nil {
			t.Fatalf("waiting for somebody to answer: %v", err)
		}
	}
	answers()
	listening := func() map[string]uint64 { return inodes(t, m) }
	before, sockets := everything(t, m, unit), listening()
	was := effectiveOf(t, m, unit, m.Unit(t, unit).MainPID)

	m.Scope.Run(t, gatewayPath, append([]string{"adopt", unit, "--dry-run", "--" + kind(m.Scope)}, arguments...)...)
	same(t, everything(t, m, unit), before)
	output, err := tried(t, m.Scope, append([]string{gatewayPath, "adopt", unit, "--yes", "--" + kind(m.Scope)}, arguments...)...)
	t.Log(output)
	if err != nil {
		t.Fatal(err)
	}
	answers()
	if got, want := slices.Sorted(maps.Keys(listening())), slices.Sorted(maps.Keys(sockets)); !slices.Equal(got, want) {
		t.Errorf("somebody listens on %v, before it was %v", got, want)
	}
	var s status
	asked, _ := m.Output(gatewayPath, append([]string{"status", "--json", "--" + kind(m.Scope)}, instance...)...)
	if err := json.Unmarshal([]byte(asked), &s); err != nil || s.Verdict != "ok" || s.Worker.Generation != 1 {
		t.Errorf("the status is %v %s", err, asked)
	}
	goesOn(t, was, effectiveOf(t, m, ours, s.Worker.PID))
	once := []string{gatewayPath, "adopt", "--yes", "--" + kind(m.Scope)}
	if name != "" { // beside another
		once = append(once, unit)
	}
	if again, err := tried(t, m.Scope, once...); err != nil {
		t.Errorf("once more: %v\n%s", err, again)
	} else if now := gatewayStatusOf(t, m, instance...); now.Worker.PID != s.Worker.PID {
		t.Errorf("once more has changed something: the worker is %d, was %d\n%s", now.Worker.PID, s.Worker.PID, again)
	}

	m.Run(t, gatewayPath, append([]string{"adopt", "--undo", "--" + kind(m.Scope)}, instance...)...)
	answers()
	same(t, everything(t, m, unit), before)
	now := effectiveOf(t, m, unit, m.Unit(t, unit).MainPID)
	if !maps.Equal(now.environment, was.environment) {
		t.Errorf("the environment is\n%v\nwas\n%v", now.environment, was.environment)
	}
	now.environment, was.environment = nil, nil
	if !reflect.DeepEqual(now, was) {
		t.Errorf("the process has\n%+v\nhad\n%+v", now, was)
	}
}

func gatewayStatusOf(t testing.TB, m *machine.Machine, instance ...string) (s status) {
	t.Helper()
	asked, _ := m.Output(gatewayPath, append([]string{"status", "--json", "--" + kind(m.Scope)}, instance...)...)
	if err := json.Unmarshal([]byte(asked), &s); err != nil {
		t.Fatalf("%v: %s", err, asked)
	}
	return s
}

// TestAdopt takes over what people have, with the real OpenClaw, and gives it back: each on one systemd, in the scope in which people have it.
// That of OpenClaw's own installer and that of a server are adopted on the other systemd as well, from a package (TestPackages).
func TestAdopt(t *testing.T) {
	t.Parallel()
	for _, found := range []struct {
		here  place
		adopt func(t *testing.T, m *machine.Machine, alice *machine.Scope)
	}{
		{place{name: "user", user: true}, testAdoptProfiles},
		{place{name: "user of Debian 13", user: true, root: debian13}, testAdoptIncident},
		{place{name: "system"}, testAdoptWrapper},
		{place{name: "system of Debian 13", root: debian13}, testAdoptServer},
	} {
		t.Run(found.here.name, func(t *testing.T) {
			t.Parallel()
			m, alice := adoptable(t, found.here)
			found.adopt(t, m, alice)
		})
	}
}

// testAdoptProfiles: the stock unit, and that of a profile beside it.
func testAdoptProfiles(t *testing.T, m *machine.Machine, alice *machine.Scope) {
	alice.Run(t, "openclaw", "gateway", "install")
	thereAndBack(t, m, ipv4, service, "")
	const work = "openclaw-gateway-work.service"
	alice.Run(t, "openclaw", "--profile", "work", "gateway", "install", "--port", "19001")
	beside := m.Unit(t, service).MainPID
	thereAndBack(t, m, "127.0.0.1:19001", work, "work")
	if now := m.Unit(t, service).MainPID; now != beside {
		t.Errorf("the default one was restarted: its main process is %d, was %d", now, beside)
	}
	m.Systemctl(t, "disable", "--now", service, work)
	m.Run(t, "rm", unitPath(alice, service), unitPath(alice, work))
}

// testAdoptServer: what somebody has written for a server.
func testAdoptServer(t *testing.T, m *machine.Machine, _ *machine.Scope) {
	forServer(t, m, serversNode+" "+machineEntry+" gateway")
	thereAndBack(t, m, "127.0.0.1:9999", "claw.service", "")
}

// testAdoptWrapper: the same, with a wrapper round it.
func testAdoptWrapper(t *testing.T, m *machine.Machine, _ *machine.Scope) {
	const wrapper = "/usr/local/bin/start-claw"
	m.WriteFile(t, wrapper, "#!/bin/bash\nexport FROM_WRAPPER=\"of mine\"\nulimit -c 0\nexec "+serversNode+" "+machineEntry+" gateway \"$@\"\n", 0o755)
	forServer(t, m, wrapper)
	thereAndBack(t, m, "127.0.0.1:9999", "claw.service", "")
}

// serversNode is the Node.js that a server's user has.
const serversNode = "/home/claw/.nvm/versions/node/v24.21.0/bin/node"

// forServer starts a unit such as somebody writes for a server, with that command before its arguments.
func forServer(t *testing.T, m *machine.Machine, command string) {
	t.Helper()
	m.Run(t, "useradd", "--create-home", "claw")
	m.Run(t, "sh", "-euc", "install -d -o claw "+filepath.Dir(serversNode)+" /srv/claw && ln -s "+nodePath+" "+serversNode)
	m.WriteFile(t, "/etc/openclaw.env", "OPENCLAW_GATEWAY_TOKEN=a-token-that-is-long-enough-for-a-test\nMINE=\"two words\"\n", 0o600)
	m.WriteFile(t, "/etc/systemd/system/claw.service", `[Unit]
Description=OpenClaw
[Service]
User=claw
WorkingDirectory=/srv/claw
EnvironmentFile=/etc/openclaw.env
Environment=NODE_OPTIONS=--max-old-space-size=700
ExecStart=`+command+` --port 9999 --allow-unconfigured
Restart=always
RestartSec=3
LimitNOFILE=4096
[Install]
WantedBy=multi-user.target
`, 0o644)
	m.WriteFile(t, "/etc/systemd/system/claw.service.d/more.conf", "[Service]\nEnvironment=HTTPS_PROXY=http://127.0.0.1:3128\nMemoryMax=3G\n", 0o600)
	m.Systemctl(t, "daemon-reload")
	m.Systemctl(t, "enable", "--now", "claw.service")
}

// testAdoptIncident: a unit that systemd starts again and again, as an orphan has the port. To adopt it is all that is needed.
func testAdoptIncident(t *testing.T, m *machine.Machine, alice *machine.Scope) {
	m.WriteFile(t, unitPath(alice, service), "[Unit]\nDescription=OpenClaw Gateway\n[Service]\nExecStart="+nodePath+" "+machineEntry+" gateway --port 18789 --allow-unconfigured\n"+
		"Restart=always\nRestartSec=5\nKillMode=control-group\nTimeoutStopSec=30\n[Install]\nWantedBy=default.target\n", 0o644)
	// A state directory of its own, so that it is the port that the two are after.
	alice.Run(t, "sh", "-c", "OPENCLAW_STATE_DIR=$HOME/old setsid "+nodePath+" "+machineEntry+" gateway run --port 18789 --bind loopback --allow-unconfigured >/dev/null 2>&1 </dev/null &")
	awaitAnswer(t, m)
	orphan := onlyHolder(t, m, ipv4)
	m.Systemctl(t, "daemon-reload")
	m.Systemctl(t, "enable", "--now", service)
	m.WaitUnit(t, service, 2*bound, func(u machine.Unit) bool { return u.NRestarts > 0 })
	before := everything(t, m)

	output, err := tried(t, m.Scope, adopting(m.Scope)...)
	t.Log(output)
	if err != nil {
		t.Fatal(err)
	}
	if alive(t, m, orphan) || !strings.Contains(output, fmt.Sprintf("pid %d has ended", orphan)) {
		t.Errorf("the orphan, pid %d, lives", orphan)
	}
	if s := gatewayStatus(t, m.Scope); s.Verdict != "ok" || s.Worker.Generation != 1 {
		t.Errorf("the status is %+v", s)
	}
	silent(t, m.Scope)
	m.Run(t, gatewayPath, "adopt", "--undo")
	awaitAnswer(t, m)
	same(t, everything(t, m), before)
	if main := m.Unit(t, service).MainPID; onlyHolder(t, m, ipv4) != main {
		t.Errorf("the port is held by another than the old one, pid %d", main)
	}
}

// TestAdoptFails: what fails is told, and everything is as it was.
func TestAdoptFails(t *testing.T) {
	inScopes(t, testAdoptFails)
	// Where systemctl asks the manager by a bus that a service of the user's makes, which starts then.
	in(t, testAdoptFails, place{name: "user", user: true})
}

func testAdoptFails(t *testing.T, here place) {
	m := here.boot(t, machine.Options{Users: true})
	stale(t, m)
	// What systemd stops with the old one.
	for name, depends := range map[string]string{"bound": "BindsTo=openclaw-gateway.service\nAfter=openclaw-gateway.service", "part": "PartOf=openclaw-gateway.service", "second": "Requires=bound.service"} {
		m.WriteFile(t, unitPath(m.Scope, name+".service"), "[Unit]\n"+depends+"\n[Service]\nExecStart=sleep infinity\n", 0o644)
	}
	m.Systemctl(t, "daemon-reload")
	companions := []string{"bound.service", "part.service", "second.service"}
	m.Systemctl(t, append([]string{"start"}, companions...)...)
	flag := "--" + kind(m.Scope)
	before := everything(t, m, append(companions, service)...)
	undo := []string{gatewayPath, "adopt", "--undo", flag}
	intact := func(t *testing.T) {
		t.Helper()
		same(t, everything(t, m, append(companions, service)...), before)
		if code, body := get(t, m, ipv4, "/"); code != http.StatusOK || !strings.HasPrefix(body, "generation undefined") {
			t.Errorf("the port is answered by %d %q, want the old one", code, body)
		}
	}
	fails := func(t *testing.T, words ...string) {
		t.Helper()
		output, err := tried(t, m.Scope, adopting(m.Scope)...)
		for _, word := range words {
			if !strings.Contains(output, word) {
				t.Errorf("it does not say %q:\n%s", word, output)
			}
		}
		if err == nil {
			t.Errorf("it has not failed:\n%s", output)
		}
	}
	put := func(t *testing.T, path, content string) {
		t.Helper()
		m.WriteFile(t, path, content, 0o644)
		m.Systemctl(t, "daemon-reload")
		t.Cleanup(func() {
			m.Run(t, "rm", path)
			m.Systemctl(t, "daemon-reload")
		})
	}

	t.Run("the socket", func(t *testing.T) {
		main := m.Unit(t, service).MainPID
		// Not the unit's own folder, which would be set aside.
		path := "/etc/systemd/" + kind(m.Scope) + "/openclaw-.socket.d/bad.conf"
		m.As(m.System()).WriteFile(t, path, "[Socket]\nExecStartPre=/bin/false\n", 0o644)
		fails(t, "nothing is adopted: systemctl", "start openclaw-gateway.socket")
		m.System().Run(t, "rm", "-r", filepath.Dir(path))
		m.Systemctl(t, "daemon-reload")
		if now := m.Unit(t, service).MainPID; now == main {
			t.Errorf("the old one was not stopped: the test has lost its subject")
		}
		intact(t)
	})
	t.Run("the worker", func(t *testing.T) {
		script := m.ReadFile(t, clawEntry)
		m.As(m.System()).WriteFile(t, clawEntry, "if (process.env.GATEWAY_GENERATION) { console.log('I will not'); process.exit(3); }\n"+script, 0o644)
		words := []string{"its last words", "I will not"}
		if m.User != "" { // who may not read the journal here
			words = []string{"what generation 1 said last is not known"}
		}
		words = append(words, "nothing is adopted: the first worker has failed", "exit code 3")
		fails(t, words...)
		intact(t)
		// What is made for ours alone is removed; to ask for that may start a service, the user's bus.
		m.Run(t, "sed", "-i", "/^CacheDirectory=/d", unitPath(m.Scope, service+".d/limits.conf"))
		m.Systemctl(t, "daemon-reload")
		if m.User != "" {
			_, _ = m.Output("systemctl", "--user", "stop", "dbus.service") // it is not known where nobody has needed it
		}
		before = everything(t, m, append(companions, service)...)
		fails(t, words...)
		m.As(m.System()).WriteFile(t, clawEntry, script, 0o644)
		intact(t)
	})
	t.Run("what cannot be set aside", func(t *testing.T) {
		main := m.Unit(t, service).MainPID
		fifo := unitPath(m.Scope, service+".d/fifo")
		m.Run(t, "mkfifo", fifo)
		fails(t, "nothing is changed", "fifo is neither a file nor a folder nor a link")
		m.Run(t, "rm", fifo)
		intact(t)
		if now := m.Unit(t, service).MainPID; now != main {
			t.Errorf("the old one was restarted: its main process is %d, was %d", now, main)
		}
	})
	t.Run("no room for the configuration", func(t *testing.T) {
		main := m.Unit(t, service).MainPID
		put(t, filepath.Dir(configPath(m.Scope)), "a file\n")
		fails(t, filepath.Dir(configPath(m.Scope)))
		if now := m.Unit(t, service).MainPID; now != main {
			t.Errorf("the old one was restarted: its main process is %d, was %d", now, main)
		}
	})
	// deaf adopts an old one that does not listen, does something while that is waited for, and ends it by the command that is printed.
	deaf := func(t *testing.T, meanwhile func()) (output string, err error) {
		t.Helper()
		script := m.ReadFile(t, clawEntry)
		m.As(m.System()).WriteFile(t, clawEntry, "if (!process.env.GATEWAY_GENERATION) process.on('SIGTERM', () => {});\n"+script, 0o644)
		m.Systemctl(t, "restart", service)
		m.Systemctl(t, append([]string{"start"}, companions...)...)
		c := begin(t, m.Scope, adopting(m.Scope)...)
		for !strings.HasPrefix(strings.Join(c.printed[max(0, len(c.printed)-1):], ""), service+" has not ended yet") {
			if !c.line(t) {
				t.Fatalf("it does not say how to go on:\n%s", strings.Join(c.printed, "\n"))
			}
		}
		m.As(m.System()).WriteFile(t, clawEntry, script, 0o644)
		meanwhile()
		_, command, _ := strings.Cut(c.printed[len(c.printed)-1], "`")
		command, _, _ = strings.Cut(command, "`")
		m.Run(t, "sh", "-c", command)
		for c.line(t) {
		}
		err = c.cmd.Wait()
		return strings.Join(c.printed, "\n") + "\n" + c.said.String(), err
	}
	t.Run("an old one that is deaf", func(t *testing.T) {
		if output, err := deaf(t, func() {}); err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		m.Run(t, undo[0], undo[1:]...)
		intact(t)
	})
	t.Run("an old one that does not start again", func(t *testing.T) {
		folder := "/etc/systemd/" + kind(m.Scope) + "/openclaw-.service.d"
		m.As(m.System()).WriteFile(t, folder+"/bad.conf", "[Service]\nExecStartPre=test ! -e /run/closed\n", 0o644)
		m.Systemctl(t, "daemon-reload")
		m.Run(t, gatewayPath, adopting(m.Scope)[1:]...)
		m.System().Run(t, "touch", "/run/closed")
		if output, err := tried(t, m.Scope, undo...); err == nil || !strings.Contains(output, "where somebody else has its port, `") || !strings.Contains(output, "gateway status "+flag+"` says who") {
			t.Errorf("%v:\n%s", err, output)
		}
		m.System().Run(t, "rm", "-r", "/run/closed", folder)
		m.Systemctl(t, "daemon-reload")
		m.Run(t, undo[0], undo[1:]...)
		intact(t)
	})
	unwritable := func(t *testing.T) {
		const journals, units = "/var/lib/openclaw-gateway.adopt", "/etc/systemd"
		m.Run(t, "mkdir", "-p", journals)
		for _, size := range []string{"4k", "12k", "20k"} {
			m.Run(t, "mount", "-t", "tmpfs", "-o", "mode=711,size="+size, "tmpfs", journals)
			fails(t, "no space left on device")
			m.Run(t, "umount", journals)
			intact(t)
		}
		// It becomes full when the old one has been told to stop.
		m.Run(t, "mount", "-t", "tmpfs", "-o", "mode=711,size=200k", "tmpfs", journals)
		output, err := deaf(t, func() { _, _ = m.Output("sh", "-c", "cat /dev/zero >"+journals+"/full") })
		if err == nil || !strings.Contains(output, "no space left on device") {
			t.Errorf("with a full disk: %v\n%s", err, output)
		}
		if unfinished, _ := m.Output("find", journals, "-name", "unfinished.json"); unfinished != "" {
			t.Errorf("it is half done: %s\n%s", unfinished, output)
		}
		m.Run(t, "umount", journals)
		intact(t)
		readOnly := func() {
			m.Run(t, "mount", "--bind", units, units)
			m.Run(t, "mount", "-o", "remount,ro,bind", units)
		}
		main := m.Unit(t, service).MainPID
		readOnly()
		output, err = tried(t, m.Scope, adopting(m.Scope)...)
		if err == nil || !strings.Contains(output, "read-only file system") || strings.Contains(output, "not everything") {
			t.Errorf("with read-only units: %v\n%s", err, output)
		}
		m.Run(t, "umount", units)
		intact(t)
		if now := m.Unit(t, service).MainPID; now != main {
			t.Errorf("the old one was restarted: its main process is %d, was %d", now, main)
		}
		m.Run(t, adopting(m.Scope)[0], adopting(m.Scope)[1:]...)
		main = m.Unit(t, service).MainPID
		readOnly()
		if output, err := tried(t, m.Scope, undo...); err == nil || !strings.Contains(output, "read-only file system") {
			t.Errorf("given back with read-only units: %v\n%s", err, output)
		}
		if now := m.Unit(t, service).MainPID; now != main {
			t.Errorf("ours was stopped: its main process is %d, was %d", now, main)
		}
		m.Run(t, "umount", units)
		m.Run(t, undo[0], undo[1:]...)
		intact(t)
	}
	if m.User == "" { // only root may mount something
		t.Run("what cannot be written", unwritable)
	}
	t.Run("two at a time", func(t *testing.T) {
		c := begin(t, m.Scope, adopting(m.Scope)...)
		c.after(t, "keeping what is there", 0)
		for _, argv := range [][]string{{gatewayPath, "status"}, {gatewayPath, "doctor"}} {
			if output, _ := tried(t, m.Scope, argv...); strings.Contains(output, "interrupted") {
				t.Errorf("%q takes it for interrupted:\n%s", argv, output)
			}
		}
		if m.User == "" {
			m.Run(t, "useradd", "--create-home", "bob")
			if output, _ := tried(t, m.Scope, "runuser", "-u", "bob", gatewayPath, "doctor"); !strings.Contains(output, "is under way, or was interrupted") || !strings.Contains(output, "sudo gateway adopt --undo") {
				t.Errorf("a stranger is told:\n%s", output)
			}
		}
		for _, argv := range [][]string{adopting(m.Scope), undo} {
			if output, err := tried(t, m.Scope, argv...); err == nil || !strings.Contains(output, "another adoption is under way, by pid") {
				t.Errorf("a second one: %v\n%s", err, output)
			}
		}
		c.end(t, m, unix.SIGTERM)
		intact(t)
	})
	fromInside := func(t *testing.T) {
		inside := "echo $$ >/sys/fs/cgroup" + m.Cgroup(service) + "/cgroup.procs; exec " + strings.Join(adopting(m.Scope), " ")
		if output, err := tried(t, m.Scope, "sh", "-c", inside); err == nil || !strings.Contains(output, "has been started by "+service+" itself") {
			t.Errorf("%v\n%s", err, output)
		}
		intact(t)
	}
	if m.User == "" { // only root may put a process anywhere
		t.Run("from inside", fromInside)
	}
	t.Run("edited since", func(t *testing.T) {
		m.Run(t, adopting(m.Scope)[0], adopting(m.Scope)[1:]...)
		for _, unit := range companions {
			if state := m.Unit(t, unit).ActiveState; state != "active" {
				t.Errorf("%s is %s, and what it depends on runs", unit, state)
			}
		}
		// As "openclaw gateway install --force" does.
		theirs := "[Service]\nExecStart=" + nodePath + " " + clawEntry + " gateway --port 18789\n[Install]\nWantedBy=default.target\n"
		m.Systemctl(t, "stop", service, socket)
		m.WriteFile(t, unitPath(m.Scope, service), theirs, 0o644)
		m.Systemctl(t, "daemon-reload")
		m.Systemctl(t, "start", service)
		said, err := tried(t, m.Scope, adopting(m.Scope)...)
		_, command, told := strings.Cut(said, "runs in its place again: `")
		command, _, _ = strings.Cut(command, "`")
		if err == nil || !told {
			t.Fatalf("what is adopted already is adopted again: %v\n%s", err, said)
		}
		mine := m.ReadFile(t, configPath(m.Scope)) + "# mine\n"
		m.WriteFile(t, configPath(m.Scope), mine, 0o600)
		output, err := tried(t, m.Scope, "sh", "-c", command)
		if err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		for path, content := range map[string]string{configPath(m.Scope): mine, unitPath(m.Scope, service): theirs} {
			kept := journalOf(m.Scope, "openclaw-gateway") + "/edited" + path
			if got := m.ReadFile(t, kept); got != content || !strings.Contains(output, "is kept in "+kept) {
				t.Errorf("%s has %q, want %q\n%s", kept, got, content, output)
			}
		}
		intact(t)
	})
}

// TestAdoptSeveral adopts several services, and one that a package has brought; each is given back by the command that is printed.
func TestAdoptSeveral(t *testing.T) {
	t.Parallel()
	in(t, testAdoptSeveral, place{name: "system of Debian 13", root: debian13}, place{name: "user", user: true})
}

func testAdoptSeveral(t *testing.T, here place) {
	m := here.boot(t, machine.Options{Users: true})
	stale(t, m)
	root := m.As(m.System())
	bob := root.AddUser(t, "bob")
	folder, user, home := "/usr/lib/systemd/system/", "User=claw\n", "/home/claw"
	if m.User != "" {
		folder, user, home = m.Home()+"/.local/share/systemd/user/", "", m.Home()
	}
	const packaged = "moltbot-gateway.service"
	bring := func(environment string) {
		t.Helper()
		m.WriteFile(t, folder+packaged, "[Service]\nType=notify\nNotifyAccess=all\nEnvironment=NOTIFY=1"+environment+"\n"+user+
			"ExecStart="+nodePath+" "+clawEntry+" gateway --port 19001\n[Install]\nWantedBy=default.target\n", 0o644)
		m.Systemctl(t, "daemon-reload")
		m.Systemctl(t, "restart", packaged)
	}
	apart := " OPENCLAW_STATE_DIR=" + home + "/.openclaw-other"
	bring(apart)
	m.Systemctl(t, "enable", packaged)
	dotenv := m.Home() + "/.openclaw/.env"
	if m.User != "" { // as root has made it
		m.WriteFile(t, dotenv, "MINE=1\n", 0o640)
		root.Run(t, "chgrp", "root", dotenv)
	}
	before, flag := everything(t, m, service, packaged), "--"+kind(m.Scope)

	typed := func(words ...string) string {
		t.Helper()
		output, err := tried(t, m.Scope, words...)
		t.Logf("%q: %v\n%s", words, err, output)
		return output
	}
	if output := typed(adopting(m.Scope)...); !strings.Contains(output, "there are 2") {
		t.Errorf("it does not ask which one:\n%s", output)
	}
	adopt := strings.Join([]string{gatewayPath, "adopt", flag, "--yes", service}, " ")
	if m.User != "" { // after su the service is found, and systemctl does not find its manager
		for _, command := range []string{adopt, strings.Replace(adopt, "--yes "+service, "--undo", 1)} {
			output := typed("env", "-u", "XDG_RUNTIME_DIR", "-u", "DBUS_SESSION_BUS_ADDRESS", "sh", "-c", command)
			_, export, _ := strings.Cut(output, "or run \"")
			export, _, _ = strings.Cut(export, "\" first")
			if command == adopt {
				same(t, everything(t, m, service, packaged), before)
				m.Run(t, "env", "-u", "XDG_RUNTIME_DIR", "-u", "DBUS_SESSION_BUS_ADDRESS", "sh", "-c", export+" && "+command)
			} else if !strings.HasPrefix(export, "export ") || !strings.Contains(output, "nothing is changed") {
				t.Errorf("%s:\n%s", command, output)
			}
		}
	} else {
		m.Run(t, "sh", "-c", adopt)
	}
	// The second one has the first one's state directory, until it is given another.
	bring("")
	shared := everything(t, m, service, packaged)
	second := []string{gatewayPath, "adopt", flag, "--yes", packaged, "--name", "other"}
	if output, err := tried(t, m.Scope, second...); err == nil || !strings.Contains(output, home+"/.openclaw is the state directory of the instance default ("+service+")") {
		t.Errorf("two are adopted on one state directory: %v\n%s", err, output)
	}
	same(t, everything(t, m, service, packaged), shared)
	bring(apart)
	m.Run(t, second[0], second[1:]...)
	if m.User != "" {
		if got := m.Run(t, "stat", "-c", "%U %G %a", dotenv); got != "alice alice 600\n" || !strings.Contains(m.ReadFile(t, dotenv), "SUPERVISOR_MODE=external") {
			t.Errorf("%s is %s", dotenv, got)
		}
	}
	if output, err := tried(t, m.Scope, gatewayPath, "adopt", flag, "--yes", packaged); err != nil || !strings.Contains(output, "already") {
		t.Errorf("once more: %v\n%s", err, output)
	}
	for address, want := range map[string]string{ipv4: "generation 1", "127.0.0.1:19001": "generation 1"} {
		if code, body := get(t, m, address, "/"); code != http.StatusOK || !strings.HasPrefix(body, want) {
			t.Errorf("%s is answered by %d %q", address, code, body)
		}
	}
	if state := m.Unit(t, packaged).LoadState; m.User == "" && state != "masked" {
		t.Errorf("%s is %s", packaged, state)
	}
	if output, err := tried(t, bob, gatewayPath, "adopt", "--undo"); err == nil {
		t.Errorf("bob has given something back:\n%s", output)
	} else if _, command, _ := strings.Cut(output, "`"); m.User == "" {
		command, _, _ = strings.Cut(command, "`")
		if output, _ := tried(t, bob, "sh", "-c", command); !strings.Contains(output, "several have been adopted") {
			t.Errorf("%s: %s", command, output)
		}
	}
	if output, err := tried(t, m.Scope, gatewayPath, "adopt", "--undo", "--name", "nope"); err == nil || !strings.Contains(output, "what has been: default") || !strings.Contains(output, "other ("+packaged+")") {
		t.Errorf("giving back what was not adopted: %v\n%s", err, output)
	}
	output := typed(gatewayPath, "adopt", "--undo")
	commands := regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(output, -1)
	if len(commands) != 2 {
		t.Fatalf("it does not say how to give back each:\n%s", output)
	}
	// What is uninstalled meanwhile is given back as well.
	m.Run(t, gatewayPath, "uninstall", flag)
	for _, command := range commands {
		m.Run(t, "sh", "-euc", command[1])
	}
	same(t, everything(t, m, service, packaged), before)
	for _, address := range []string{ipv4, "127.0.0.1:19001"} {
		if code, body := get(t, m, address, "/"); code != http.StatusOK || !strings.HasPrefix(body, "generation undefined") {
			t.Errorf("%s is answered by %d %q", address, code, body)
		}
	}
	if m.User == "" {
		return
	}

	// The services of who has no session go on, until they are given back.
	const lingers = "/var/lib/systemd/linger/alice"
	root.Run(t, "rm", lingers)
	m.Run(t, "rm", folder+packaged, unitPath(m.Scope, "default.target.wants/"+packaged))
	m.Systemctl(t, "daemon-reload")
	// Where that is refused the command is printed, and what somebody has typed stays.
	m.WriteFile(t, m.Home()+"/bin/loginctl", "#!/bin/sh\necho Access denied >&2\nexit 1\n", 0o755)
	output = typed(append([]string{"env", "PATH=" + m.Home() + "/bin:/usr/local/bin:/usr/bin:/bin"}, adopting(m.Scope)...)...)
	_, command, told := strings.Cut(output, "unless you run: ")
	command, _, _ = strings.Cut(command, " (")
	if !told || !strings.Contains(output, "Access denied") {
		t.Fatalf("it does not say that the services end:\n%s", output)
	}
	m.Run(t, "sh", "-euc", command)
	root.Run(t, "test", "-e", lingers)
	m.Run(t, gatewayPath, "adopt", "--undo")
	root.Run(t, "test", "-e", lingers)

	root.Run(t, "rm", lingers)
	m.Run(t, adopting(m.Scope)[0], adopting(m.Scope)[1:]...)
	root.Run(t, "test", "-e", lingers)
	m.Run(t, gatewayPath, "adopt", "--undo")
	root.Run(t, "test", "!", "-e", lingers)
}
