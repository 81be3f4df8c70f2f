package test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
	"openclaw-gateway/worker/proctree"
)

const (
	// old is the unit that an OpenClaw ran in before there was a gateway.
	old = "openclaw-old.service"

	openclawEntry = "/opt/openclaw/node_modules/openclaw/dist/index.js"
	fakeEntry     = "/opt/fake/node_modules/openclaw/dist/index.js"
	foreignEntry  = "/opt/other/node_modules/other/dist/index.js"
	decoyPath     = "/opt/openclaw-decoy/openclaw.js"
)

// fake is a gateway as far as its command line and its package tell: it listens
// where HOST says, and tells systemd so.
const fake = `
const { execFileSync } = require('node:child_process');
require('node:http').createServer((request, response) => response.end('fake\n'))
  .listen(18789, process.env.HOST, () => execFileSync('systemd-notify', ['--ready']));
`

// TestIncident is the reason for all of this: an OpenClaw of an ordinary user has
// outlived its supervisor and holds the port. Starting the socket unit ends exactly
// that process, and it cannot take the port again.
func TestIncident(t *testing.T) {
	t.Parallel()
	modules := filepath.Dir(filepath.Dir(filepath.Dir(required(t, "OPENCLAW_ENTRY"))))
	m := boot(t, machine.Options{Users: true, Binds: map[string]string{"/opt/openclaw/node_modules": modules}})
	claw := m.AddUser(t, "claw")
	const environment = "OPENCLAW_GATEWAY_TOKEN=a-token-that-is-long-enough-for-a-test"
	command := nodePath + " " + openclawEntry + " gateway run --port 18789 --bind loopback --allow-unconfigured"
	// A state directory of its own, so that it is the port that the two are after.
	writeUnit(t, m, claw, fmt.Sprintf("Environment=%s OPENCLAW_STATE_DIR=/home/claw/old\nExecStart=/bin/sh -c '%s & wait'\nKillMode=process\n", environment, command))
	claw.Systemctl(t, "start", old)
	awaitAnswer(t, m)
	supervisor := claw.Unit(t, old).MainPID
	claw.Systemctl(t, "stop", old)
	orphan := onlyHolder(t, m, ipv4)
	if claw.Unit(t, old).ActiveState == "active" || orphan == supervisor {
		t.Fatalf("the orphan is %d, its supervisor %d still there", orphan, supervisor)
	}
	decoy := startDecoy(t, m, claw)
	end := awaitEnd(t, m, orphan)

	// Before anything is installed.
	found := diagnose(t, m.Scope, gatewayPath)
	if found.exit != 1 || len(found.Findings) == 0 {
		t.Fatalf("gateway doctor found nothing: exit status %d\n%s", found.exit, found.text())
	}
	if f := found.Findings[0]; f.ID != "port-held-by-orphan" || f.Evidence["pid"] != float64(orphan) ||
		!strings.Contains(f.Fix, "gateway reclaim "+ipv4) {
		t.Errorf("gateway doctor does not name the orphan, pid %d, and what ends it:\n%s", orphan, found.text())
	}
	if s := gatewayStatus(t, m.Scope); s.Verdict != "orphan" {
		t.Errorf("the status is %+v, want the verdict orphan", s)
	}

	m.WriteFile(t, "/etc/openclaw-gateway/config.yaml", fmt.Sprintf(`
worker:
  command: [%s]
  environment: [OPENCLAW_SUPERVISOR_MODE=external, OPENCLAW_SERVICE_REPAIR_POLICY=external, %s]
ready:
  path: /startupz
`, strings.ReplaceAll(strings.ReplaceAll(command, "18789", `"18789"`), " ", ", "), environment), 0o644)
	m.Run(t, gatewayPath, "install", "--system", "--run-as", "claw")
	m.Systemctl(t, "enable", "--now", socket)

	journal := m.Journal(t, socket)
	t.Logf("the journal of %s:\n%s", socket, journal)
	for _, words := range []string{"ending a process", fmt.Sprintf("pid=%d", orphan), "role=orphan", "signal=SIGTERM", old} {
		if !strings.Contains(journal, words) {
			t.Errorf("the journal of %s lacks %q", socket, words)
		}
	}
	before := inodes(t, m)
	if want := []string{ipv4, ipv6}; !slices.Equal(slices.Sorted(maps.Keys(before)), want) {
		t.Fatalf("somebody listens on %v, want %v", before, want)
	}
	// On a machine that is busy enough it may let go of the port and end after that.
	end()
	if !alive(t, m, decoy) {
		t.Errorf("the decoy, pid %d, was ended", decoy)
	}
	if code, body := get(t, m, ipv4, "/healthz"); code != http.StatusOK {
		t.Fatalf("GET http://%s/healthz: %d %s", ipv4, code, body)
	}
	serving(t, m.Scope, 1)
	checkFamily(t, m, before)

	// The same one again.
	claw.Systemctl(t, "start", old)
	claw.WaitUnit(t, old, 5*bound, machine.Inactive)
	if journal := claw.Journal(t, old); !strings.Contains(journal, "already listening on ws://"+ipv4) {
		t.Errorf("the journal of %s does not say that the port was taken:\n%s", old, journal)
	}
	checkFamily(t, m, before)
	if code, body := get(t, m, ipv6, "/healthz"); code != http.StatusOK {
		t.Errorf("GET http://%s/healthz: %d %s", ipv6, code, body)
	}
	// And nothing to be ended is found where all is well.
	if output := m.Run(t, gatewayPath, "reclaim"); !strings.Contains(output, "held by systemd, our launcher and its worker alone") {
		t.Errorf("gateway reclaim: %s", output)
	}
}

