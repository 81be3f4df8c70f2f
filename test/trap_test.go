package test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"openclaw-gateway/test/machine"
)

const trap = workersPath + "/trap.py"

// lay puts what is no file in the place of one, as a user of the machine.
func lay(t testing.TB, s *machine.Scope, kind, path string) {
	t.Helper()
	s.Run(t, "/usr/bin/python3", trap, "lay", kind, path)
}

// look runs a command of root's, which neither hangs nor fills the memory, and returns what it says.
func look(t testing.TB, m *machine.Machine, command ...string) string {
	t.Helper()
	var cost struct {
		Seconds float64
		KiB     int
		Exit    int
		Output  string
	}
	answer := m.System().Run(t, "/usr/bin/python3", append([]string{trap, "measure", gatewayPath}, command...)...)
	if err := json.Unmarshal([]byte(answer), &cost); err != nil {
		t.Fatalf("%v: %s", err, answer)
	}
	t.Logf("%v: %.2f s, %d MiB", command, cost.Seconds, cost.KiB>>10)
	if cost.Seconds > mostSeconds || cost.KiB > mostKiB || cost.Exit < 0 || cost.Exit > 3 || len(cost.Output) > 1<<20 {
		t.Errorf("%v took %.1f s and %d MiB, exit status %d, and says %d bytes: %.2000s",
			command, cost.Seconds, cost.KiB>>10, cost.Exit, len(cost.Output), cost.Output)
	}
	return cost.Output
}

// TestTraps: whatever another user puts in the place of a file, root's look ends, costs little, and says it.
func TestTraps(t *testing.T) { onBoth(t, testTraps) }

func testTraps(t *testing.T, here place) {
	m := here.boot(t, machine.Options{Users: true})
	alice := m.AddUser(t, "alice")
	theirs := m.As(alice)
	const entry = "/home/alice/node_modules/openclaw/dist/index.js"
	manifest := "/home/alice/node_modules/openclaw/package.json"
	unit, config, environment := unitPath(alice, "trap.service"), configPath(alice), alice.Home()+"/environment"
	right := func(environment string) string {
		return worker(nodePath, entry, "gateway", "--port", "18789") + fmt.Sprintf("  environment_file: %q\n", environment)
	}
	theirs.WriteFile(t, entry, m.ReadFile(t, workersPath+"/openclaw.js"), 0o644)
	theirs.WriteFile(t, manifest, `{"name": "openclaw", "version": "2026.9.6", "engines": {"node": ">=24"}}`, 0o644)
	theirs.WriteFile(t, unit, "[Service]\nExecStart=/bin/true\n", 0o644)
	theirs.WriteFile(t, config, right(environment), 0o644)
	theirs.WriteFile(t, environment, "A=1\n", 0o644)
	detached(t, theirs, nodePath+" "+entry+" gateway --port 18789")
	for _, command := range []string{"doctor", "status", "reclaim --dry-run"} {
		look(t, m, strings.Fields(command)...)
	}
	secret := strings.SplitN(m.ReadFile(t, "/etc/shadow"), "\n", 2)[0]
	says := func(t *testing.T, output string, words ...string) {
		t.Helper()
		for _, word := range words {
			if !strings.Contains(output, word) {
				t.Errorf("doctor does not say %q:\n%.5000s", word, output)
			}
		}
		if secret != "" && strings.Contains(output, secret) {
			t.Errorf("doctor says what is in /etc/shadow:\n%.5000s", output)
		}
	}

	// Links are nobody's mistake: their user follows them, and root looks as that user.
	alice.Run(t, "/bin/sh", "-c", fmt.Sprintf("mkdir ~/dotfiles && mv %s ~/dotfiles && ln -s ~/dotfiles/config.yaml %s", config, config))
	for _, who := range []*machine.Scope{m.System(), alice} {
		if d := diagnose(t, who, gatewayPath); strings.Contains(d.ids(), "config-invalid") || strings.Contains(strings.Join(d.Unknown, "\n"), config) {
			t.Errorf("of a configuration that is a link doctor says\n%s", d.text())
		}
	}

	const pipe, link = "is a named pipe", ""
	for kind, want := range map[string]string{
		"kmsg": link, "zero": link, "shadow": link, "pipe": pipe, "held": pipe, "sparse": "is bigger than", "folder": "is a directory", "socket": "is a socket",
		"brackets": "more than 50000 lines, keys and entries", "bracket": "not valid YAML", "entries": "more than 50000 lines, keys and entries",
	} {
		t.Run(kind, func(t *testing.T) {
			lay(t, alice, kind, unit)
			lay(t, alice, kind, config)
			says(t, look(t, m, "doctor"), config, want)

			theirs.WriteFile(t, config+".new", right(environment), 0o644)
			alice.Run(t, "/bin/sh", "-c", fmt.Sprintf("test ! -d %s || rmdir %s; mv -T %s.new %s", config, config, config, config))
			lay(t, alice, kind, environment)
			lay(t, alice, kind, manifest)
			output := look(t, m, "doctor")
			if !strings.HasPrefix(kind, "bracket") && kind != "entries" {
				says(t, output, environment, want, manifest)
			}
			look(t, m, "status")
			look(t, m, "reclaim", "--dry-run")
		})
	}
	alice.Run(t, "/bin/sh", "-c", "rm -rf "+environment)
	lay(t, alice, "names", environment)
	says(t, look(t, m, "doctor"), "there are more than 10000 variables")
	many := make([]string, 100_000)
	for i := range many {
		many[i] = fmt.Sprintf("127.%d.%d.%d:1", i>>16, i>>8&255, i&255)
	}
	for text, want := range map[string]string{
		right("/*/*/*/*/*/*/*/none*"):                     "looks at more than 10000 names",
		"listen: [" + strings.Join(many, ", ") + "]\n":    "more than 50000 lines, keys and entries",
		"listen: [" + strings.Join(many[:65], ", ") + "]": "listen: has 65 entries: at most 64 are possible",
	} {
		theirs.WriteFile(t, config, text, 0o644)
		says(t, look(t, m, "doctor"), config, want)
	}
}

