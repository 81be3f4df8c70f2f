package test

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
)

// TestUpgrade: the launcher becomes the program that is installed now, again and again, and nobody notices.
func TestUpgrade(t *testing.T) { inScopes(t, testUpgrade) }

func testUpgrade(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	binds := "listen: [\"" + ipv4 + "\"]\nrestart: {mode: handover}\n" + worker("python3", "-m", "http.server", "--bind", "127.0.0.1", "18789") + "  handoff: intercept\n"
	for _, s := range []struct{ handoff, configuration string }{{"listen-fds", misbehaving("behaves.py")}, {"preload", handed()}, {"intercept", binds}} {
		t.Run(s.handoff, func(t *testing.T) {
			install(t, m.Scope, m, s.configuration)
			get(t, m, ipv4, "/")
			m.Run(t, gatewayPath, "reload") // returns when the worker of this configuration is ready
			serving(t, m.Scope, 1)
			testUpgrades(t, m, here.scaled(numberFrom(t, "UPGRADES", 20)), s.handoff)
			handover := s.handoff != "listen-fds"
			if s.handoff == "preload" {
				t.Run("meanwhile", func(t *testing.T) { testUpgradeMeanwhile(t, m) })
				t.Run("another program", func(t *testing.T) { testUpgradeRefused(t, m) })
				t.Run("a configuration that does not work", func(t *testing.T) { testUpgradeRolledBack(t, m) })
			}
			t.Run("restart", func(t *testing.T) {
				old := gatewayStatus(t, m.Scope).Worker
				inFlight := 0
				if s.handoff != "preload" {
					inFlight = loops // it ends at once
				}
				underLoad(t, m, ipv4, "/", inFlight, func(l *load.Load) {
					m.Run(t, gatewayPath, "restart")
					answered(t, l)
				})
				alone(t, m)
				now := gatewayStatus(t, m.Scope).Worker
				if now.Generation != old.Generation+1 || now.LastExit == nil || now.LastExit.Reason != "restart" || now.LastExit.Signal == "SIGKILL" {
					t.Errorf("after generation %d there is %+v", old.Generation, now)
				}
				if lives := history(t, m); handover && lives[len(lives)-1].ReleasedAfterMS == nil {
					t.Errorf("it was not let in by a generation that an earlier program had started: %+v", lives[len(lives)-1])
				}
				upgrade(t, m)
			})
			t.Run("the worker ends with it", func(t *testing.T) {
				now := gatewayStatus(t, m.Scope)
				worker := handleOf(t, process(t, m, now.Worker.PID))
				kill(t, m, now.Launcher.PID)
				worker.awaitEnd(t)
				get(t, m, ipv4, "/")
				serving(t, m.Scope, 1)
			})
		})
	}
	t.Run("with a standby", func(t *testing.T) {
		install(t, m.Scope, m, strings.Replace(handed(), "backoff_min: 100ms", "backoff_min: 100ms, reset_after: 0s, standby: true", 1))
		get(t, m, ipv4, "/")
		statusText(t, m.Scope, "a standby is parked")
		before := wholeStatus(t, m)
		underLoad(t, m, ipv4, "/", 0, func(*load.Load) {
			for range 3 {
				upgrade(t, m)
				statusText(t, m.Scope, "a standby is parked")
			}
		})
		after := wholeStatus(t, m)
		if after.Successor == nil || after.Successor.PID == before.Successor.PID {
			t.Errorf("the standby is %+v, and was %+v", after.Successor, before.Successor)
		}
		if now := groupsOf(t, m); len(now) != 3 {
			t.Errorf("left is %v", now)
		}
	})
	t.Run("prewarmed", func(t *testing.T) { testUpgradePrewarmed(t, m) })
	t.Run("while it waits", func(t *testing.T) {
		install(t, m.Scope, m, "stop: {timeout: 1s}\n"+handed()[:strings.Index(handed(), "restart:")])
		m.Systemctl(t, "restart", service)
		statusText(t, m.Scope, "waiting for the first client")
		upgrade(t, m)
		statusText(t, m.Scope, "waiting for the first client")
		get(t, m, ipv4, "/")
		serving(t, m.Scope, 1)
	})
}