// TestReclaim goes through all who can hold the port, with a gateway that costs less.
func TestReclaim(t *testing.T) { onBoth(t, testReclaim) }

func testReclaim(t *testing.T, here place) {
	m := here.boot(t, machine.Options{Users: true})
	alice := m.AddUser(t, "alice")
	asAlice := fmt.Sprintf("runuser --pty -u alice -- env XDG_RUNTIME_DIR=/run/user/%d systemctl --user ", alice.UID)
	for name, entry := range map[string]string{"openclaw": fakeEntry, "other": foreignEntry} {
		m.WriteFile(t, entry, fake, 0o644)
		m.WriteFile(t, path.Join(path.Dir(path.Dir(entry)), "package.json"), fmt.Sprintf("{%q: %q}", "name", name), 0o644)
	}
	m.WriteFile(t, "/etc/openclaw-gateway/config.yaml", "{}\n", 0o644)
	m.Run(t, gatewayPath, "install", "--system", "--run-as", "root")

	for _, host := range []string{"0.0.0.0", "::", "::1", "127.0.0.1"} {
		t.Run("orphan on "+host, func(t *testing.T) {
			pid := startOld(t, m, alice, host, wrapped(fakeEntry))
			alice.Systemctl(t, "stop", old)
			output := m.Run(t, gatewayPath, "reclaim", "--dry-run")
			if !strings.Contains(output, fmt.Sprintf("would end orphan pid %d of user alice", pid)) || !alive(t, m, pid) {
				t.Errorf("gateway reclaim --dry-run: %s", output)
			}
			if host == "127.0.0.1" {
				// Others say how the port becomes free.
				for _, verb := range []string{"stop", "run"} {
					if _, err := m.Output(gatewayPath, verb); err == nil || !strings.Contains(err.Error(), "`gateway reclaim "+ipv4+"`") {
						t.Errorf("gateway %s: %v", verb, err)
					}
				}
			}
			output = m.Run(t, gatewayPath, "reclaim", ipv4, ipv6)
			for _, words := range []string{fmt.Sprintf("ending orphan pid %d", pid), "no unit keeps running, left in " + old, "has ended by SIGTERM", "free"} {
				if !strings.Contains(output, words) {
					t.Errorf("gateway reclaim lacks %q: %s", words, output)
				}
			}
			if alive(t, m, pid) {
				t.Errorf("pid %d lives", pid)
			}
		})
	}

	// As in the incident, too: the supervisor is there, and the gateway has left it.
	for _, s := range []*machine.Scope{m.Scope, alice} {
		t.Run("left below a unit of "+scopeName(s), func(t *testing.T) {
			pid := startOld(t, m, s, "0.0.0.0", fmt.Sprintf("/bin/sh -c '(setsid %s %s gateway --port 18789 &); sleep infinity'", nodePath, fakeEntry))
			t.Cleanup(func() { s.Systemctl(t, "stop", old) })
			m.Systemctl(t, "start", socket)
			t.Cleanup(func() { m.Systemctl(t, "stop", socket, service) })
			if alive(t, m, pid) {
				t.Errorf("pid %d lives", pid)
			}
			if code, _ := get(t, m, ipv4, "/healthz"); code != http.StatusOK {
				t.Errorf("%s answered %d", ipv4, code)
			}
		})
	}

	t.Run("another network", func(t *testing.T) {
		writeUnit(t, m, m.Scope, "Type=notify\nPrivateNetwork=yes\nNotifyAccess=all\nKillMode=process\nEnvironment=HOST=127.0.0.1\nExecStart="+wrapped(fakeEntry)+"\n")
		m.Systemctl(t, "start", old)
		t.Cleanup(func() { m.Systemctl(t, "kill", "--signal=KILL", old) })
		m.Run(t, gatewayPath, "reclaim", "--force")
		if state := m.Unit(t, old).ActiveState; state != "active" {
			t.Errorf("the gateway of another network was ended: its unit is %s", state)
		}
	})

	for i, command := range []string{nodePath + " " + fakeEntry + " gateway --port 18789", wrapped(fakeEntry)} {
		s := []*machine.Scope{m.Scope, alice}[i]
		t.Run("rival of "+scopeName(s), func(t *testing.T) {
			pid := startOld(t, m, s, "127.0.0.1", command)
			remedy := "systemctl stop " + old
			if s == alice {
				remedy = asAlice + "stop " + old
			}
			leftAlone(t, m, m.Scope, pid, "rival", remedy)
			if _, err := m.Output("systemctl", "start", socket); err == nil {
				t.Errorf("%s was started although a rival holds the port", socket)
			}
			for _, words := range []string{"role=rival", fmt.Sprintf("pid=%d", pid), remedy} {
				if journal := m.Journal(t, socket); !strings.Contains(journal, words) {
					t.Errorf("the journal of %s lacks %q:\n%s", socket, words, journal)
				}
			}
			if !alive(t, m, pid) || s.Unit(t, old).ActiveState != "active" {
				t.Errorf("the rival was not left alone")
			}
			m.Systemctl(t, "reset-failed", socket)
			m.Run(t, gatewayPath, "reclaim", "--force")
			if alive(t, m, pid) {
				t.Errorf("gateway reclaim --force has not ended pid %d", pid)
			}
		})
	}

	t.Run("foreign", func(t *testing.T) {
		pid := startOld(t, m, alice, "127.0.0.1", wrapped(foreignEntry))
		leftAlone(t, m, m.Scope, pid, "foreign process", asAlice+"stop "+old)
		m.Run(t, gatewayPath, "reclaim", "--force")
		if alive(t, m, pid) {
			t.Errorf("gateway reclaim --force has not ended pid %d", pid)
		}
	})

	t.Run("another user's", func(t *testing.T) {
		bob := m.AddUser(t, "bob")
		pid := startOld(t, m, alice, "127.0.0.1", wrapped(fakeEntry))
		alice.Systemctl(t, "stop", old)
		leftAlone(t, m, bob, pid, "user alice", "could not be looked into", "sudo gateway reclaim --dry-run "+ipv4)
		// Its own user may.
		alice.Run(t, gatewayPath, "reclaim", ipv4)
		if alive(t, m, pid) {
			t.Errorf("pid %d lives", pid)
		}
	})

	t.Run("held as it should be", func(t *testing.T) {
		decoy := startDecoy(t, m, alice)
		m.Systemctl(t, "start", socket)
		for _, s := range []*machine.Scope{m.Scope, alice} {
			if output := s.Run(t, gatewayPath, "reclaim"); !strings.Contains(output, "held by systemd") {
				t.Errorf("gateway reclaim of %s: %s", scopeName(s), output)
			}
		}
		if !alive(t, m, decoy) {
			t.Error("the decoy was ended")
		}
		m.Systemctl(t, "stop", socket, service)
	})

	t.Run("user scope", func(t *testing.T) {
		pid := startOld(t, m, alice, "::", wrapped(fakeEntry))
		alice.Systemctl(t, "stop", old)
		alice.Run(t, gatewayPath, "install", "--user", "--now")
		if alive(t, m, pid) {
			t.Errorf("pid %d lives", pid)
		}
		if journal := lastWords(t, m.As(alice)); !strings.Contains(journal, fmt.Sprintf("pid=%d", pid)) {
			t.Errorf("the journal of %s does not tell of pid %d:\n%s", socket, pid, journal)
		}
		if code, _ := get(t, m, ipv6, "/healthz"); code != http.StatusOK {
			t.Errorf("%s answered %d", ipv6, code)
		}
		if output := alice.Run(t, gatewayPath, "reclaim", "--user"); !strings.Contains(output, "held by systemd") {
			t.Errorf("gateway reclaim --user: %s", output)
		}
		// systemd of alice's is not to be ended, and in the way of another socket unit.
		if _, err := m.Output("systemctl", "start", socket); err == nil {
			t.Errorf("%s was started twice", socket)
		}
		if journal := m.Journal(t, socket); !strings.Contains(journal, "role=systemd") || !strings.Contains(journal, strings.TrimSuffix(asAlice, "systemctl --user ")+"gateway stop --user") {
			t.Errorf("the journal of %s does not say that a user's systemd holds the port:\n%s", socket, journal)
		}
		if code, _ := get(t, m, ipv6, "/healthz"); code != http.StatusOK {
			t.Errorf("%s answered %d", ipv6, code)
		}
	})
}

