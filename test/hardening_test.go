package test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"openclaw-gateway/test/machine"
)

// shell has the worker run a script, and returns what it says and whether it succeeded.
func shell(t *testing.T, m *machine.Machine, script string) (said string, ok bool) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+ipv4+"/", strings.NewReader(script))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := m.HTTP().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(body)), answer.StatusCode == http.StatusOK
}

// exposure is what "systemd-analyze security" makes of a unit.
func exposure(t *testing.T, s *machine.Scope, unit string) (score string) {
	t.Helper()
	said := s.Run(t, "systemd-analyze", append(flagsOf(s), "security", "--no-pager", unit)...)
	_, rest, found := strings.Cut(said, "exposure level for "+unit+": ")
	if score, _, _ = strings.Cut(rest, " "); !found || score == "" {
		t.Fatalf("systemd-analyze security says no score:\n%s", said)
	}
	return score
}

// TestHardening: what the units forbid by default leaves the worker all that it had, sudo above all; what they forbid with
// --hardened it has no more, and everything of the launcher's works all the same.
func TestHardening(t *testing.T) { everywhere(t, testHardening) }

func testHardening(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	root := m.As(m.System())
	root.WriteFile(t, "/etc/sudoers.d/test", "ALL ALL=(ALL) NOPASSWD: ALL\n", 0o440)
	root.Run(t, "mkdir", "-p", "/srv", "/run/user/4711")
	root.Run(t, "chmod", "1777", "/srv", "/tmp")
	scope, flags, home := "--"+kind(m.Scope), []string(nil), ""
	if !here.user {
		root.Run(t, "useradd", "--create-home", "claw")
		flags, home = []string{"--run-as", "claw"}, "/home/claw"
	} else {
		home = m.Home()
	}
	configuration := "listen: ['" + ipv4 + "']\n" + worker(nodePath, workersPath+"/shell.js") + impatient
	install(t, m.Scope, m, configuration, flags...)
	if !here.user {
		root.Run(t, "chown", "claw:", configPath(m.Scope))
	}

	can := func(want bool, script string) {
		t.Helper()
		if said, ok := shell(t, m, script); ok != want {
			t.Errorf("%s: %v, %s", script, ok, said)
		}
	}
	const sees, rights = "test -d /proc/1", "test $(sudo -n id -u) = 0"
	outside := "touch /srv/outside"
	can(true, rights)
	can(true, "sudo -n touch /usr/outside")
	can(true, outside)
	can(true, sees)
	can(true, "grep -q 'NoNewPrivs:.0' /proc/self/status")
	// What the unit was before it had a sandbox.
	text := m.ReadFile(t, unitPath(m.Scope, service))
	plain, _, _ := strings.Cut(text, "# What is forbidden here")
	if plain == text {
		t.Fatalf("no sandbox in the unit:\n%s", text)
	}
	m.WriteFile(t, unitPath(m.Scope, "plain.service"), plain, 0o644)
	m.Systemctl(t, "daemon-reload")
	before, byDefault := exposure(t, m.Scope, "plain.service"), exposure(t, m.Scope, service)

	ask := func(flags ...string) string {
		t.Helper()
		output, err := m.Command(t.Context(), gatewayPath, append([]string{"install", scope}, flags...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("gateway install %v: %v\n%s", flags, err, output)
		}
		return string(output)
	}
	if said := ask("--hardened", "--dry-run"); !strings.Contains(said, "+NoNewPrivileges=yes") || !strings.Contains(said, "sudo") {
		t.Errorf("a dry run does not show what would be forbidden:\n%s", said)
	}
	if said := ask(); strings.Count(said, "unchanged ") != 2 {
		t.Errorf("gateway install changes something:\n%s", said)
	}
	if said := ask("--hardened"); !strings.Contains(said, "no rights by sudo") || !strings.Contains(said, "--hardened=false") {
		t.Errorf("what it costs is not said:\n%s", said)
	}
	m.Systemctl(t, "restart", service)
	can(false, rights)
	can(true, "grep -q 'NoNewPrivs:.1' /proc/self/status")
	can(true, "touch "+home+"/inside /tmp/inside && stat -c %a "+home+"/inside | grep -qx 600")
	// In a user's scope 252 does nothing of what needs a mount namespace, and no systemd mounts another /proc.
	namespaces := !here.user || here.root != ""
	can(!namespaces, outside)
	can(here.user, "test -d /run/user/4711")
	can(here.user, sees)

	// The launcher's own: the worker's cgroup, strays, an edit, a crash, its control socket for its user and for root.
	said, _ := shell(t, m, "setsid sleep 1000 >/dev/null 2>&1 & echo $!")
	var pid int
	if _, err := fmt.Sscan(said, &pid); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	stray := handleOf(t, process(t, m, pid))
	s := gatewayStatus(t, m.Scope)
	if got, want := process(t, m, s.Worker.PID).Cgroup, fmt.Sprintf("%s/generation-%d", m.Cgroup(service), s.Worker.Generation); got != want {
		t.Errorf("the worker is in %s, want %s", got, want)
	}
	m.Run(t, gatewayPath, "restart")
	stray.awaitEnd(t)
	serving(t, m.Scope, s.Worker.Generation+1)
	m.WriteFile(t, configPath(m.Scope), configuration+"log: {level: debug}\n", 0o600)
	if !here.user {
		root.Run(t, "chown", "claw:", configPath(m.Scope))
	}
	m.WaitJournal(t, service, bound, "log.level")
	kill(t, m, gatewayStatus(t, m.Scope).Worker.PID)
	serving(t, m.Scope, s.Worker.Generation+2)
	silent(t, m.Scope)
	silent(t, root.Scope)
	if s := gatewayStatus(t, m.Scope); s.Verdict != "ok" || len(s.Problems) > 0 {
		t.Errorf("the status is %+v", s)
	}
	m.Run(t, gatewayPath, "reload")
	hardened := exposure(t, m.Scope, service)

	// It stays until it is taken back.
	if said := ask(); strings.Count(said, "unchanged ") != 2 {
		t.Errorf("gateway install does not keep what is hardened:\n%s", said)
	}
	if said := ask("--hardened=false"); !strings.Contains(said, "no longer hardened") || m.ReadFile(t, unitPath(m.Scope, service)) != text {
		t.Errorf("what was hardened is not taken back:\n%s", said)
	}
	m.Systemctl(t, "restart", service)
	can(true, rights)
	scores(t, here, before, byDefault, hardened)
}

// scores prints what "systemd-analyze security" says, where "make test" shows it, and compares it with docs/hardening.md and README.md.
func scores(t *testing.T, here place, before, byDefault, hardened string) {
	t.Helper()
	scope := "the machine's units"
	if here.user {
		scope = "a user's own units"
	}
	page, err := os.ReadFile("../docs/hardening.md")
	if row := fmt.Sprintf("| %s | %s | %s | %s |", scope, before, byDefault, hardened); err != nil || !strings.Contains(string(page), row) {
		t.Errorf("docs/hardening.md lacks %s (%v)", row, err)
	}
	readme, err := os.ReadFile("../README.md")
	if both := fmt.Sprintf("%s instead of %s", hardened, before); err != nil || !strings.Contains(string(readme), both) {
		t.Errorf("README.md lacks %s (%v)", both, err)
	}
	t.Logf("systemd-analyze security: %s before, %s by default, %s with --hardened", before, byDefault, hardened)
	if path := os.Getenv("SCORES"); path != "" {
		file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(file, "systemd-analyze security (%s): %s without a sandbox, %s by default, %s with --hardened\n", here.name, before, byDefault, hardened)
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestRefusedBirth: a unit under which no process can be born in a control group has its worker in one all the same.
func TestRefusedBirth(t *testing.T) { inScopes(t, testRefusedBirth) }

func testRefusedBirth(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	install(t, m.Scope, m, "{}\n")
	for _, test := range []struct{ name, configuration, lines string }{
		{"Node.js", worker(nodePath, workersPath+"/server.js"), "RestrictNamespaces=yes"},
		{"listen-fds", worker("/usr/bin/python3", workersPath+"/listenfds.py"), "RestrictNamespaces=yes"},
		// With another error than ENOSYS the C library starts no threads: the built-in server does without it.
		{"another error", "{}\n", "SystemCallFilter=~clone3:EPERM"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dropIn(t, m, test.lines+"\n")
			m.WriteFile(t, configPath(m.Scope), test.configuration, 0o644)
			m.Systemctl(t, "restart", service)
			for generation := 1; generation <= 3; generation++ {
				if code, body := get(t, m, ipv4, "/"); code != 200 {
					t.Fatalf("%d %s", code, body)
				}
				serving(t, m.Scope, generation)
				s := gatewayStatus(t, m.Scope)
				want := fmt.Sprintf("%s/generation-%d", m.Cgroup(service), s.Worker.Generation)
				if worker := process(t, m, s.Worker.PID); worker.Cgroup != want || worker.ParentPID != s.Launcher.PID {
					t.Errorf("the worker is %+v, want it in %s", worker, want)
				}
				m.Run(t, gatewayPath, "restart")
			}
			silent(t, m.Scope)
		})
	}
	// systemd would end it, too.
	dropIn(t, m, "RestrictNamespaces=yes\nKillMode=process\nRestart=no\n")
	m.Systemctl(t, "restart", service)
	get(t, m, ipv4, "/")
	serving(t, m.Scope, 1)
	s := gatewayStatus(t, m.Scope)
	ended := handleOf(t, process(t, m, s.Worker.PID))
	kill(t, m, s.Launcher.PID)
	ended.awaitEnd(t)
}