// testUpgrades upgrades under load.
func testUpgrades(t *testing.T, m *machine.Machine, times int, handoff string) {
	upgrade(t, m) // it opens what it keeps
	sockets, early, before := inodes(t, m), open(t, m), wholeStatus(t, m)
	changed, lives := m.Property(t, service, "StateChangeTimestampMonotonic"), len(history(t, m))
	underLoad(t, m, ipv4, "/", 0, func(l *load.Load) {
		for range times {
			upgrade(t, m)
			answered(t, l)
		}
	})
	after := wholeStatus(t, m)
	if after.Worker.Handoff != handoff || after.Worker.PID != before.Worker.PID || after.Worker.Generation != before.Worker.Generation ||
		after.Worker.ReadyAfterMS != before.Worker.ReadyAfterMS || !after.Worker.Since.Equal(*before.Worker.Since) || !after.Launcher.Since.Equal(*before.Launcher.Since) ||
		!slices.Equal(after.Worker.Ends, before.Worker.Ends) {
		t.Errorf("before: %+v %+v\nand now: %+v %+v", before.Launcher, before.Worker, after.Launcher, after.Worker)
	}
	if now := open(t, m); len(now) > len(early) {
		t.Errorf("the launcher has the descriptors %q, and had %q", now, early)
	}
	unharmed(t, m, sockets)
	if now := m.Property(t, service, "StateChangeTimestampMonotonic"); now != changed {
		t.Errorf("the service was not active all the time: its state changed at %s and %s", changed, now)
	}
	now := history(t, m)
	if len(now) != lives || slices.ContainsFunc(now[:len(now)-1], func(l api.Life) bool { return l.State != "ended" }) || now[len(now)-1].State != "ready" {
		t.Errorf("the history is %+v", now)
	}
}

// testUpgradeMeanwhile: whatever is under way comes to its end first, and one that does not is named.
func testUpgradeMeanwhile(t *testing.T, m *machine.Machine) {
	m.WriteFile(t, configPath(m.Scope), handed("BOOT_MS=1000"), 0o644)
	m.Run(t, gatewayPath, "reload")
	alone(t, m)
	old := wholeStatus(t, m)
	underLoad(t, m, ipv4, "/", 0, func(l *load.Load) {
		m.Run(t, "/bin/sh", "-c", "("+gatewayPath+" restart >/tmp/restarted 2>&1; echo $? >>/tmp/restarted) >/dev/null 2>&1 &")
		statusText(t, m.Scope, "is booting")
		output := m.Run(t, gatewayPath, "upgrade")
		answered(t, l)
		now := wholeStatus(t, m)
		if now.Launcher.PID != old.Launcher.PID || now.Worker.Generation != old.Worker.Generation+1 || now.Launcher.Upgraded == nil {
			t.Errorf("it says %q: %s", output, asText(now))
		}
	})
	if said := m.Run(t, "cat", "/tmp/restarted"); strings.TrimSpace(said) != "0" {
		t.Errorf("the restart says %q", said)
	}
	m.WriteFile(t, configPath(m.Scope), handed(), 0o644)
	m.Run(t, gatewayPath, "reload")
	alone(t, m)
}

// testUpgradeRefused: a program that is none of ours, or that others could have put there, is not executed, or once only and beside.
func testUpgradeRefused(t *testing.T, m *machine.Machine) {
	const program = "/opt/gateway"
	root := m.As(m.System())
	root.Run(t, "cp", gatewayPath, program)
	runs := func(program string) {
		t.Helper()
		arguments := []string{"install", "--" + kind(m.Scope), "--now"}
		if m.User == "" {
			arguments = append(arguments, "--run-as", "root")
		}
		m.Run(t, program, arguments...)
		m.Systemctl(t, "restart", service)
		if command := m.Property(t, service, "ExecStart"); !strings.Contains(command, "path="+program+" ") {
			t.Fatalf("the unit runs %s", command)
		}
		get(t, m, ipv4, "/")
		alone(t, m)
	}
	runs(program)
	upgrade(t, m)
	before := wholeStatus(t, m)
	for _, test := range []struct{ name, program, mode, want string }{
		{"broken", "#!/bin/sh\necho gateway: it is broken >&2\nexit 3\n", "755", "exit status 3: it is broken"},
		{"none", "it is text\n", "755", "exec format error"},
		{"an older one", "#!/bin/sh\nexec " + gatewayPath + " unknown-command\n", "755", "unknown command"},
		{"anybody's", "#!/bin/sh\ntouch /tmp/executed\n", "777", "can be written to by everybody"},
	} {
		root.WriteFile(t, "/opt/other", test.program, 0o755)
		root.Run(t, "chmod", test.mode, "/opt/other")
		root.Run(t, "mv", "/opt/other", program)
		output, err := m.Output(gatewayPath, "upgrade")
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: gateway upgrade says %q, %v; want %q", test.name, output, err, test.want)
		}
		if now := wholeStatus(t, m); now.Launcher.PID != before.Launcher.PID || !now.Launcher.Upgraded.Equal(*before.Launcher.Upgraded) || now.Worker.PID != before.Worker.PID || now.Verdict != before.Verdict {
			t.Errorf("%s: %s", test.name, asText(now))
		}
	}
	if _, err := root.Output("test", "!", "-e", "/tmp/executed"); err != nil {
		t.Error("what anybody can write to was executed")
	}
	if want := "generation-" + strconv.Itoa(before.Worker.Generation); !slices.Equal(groupsOf(t, m), []string{want, "launcher"}) {
		t.Errorf("left is %v", groupsOf(t, m))
	}
	root.Run(t, "sh", "-c", "cp "+gatewayPath+" /opt/other && mv /opt/other "+program)
	upgrade(t, m)
	slow := "#!/bin/sh\ntest $1 = can-upgrade || sleep 3\nexec " + gatewayPath + ` "$@"` + "\n" // longer than an answer may take
	root.WriteFile(t, "/opt/other", slow, 0o755)
	root.Run(t, "mv", "/opt/other", program)
	upgrade(t, m)
	runs(gatewayPath)
}