// wrapped is a command line in which the gateway is a shell's child.
func wrapped(entry string) string {
	return fmt.Sprintf("/bin/sh -c '%s %s gateway --port 18789 & wait'", nodePath, entry)
}

// writeUnit writes the old unit into a scope.
func writeUnit(t testing.TB, m *machine.Machine, s *machine.Scope, settings string) {
	t.Helper()
	directory := "/etc/systemd/system"
	if s.User != "" {
		directory = s.Home() + "/.config/systemd/user"
	}
	m.WriteFile(t, path.Join(directory, old), "[Service]\n"+settings, 0o644)
	if s.User != "" {
		m.Run(t, "chown", "-R", s.User+":", s.Home()+"/.config")
	}
	s.Systemctl(t, "daemon-reload")
}

// startOld starts the old unit with a server on a host's port, and returns the
// server's pid.
func startOld(t testing.TB, m *machine.Machine, s *machine.Scope, host, command string) int {
	t.Helper()
	writeUnit(t, m, s, "Type=notify\nNotifyAccess=all\nKillMode=process\nEnvironment=HOST="+host+"\nExecStart="+command+"\n")
	s.Systemctl(t, "start", old)
	listening := inodes(t, m)
	if len(listening) != 1 {
		t.Fatalf("somebody listens on %v, want one server", listening)
	}
	for address := range listening {
		return onlyHolder(t, m, address)
	}
	return 0
}