// TestTrappedLauncher: an edit that leaves no file costs nothing, and keeps no stop waiting.
func TestTrappedLauncher(t *testing.T) { inScopes(t, testTrappedLauncher) }

func testTrappedLauncher(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	config, environment := configPath(m.Scope), m.Home()+"/environment"
	files := map[string]string{
		config:      worker(nodePath, workersPath+"/server.js") + "  environment_file: " + environment + "\n",
		environment: "A=1\n",
	}
	m.WriteFile(t, environment, files[environment], 0o600)
	install(t, m.Scope, m, files[config])
	get(t, m, ipv4, "/")
	serving(t, m.Scope, 1)
	first := gatewayStatus(t, m.Scope)
	traps := map[string]string{"zero": "is a device", "pipe": "is a named pipe", "held": "is a named pipe", "sparse": "is bigger than 8 MiB", "folder": "is a directory"}
	for path, text := range files {
		for kind, want := range traps {
			lay(t, m.Scope, kind, path)
			statusText(t, m.Scope, "generation 1 serves", path+" "+want)
			if output, err := m.Output(gatewayPath, "reload"); err == nil || !strings.Contains(err.Error(), path+" "+want) {
				t.Errorf("%s, %s: gateway reload: %v %s", path, kind, err, output)
			}
			get(t, m, ipv4, "/")
			// It is noticed that it has gone.
			m.WriteFile(t, path+".new", text, 0o600)
			m.Run(t, "/bin/sh", "-c", fmt.Sprintf("test ! -d %s || rmdir %s; mv -T %s.new %s", path, path, path, path))
			m.WaitUnit(t, service, bound, func(u machine.Unit) bool { return !strings.Contains(u.StatusText, path) })
		}
	}
	if now := gatewayStatus(t, m.Scope); now.Worker.PID != first.Worker.PID || now.Launcher.PID != first.Launcher.PID || now.Config.State != "applied" {
		t.Errorf("the status is %+v, want the first worker and launcher and the configuration", now)
	}
	// Also at the start: what worked last goes on without its file, and needs its environment.
	stop := func(kind string) {
		t.Helper()
		m.Systemctl(t, "stop", service)
		// One that has to be killed has failed, by "timeout".
		if unit := m.Unit(t, service); unit.ActiveState != "inactive" || unit.Result != "success" {
			t.Errorf("%s: after the stop %s is %s (%s)", kind, service, unit.ActiveState, unit.Result)
		}
	}
	for kind, want := range traps {
		lay(t, m.Scope, kind, config)
		stop(kind)
		get(t, m, ipv4, "/")
		statusText(t, m.Scope, " serves ", config+" "+want)
	}
	lay(t, m.Scope, "held", environment)
	stop("held")
	if code, _ := get(t, m, ipv4, "/"); code != 503 {
		t.Errorf("without an environment a client gets %d, want the front desk's 503", code)
	}
	statusText(t, m.Scope, config+" is ") // of what has been laid there last
	stop("held")
}