// testUpgradeRolledBack: what was known of the configuration stays known, and what was edited is applied.
func testUpgradeRolledBack(t *testing.T, m *machine.Machine) {
	m.WriteFile(t, configPath(m.Scope), handed("FAIL_BESIDE=1"), 0o644)
	if _, err := m.Output(gatewayPath, "reload"); err == nil {
		t.Error("a worker that fails is no mistake")
	}
	before := wholeStatus(t, m)
	m.Run(t, gatewayPath, "upgrade")
	after := wholeStatus(t, m)
	if before.Config.State != "rejected" || after.Config != before.Config || after.Worker.PID != before.Worker.PID || after.Launcher.Upgraded == nil {
		t.Errorf("before: %s\nand now %s", asText(before), asText(after))
	}
	m.WriteFile(t, configPath(m.Scope), handed("OTHER=1"), 0o644)
	m.Run(t, gatewayPath, "reload")
	alone(t, m)
	if now := wholeStatus(t, m); now.Config.State != "applied" || now.Worker.PID == before.Worker.PID {
		t.Errorf("what was edited afterwards is not in use: %s", asText(now))
	}
}

// testUpgradePrewarmed: a worker that has been prewarmed is the launcher's as any other, from when its start has been compared on.
func testUpgradePrewarmed(t *testing.T, m *machine.Machine) {
	const main = "/opt/prewarmed/main.js"
	root, p := m.As(m.System()), newPrewarming(m)
	root.Run(t, "mkdir", "-p", path.Dir(main))
	root.WriteFile(t, path.Dir(main)+"/other.js", "", 0o644)
	root.WriteFile(t, main, "require('./other.js');\nrequire('"+workersPath+"/handed.js');\n", 0o644)
	root.Run(t, "rm", "-f", p.list)
	install(t, m.Scope, m, strings.NewReplacer("mode: handover", "prewarm: on", workersPath+"/handed.js", main).Replace(handed()))
	get(t, m, ipv4, "/")
	m.Run(t, gatewayPath, "reload") // returns when the worker of this configuration is ready: the list's directory is there
	serving(t, m.Scope, 1)
	p.learned(t)
	for range 2 {
		life := p.restart(t)
		p.wants(t, life, api.StartPrewarmed, "")
		underLoad(t, m, ipv4, "/", 0, func(l *load.Load) {
			for range 2 {
				upgrade(t, m)
				answered(t, l)
			}
		})
		if now := p.life(t); now.PID != life.PID || now.Start != api.StartPrewarmed || now.State != "ready" {
			t.Errorf("it is %+v, and was %+v", now, life)
		}
	}
}

// upgrade has the launcher become the program that is installed, and looks whether it is the same process with the same worker.
func upgrade(t *testing.T, m *machine.Machine) {
	t.Helper()
	before := wholeStatus(t, m)
	output := m.Run(t, gatewayPath, "upgrade")
	after := wholeStatus(t, m)
	if after.Launcher.PID != before.Launcher.PID || after.Launcher.Upgraded == nil || before.Launcher.Upgraded != nil && !after.Launcher.Upgraded.After(*before.Launcher.Upgraded) ||
		after.Worker.PID != before.Worker.PID || after.Worker.State != before.Worker.State || after.Verdict != before.Verdict || len(after.Problems) > 0 {
		t.Fatalf("gateway upgrade says %q; before\n%s\nand now\n%s", output, asText(before), asText(after))
	}
}

func asText(s api.Status) string {
	text, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return fmt.Sprint(err)
	}
	return string(text)
}