// startDecoy starts what only looks like a gateway, as a unit's child.
func startDecoy(t testing.TB, m *machine.Machine, s *machine.Scope) int {
	t.Helper()
	m.WriteFile(t, decoyPath, "setInterval(() => {}, 1 << 30);\n", 0o644)
	arguments := []string{"--unit=decoy", "--", nodePath, decoyPath, "gateway", "--port", "18789"}
	if s.User != "" {
		arguments = append([]string{"--user"}, arguments...)
	}
	s.Run(t, "systemd-run", arguments...)
	return s.Unit(t, "decoy.service").MainPID
}

// leftAlone runs gateway reclaim for a port that it cannot free: it fails, names the
// process and the way out, and the process lives.
func leftAlone(t *testing.T, m *machine.Machine, s *machine.Scope, pid int, words ...string) {
	t.Helper()
	for _, flags := range [][]string{{"reclaim", "--dry-run", ipv4, ipv6}, {"reclaim", ipv4, ipv6}} {
		_, err := s.Output(gatewayPath, flags...)
		if err == nil {
			t.Errorf("gateway %v succeeded", flags)
			continue
		}
		for _, word := range words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("gateway %v lacks %q: %v", flags, word, err)
			}
		}
	}
	if !alive(t, m, pid) {
		t.Errorf("pid %d was ended", pid)
	}
}

func onlyHolder(t testing.TB, m *machine.Machine, address string) int {
	t.Helper()
	found := holding(t, m, inodes(t, m)[address])
	if len(found) != 1 {
		t.Fatalf("%s is held by %v, want one process", address, found)
	}
	return found[0]
}

// awaitEnd returns what waits for the end of a process that lives.
func awaitEnd(t *testing.T, m *machine.Machine, pid int) func() {
	t.Helper()
	onHost, err := proctree.Find(process(t, m, pid).HostPID)
	if err != nil {
		t.Fatal(err)
	}
	handle, err := onHost.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(handle.Close)
	return func() {
		t.Helper()
		if ended, err := handle.Wait(time.Now().Add(2 * bound)); !ended || err != nil {
			t.Errorf("pid %d lives: %v", pid, err)
		}
	}
}

func alive(t testing.TB, m *machine.Machine, pid int) bool {
	t.Helper()
	return slices.ContainsFunc(m.Processes(t), func(p machine.Process) bool { return p.PID == pid })
}

// awaitAnswer returns when somebody answers on the port.
func awaitAnswer(t *testing.T, m *machine.Machine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*bound)
	defer cancel()
	l := load.Start(ctx, load.Options{URL: "http://" + ipv4 + "/healthz", Dial: m.DialContext, Loops: 1, Limit: bound})
	defer l.Stop()
	if err := l.WaitOK(ctx, 1); err != nil {
		t.Fatalf("waiting for somebody to answer: %v", err)
	}
}

func scopeName(s *machine.Scope) string {
	if s.User == "" {
		return "the system"
	}
	return s.User
}
