package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"openclaw-gateway/test/machine"
)

// listed is what "gateway status --json" says without --name.
type listed struct {
	status
	Instance  string   `json:"instance"`
	Instances []listed `json:"instances"`
	Scope     string   `json:"scope"`
	User      string   `json:"user"`
	Addresses []string `json:"addresses"`
}

func instancesOf(t *testing.T, s *machine.Scope, want int, arguments ...string) (l listed) {
	t.Helper()
	text, code := printedStatus(t, s, append([]string{"--json"}, arguments...)...)
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		t.Fatalf("gateway status --json: %v\n%s", err, text)
	}
	if code != want {
		t.Errorf("exit status %d, want %d\n%s", code, want, text)
	}
	return l
}

func (l listed) names() string {
	var names []string
	for _, i := range l.Instances {
		names = append(names, fmt.Sprintf("%s/%s%s %s %s", i.Scope, i.User, i.Instance, i.Verdict, strings.Join(i.Addresses, " ")))
	}
	return strings.Join(names, "; ")
}

// TestInstances: several launchers in both scopes, none of which is in another's way.
func TestInstances(t *testing.T) { onBoth(t, testInstances) }

func testInstances(t *testing.T, here place) {
	m := here.boot(t, machine.Options{Users: true})
	root, alice := m.Scope, m.AddUser(t, "alice")
	fails := func(s *machine.Scope, words []string, arguments ...string) {
		t.Helper()
		output, err := s.Output(gatewayPath, arguments...)
		if err == nil {
			t.Errorf("gateway %q succeeds:\n%s", arguments, output)
		}
		wantWords(t, output+errorText(err), words...)
	}
	const workAddress, labAddress = "127.0.0.1:18809", "127.0.0.1:18829"

	root.Run(t, gatewayPath, "install", "--system", "--run-as", "root", "--now")
	// One instance is shown in full.
	wantStatus(t, root, 0, "waiting", "the first client of 127.0.0.1:18789")
	m.WriteFile(t, "/etc/work.yaml", "listen: [\""+workAddress+"\"]\n", 0o644)
	fails(root, []string{"openclaw-gateway.service of the system scope", "/etc/openclaw-gateway/config.yaml", "--name NAME --config /etc/work.yaml"},
		"install", "--system", "--config", "/etc/work.yaml", "--now")
	fails(alice, []string{"openclaw-gateway.socket of the system scope"}, "install", "--user", "--now")
	m.WriteFile(t, "/etc/same.yaml", "listen: [\"0.0.0.0:18789\"]\n", 0o644)
	fails(root, []string{"openclaw-gateway.socket of the system scope"}, "install", "--system", "--name", "same", "--run-as", "root", "--config", "/etc/same.yaml", "--now")
	root.Run(t, gatewayPath, "install", "--system", "--run-as", "root", "--name", "work", "--config", "/etc/work.yaml", "--now")
	alice.Run(t, gatewayPath, "install", "--user", "--name", "lab", "--now")
	fails(root, []string{"openclaw-gateway-lab.socket of user alice"}, "install", "--system", "--name", "three", "--run-as", "root", "--config", lab(t, m), "--now")

	for _, address := range []string{ipv4, workAddress, labAddress} {
		if code, _ := get(t, m, address, "/healthz"); code != http.StatusOK {
			t.Errorf("%s answered %d", address, code)
		}
	}
	for _, directory := range []string{"/run/openclaw-gateway", "/run/openclaw-gateway-work", alice.RuntimeDir() + "/openclaw-gateway-lab"} {
		root.Run(t, "test", "-S", directory+"/control.sock")
	}

	t.Run("status", func(t *testing.T) {
		want := "system/ ok 127.0.0.1:18789 [::1]:18789; system/work ok 127.0.0.1:18809; user/alicelab ok 127.0.0.1:18829 [::1]:18829"
		l := instancesOf(t, root, 0)
		if l.names() != want || l.Instance != "" || l.Unit.Name != service || l.Verdict != "ok" {
			t.Errorf("gateway status --json of root: %q of %s with %s, want %s", l.Instance, l.Unit.Name, l.names(), want)
		}
		text, code := printedStatus(t, root)
		lines := strings.Split(text, "\n")
		if code != 0 || len(lines) < 3 || !strings.HasPrefix(lines[0], "default ") || !strings.HasPrefix(lines[1], "work ") || !strings.HasPrefix(lines[2], "lab ") ||
			!strings.Contains(lines[2], "user alice  ok: generation 1 serves "+labAddress) {
			t.Errorf("exit status %d, and\n%s", code, text)
		}
		for _, arguments := range [][]string{{"--name", "work"}, {"--name=work", "--system"}} {
			if l := instancesOf(t, root, 0, arguments...); l.Instance != "work" || l.Instances != nil || l.Unit.Name != "openclaw-gateway-work.service" {
				t.Errorf("gateway status %q: %+v", arguments, l)
			}
		}
		if l := instancesOf(t, root, 0, "--name", "default"); l.Instance != "" || l.Unit.Name != service {
			t.Errorf("gateway status --name default: %+v", l)
		}
		if l := instancesOf(t, root, 0, "--name", "lab"); l.Instance != "lab" || l.Unit.User != "alice" {
			t.Errorf("gateway status --name lab of root: %+v", l)
		}
		if text, _ := printedStatus(t, root, "--name", "work"); !strings.HasPrefix(text, "ok: generation 1 serves "+workAddress) {
			t.Errorf("gateway status --name work:\n%s", text)
		}
		if text, _ := printedStatus(t, root, "--full"); strings.Count(text, ", main pid ") != 3 {
			t.Errorf("gateway status --full:\n%s", text)
		}
		// Of the system's she is told what systemd says.
		if l := instancesOf(t, alice, 0); len(l.Instances) != 3 || l.Instance != "" {
			t.Errorf("gateway status --json of alice: %s", l.names())
		}
		if text, code := printedStatus(t, root, "--name", "nosuch", "--json"); code != 3 || !json.Valid([]byte(text)) {
			t.Errorf("gateway status of none: exit status %d, %s", code, text)
		}
		for _, verb := range []string{"status", "restart", "reload", "stop", "start", "logs", "doctor"} {
			fails(root, []string{"nosuch", "default in system scope and work in system scope"}, verb, "--name", "nosuch")
		}
	})

	t.Run("verbs", func(t *testing.T) {
		generations := func() (all []int) {
			for _, of := range []struct {
				s    *machine.Scope
				name string
			}{{root, "default"}, {root, "work"}, {alice, "lab"}} {
				all = append(all, instancesOf(t, of.s, 0, "--name", of.name).Worker.Generation)
			}
			return all
		}
		root.Run(t, gatewayPath, "restart", "--name", "work")
		alice.Run(t, gatewayPath, "restart", "--name", "lab")
		alice.Run(t, gatewayPath, "restart", "--user") // the only one of hers
		root.Run(t, gatewayPath, "reload")
		if got := generations(); !slices.Equal(got, []int{1, 2, 3}) {
			t.Errorf("the generations are %v, want 1, 2, 3", got)
		}
		root.Run(t, gatewayPath, "restart") // the default one
		if got := generations(); !slices.Equal(got, []int{2, 2, 3}) {
			t.Errorf("the generations are %v, want 2, 2, 3", got)
		}
		root.Systemctl(t, "reload", "openclaw-gateway-work.service")

		root.Run(t, gatewayPath, "stop", "--name", "work")
		if l := instancesOf(t, root, 3); !strings.Contains(l.names(), "system/work down") || l.Verdict != "ok" {
			t.Errorf("with one stopped: %s, %s", l.Verdict, l.names())
		}
		text, _ := printedStatus(t, root, "--name", "work")
		_, start, _ := strings.Cut(text, `"`)
		start, _, _ = strings.Cut(start, `"`)
		if start != "systemctl enable --now openclaw-gateway-work.socket" {
			t.Errorf("the way out is %q:\n%s", start, text)
		}
		root.Run(t, "/bin/sh", "-c", start)
		if code, _ := get(t, m, workAddress, "/healthz"); code != http.StatusOK {
			t.Errorf("after that %s answered %d", workAddress, code)
		}
		if text := root.Run(t, gatewayPath, "logs", "--name", "work", "-o", "json"); !strings.Contains(text, "openclaw-gateway-work.service") || strings.Contains(text, `"openclaw-gateway.service"`) {
			t.Errorf("gateway logs --name work is of others:\n%.2000s", text)
		}
		wantWords(t, root.Run(t, gatewayPath, "metrics", "--name", "work"), `gateway_up{name="work"} 1`)
		wantWords(t, root.Run(t, gatewayPath, "metrics"), `gateway_up{scope="system"} 1`, `gateway_up{scope="system",name="work"} 1`, `gateway_up{scope="user",user="alice",name="lab"} 1`)
		if text := root.Run(t, gatewayPath, "__complete", "status", "--name", ""); !strings.Contains(text, "work\tsystem scope\n") || !strings.Contains(text, "default\t") {
			t.Errorf("the names are completed with\n%s", text)
		}
		if text := root.Run(t, gatewayPath, "config", "check", "--name", "work"); !strings.HasPrefix(text, "/etc/work.yaml: valid\n") || !strings.Contains(text, "nothing would change") {
			t.Errorf("gateway config check --name work:\n%s", text)
		}
		if text := root.Run(t, gatewayPath, "config", "show", "--name", "work"); !strings.Contains(text, workAddress) {
			t.Errorf("gateway config show --name work:\n%s", text)
		}
		if text := root.Run(t, gatewayPath, "reclaim", "--name", "work"); !strings.Contains(text, workAddress+": held by systemd") {
			t.Errorf("gateway reclaim --name work:\n%s", text)
		}
	})

	t.Run("doctor", func(t *testing.T) {
		text := root.Run(t, gatewayPath, "doctor")
		wantWords(t, text, "default of the system scope: nothing found\n", "work of the system scope: nothing found\n", "lab of user alice: nothing found\n")
		if text := root.Run(t, gatewayPath, "doctor", "--name", "work"); text != "nothing found: openclaw-gateway-work.service of the system scope on "+workAddress+"\n" {
			t.Errorf("gateway doctor --name work:\n%s", text)
		}
		// What a drop-in takes from another one is named with that one, and with what it is of.
		drop(t, m, "openclaw-gateway-work.socket", "[Socket]\nListenStream=127.0.0.1:18829\n")
		drop(t, m, "openclaw-gateway-work.service", "[Service]\nRuntimeDirectory=\nRuntimeDirectory=openclaw-gateway\n")
		root.Systemctl(t, "daemon-reload")
		d := diagnose(t, root, gatewayPath, "--name", "work")
		for _, words := range []string{
			"openclaw-gateway-work.socket of the system scope and openclaw-gateway-lab.socket of user alice want 127.0.0.1:18829",
			"RuntimeDirectory=openclaw-gateway", "127.0.0.1:18829 is opened too",
		} {
			if !strings.Contains(d.text(), words) {
				t.Errorf("gateway doctor --name work does not say %q:\n%s", words, d.text())
			}
		}
		for _, f := range d.Findings {
			if f.ID == "unit-overridden" {
				root.Run(t, "/bin/sh", "-c", f.Fix)
			}
		}
		if text := root.Run(t, gatewayPath, "doctor", "--name", "work"); !strings.HasPrefix(text, "nothing found") {
			t.Errorf("after the command:\n%s", text)
		}
		stopProcess(t, m, instancesOf(t, root, 0, "--name", "work").Launcher.PID)
		output, _ := root.Output(gatewayPath, "doctor")
		_, command, _ := strings.Cut(output, "work of the system scope: launcher-not-answering; `")
		command, _, _ = strings.Cut(command, "`")
		output, _ = root.Output("/bin/sh", "-c", command)
		if !strings.Contains(output, "error: launcher-not-answering") || !strings.Contains(output, "openclaw-gateway-work.service") {
			t.Errorf("%s:\n%s", command, output)
		}
		_, fix, _ := strings.Cut(output, "fix: ")
		fix, _, _ = strings.Cut(fix, "\n\n")
		root.Run(t, "/bin/sh", "-c", strings.ReplaceAll(fix, "\n", " "))
		if code, _ := get(t, m, workAddress, "/healthz"); code != http.StatusOK {
			t.Errorf("after %s: %d", fix, code)
		}
	})

	t.Run("a profile of OpenClaw's own", func(t *testing.T) {
		m.As(alice).WriteFile(t, unitPath(alice, "openclaw-gateway-prof.service"),
			"[Service]\nExecStart=/usr/bin/node "+clawEntry+" gateway --port 19001\nEnvironment=OPENCLAW_SERVICE_MARKER=openclaw\n", 0o644)
		alice.Systemctl(t, "daemon-reload")
		if l := instancesOf(t, alice, 0); strings.Contains(l.names(), "prof") {
			t.Errorf("it is an instance: %s", l.names())
		}
		fails(alice, []string{"openclaw-gateway-prof.service in user scope is OpenClaw's own, of its profile prof"}, "status", "--name", "prof")
		fails(alice, []string{"openclaw-gateway-prof.service was not written by this program"}, "install", "--user", "--name", "prof")
	})

	t.Run("by hand", func(t *testing.T) {
		fails(root, []string{"there is no configuration of an instance typo", "write /etc/openclaw-gateway-typo/config.yaml"}, "run", "--name", "typo")
		fails(root, []string{"--config names no file"}, "run", "--config", "")
		m.WriteFile(t, "/etc/hand.yaml", "listen: [\"127.0.0.1:18849\"]\n", 0o644)
		runByHand(t, m, "--name", "hand", "--config", "/etc/hand.yaml")
		if l := instancesOf(t, root, 0, "--name", "hand"); l.Instance != "hand" || l.Unit.Scope != "none" {
			t.Errorf("the status is %+v", l)
		}
		if l := instancesOf(t, root, 0); !strings.Contains(l.names(), "system/hand waiting 127.0.0.1:18849") {
			t.Errorf("the instances are %s", l.names())
		}
	})

	t.Run("alarm", func(t *testing.T) {
		alarm := "alarm: {after: 10ms, command: [/bin/sh, -c, 'echo \"of $GATEWAY_INSTANCE\" >/run/rang']}\n"
		// One that works comes first: what is taken back takes its alarm with it.
		m.WriteFile(t, "/etc/work.yaml", "listen: [\""+workAddress+"\"]\n"+alarm, 0o644)
		root.Run(t, gatewayPath, "reload", "--name", "work")
		m.WriteFile(t, "/etc/work.yaml", "listen: [\""+workAddress+"\"]\nworker: {command: [/bin/false], start: at-once}\n"+alarm, 0o644)
		_, err := root.Output(gatewayPath, "restart", "--name", "work")
		root.WaitJournal(t, "openclaw-gateway-work.service", bound, "alarm event=")
		m.WaitFile(t, "/run/rang", bound, func(content string, _ error) bool { return content == "of work\n" })
		if text := root.Run(t, gatewayPath, "status", "--name", "default"); !strings.HasPrefix(text, "ok") {
			t.Errorf("%v, and the default instance is\n%s", err, text)
		}
		text, _ := printedStatus(t, root)
		wantWords(t, text, "\nwork ", "problem)")
	})

	t.Run("one state directory", func(t *testing.T) {
		const directory = "/home/alice/.openclaw"
		claw := func(port int, more string) string {
			return fmt.Sprintf("listen: [\"127.0.0.1:%d\"]\nworker: {command: [%s, %s, %sgateway, --port, \"%d\"]}\n", port, nodePath, clawEntry, more, port)
		}
		m.WriteFile(t, clawEntry, "", 0o644)
		m.WriteFile(t, filepath.Dir(filepath.Dir(clawEntry))+"/package.json", `{"name": "openclaw", "version": "2026.9.6"}`, 0o644)
		m.WriteFile(t, "/etc/first.yaml", claw(18869, ""), 0o644)
		root.Run(t, gatewayPath, "install", "--system", "--name", "first", "--run-as", "alice", "--config", "/etc/first.yaml", "--now")
		second := "/home/alice/second.yaml"
		m.As(alice).WriteFile(t, second, claw(18889, ""), 0o600)
		refused := []string{directory + " is the state directory", "openclaw-gateway-first.service of the system scope", second}
		fails(alice, refused, "install", "--user", "--name", "second", "--config", second, "--now")
		fails(root, refused, "install", "--system", "--name", "second", "--run-as", "alice", "--config", second, "--now")
		m.As(alice).WriteFile(t, unitPath(alice, "bot.service"), "[Service]\nExecStart="+nodePath+" "+clawEntry+" gateway --port 18889\n", 0o644)
		alice.Systemctl(t, "daemon-reload")
		fails(alice, []string{directory + " is the state directory of the instance first"}, "adopt", "bot", "--name", "bot", "--dry-run")
		// With a profile of its own it may; and what an edit makes of that doctor tells.
		m.As(alice).WriteFile(t, second, claw(18889, "--profile, two, "), 0o600)
		alice.Run(t, gatewayPath, "install", "--user", "--name", "second", "--config", second, "--now")
		silentOf := func(s *machine.Scope) {
			t.Helper()
			if d := diagnose(t, s, gatewayPath); strings.Contains(d.ids(), "state-shared") {
				t.Errorf("gateway doctor of %q:\n%s", s.User, d.text())
			}
		}
		silentOf(root)
		m.As(alice).WriteFile(t, second, claw(18889, ""), 0o600)
		m.WriteFile(t, "/usr/local/bin/editor", "#!/bin/sh\nsed -i s/gateway,/--profile,two,gateway,/ \"$1\"\n", 0o755)
		for _, s := range []*machine.Scope{root, alice} {
			d := diagnose(t, s, gatewayPath)
			at := slices.IndexFunc(d.Findings, func(f finding) bool { return f.ID == "state-shared" })
			if at < 0 {
				t.Fatalf("gateway doctor of %q does not say that two share %s:\n%s", s.User, directory, d.text())
			}
			wantWords(t, d.text(), "openclaw-gateway-first.service of the system scope", "openclaw-gateway-second.service of user alice", directory)
			// It opens the file.
			s.Run(t, "/bin/sh", "-c", "EDITOR=/usr/local/bin/editor; export EDITOR; "+d.Findings[at].Fix)
			silentOf(s)
			m.As(alice).WriteFile(t, second, claw(18889, ""), 0o600)
		}
		alice.Run(t, gatewayPath, "uninstall", "--user", "--name", "second")
		root.Run(t, gatewayPath, "uninstall", "--system", "--name", "first")
		alice.Run(t, "rm", unitPath(alice, "bot.service"))
		alice.Systemctl(t, "daemon-reload")
	})

	fails(root, []string{"nosuch", "default in system scope"}, "uninstall", "--system", "--name", "nosuch")
	root.Run(t, gatewayPath, "uninstall", "--system", "--name", "work")
	if code, _ := get(t, m, ipv4, "/healthz"); code != http.StatusOK {
		t.Errorf("without the other instance %s answered %d", ipv4, code)
	}
	fails(root, []string{"there is no such instance: work"}, "status", "--name", "work")
}

// lab writes a configuration with the port of alice's.
func lab(t *testing.T, m *machine.Machine) string {
	m.WriteFile(t, "/etc/three.yaml", "listen: [\"127.0.0.1:18829\"]\n", 0o644)
	return "/etc/three.yaml"
}
