package test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
)

// TestEdits: saving the file is all that is asked of anybody.
func TestEdits(t *testing.T) { inScopes(t, testEdits) }

func testEdits(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	file := configPath(m.Scope)
	folder := filepath.Dir(file)
	with := func(name string) string {
		return worker(nodePath, workersPath+"/server.js") + "  environment: [BOOT_MS=50, NAME=" + name + "]\n"
	}
	install(t, m.Scope, m, with("start"))
	get(t, m, ipv4, "/")
	serving(t, m.Scope, 1)

	// Half of it is no YAML, and the launcher looks after a second at the latest.
	slowly := `/usr/bin/python3 -c "
import time
new = open('/tmp/new').read()
with open('` + file + `', 'w') as file:
    for i in range(0, len(new), 10):
        file.write(new[i:i + 10])
        file.flush()
        time.sleep(0.1)
"`
	// The launcher, stopped meanwhile, finds them all at once: on a busy machine they may take longer than what it waits for more.
	fiveTimes := "kill -STOP $LAUNCHER; for name in NAME=1 NAME=2 NAME=3 NAME=4 NAME=; do sed s/NAME=/$name/ /tmp/new > " + file + "; done; kill -CONT $LAUNCHER"
	tests := []struct{ name, script string }{
		{"in place", "cat > " + file + " < /tmp/new"},
		{"renamed over", "cp /tmp/new " + folder + "/.new && mv " + folder + "/.new " + file},
		{"sed -i", "sed -i s/NAME=[a-z]*/NAME=sed/ " + file},
		{"deleted and made again", "rm " + file + " && cp /tmp/new " + file},
		{"five times in a second", fiveTimes},
		{"through a link", "mkdir -p ~/edition && cp /tmp/new ~/edition/config.yaml && ln -sfn ~/edition/config.yaml " + file},
		{"a volume of Kubernetes", "cd " + folder + " && mkdir ..1 && cp /tmp/new ..1/config.yaml && ln -s ..1 ..data && ln -sfn ..data/config.yaml config.yaml"},
		{"its next version", "cd " + folder + " && mkdir ..2 && cp /tmp/new ..2/config.yaml && ln -s ..2 ..tmp && mv -T ..tmp ..data"},
		{"written slowly", slowly},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			old := gatewayStatus(t, m.Scope)
			k := &keyWalk{Machine: m}
			k.mark(t)
			m.WriteFile(t, "/tmp/new", with(strings.Repeat("x", i+1)), 0o644)
			underLoad(t, m, ipv4, "/", loops, func(*load.Load) {
				m.Run(t, "env", fmt.Sprint("LAUNCHER=", old.Launcher.PID), "sh", "-c", test.script)
				serving(t, m.Scope, old.Worker.Generation+1)
			})
			now := gatewayStatus(t, m.Scope)
			if now.Worker.Generation != old.Worker.Generation+1 || now.Worker.LastExit.Reason != "config" || now.Config.State != "applied" {
				t.Errorf("the status is %+v, want one new generation", now)
			}
			k.wantJournal(t, false, "configuration rejected")
			if got := strings.Count(k.journal(t), "the configuration file was edited"); got != 1 {
				t.Errorf("%d edits were noticed, want 1:\n%s", got, k.journal(t))
			}
		})
	}

	t.Run("not changed", func(t *testing.T) {
		old := gatewayStatus(t, m.Scope)
		k := &keyWalk{Machine: m}
		k.mark(t)
		m.Run(t, "sh", "-c", "cp "+file+" /tmp/same && touch "+file+" && cat /tmp/same > "+file)
		m.Run(t, gatewayPath, "reload")
		m.Systemctl(t, "reload", service)
		if now := gatewayStatus(t, m.Scope); now.Worker.PID != old.Worker.PID || now.Verdict != "ok" {
			t.Errorf("the status is %+v, want the same worker", now)
		}
		if journal := k.journal(t); strings.Contains(journal, "configuration edited") || strings.Contains(journal, "file was edited") ||
			strings.Count(journal, "the configuration has not changed") != 2 {
			t.Errorf("the journal says\n%s", journal)
		}
	})
	t.Run("empty", func(t *testing.T) {
		old := gatewayStatus(t, m.Scope)
		content := m.Run(t, "cat", file)
		underLoad(t, m, ipv4, "/", 0, func(*load.Load) {
			m.Run(t, "sh", "-c", ": > "+file)
			statusText(t, m.Scope, "serves", "config.yaml:1: the file is empty")
		})
		if now := gatewayStatus(t, m.Scope); now.Worker.PID != old.Worker.PID || now.Config.State != "rejected" {
			t.Errorf("the status is %+v, want the same worker", now)
		}
		m.Run(t, "sh", "-c", "rm "+file)
		m.WriteFile(t, file, content, 0o644)
		m.Run(t, gatewayPath, "reload")
		if now := gatewayStatus(t, m.Scope); now.Worker.PID != old.Worker.PID || now.Verdict != "ok" {
			t.Errorf("the status is %+v, want the same worker and nothing wrong", now)
		}
	})
	t.Run("wrong", func(t *testing.T) {
		old := gatewayStatus(t, m.Scope)
		m.Run(t, "sh", "-c", "rm "+file+"; printf 'worker:\\n  comand: [x]\\nready: {timeout: 5}\\nlog: {level: loud}\\n' > "+file)
		mistakes := []string{
			file + ":2: worker.comand: unknown key: did you mean worker.command?",
			file + ":3: ready.timeout: 5 has no unit: 5s?", file + ":4: log.level: ",
		}
		statusText(t, m.Scope, append(mistakes, "serves")...)
		journal, text := m.Journal(t, service), shownStatus(t, m)
		for _, mistake := range mistakes {
			if !strings.Contains(journal, mistake) {
				t.Errorf("the journal lacks %q:\n%s", mistake, journal)
			}
			if !strings.Contains(text, mistake) {
				t.Errorf("gateway status lacks %q:\n%s", mistake, text)
			}
		}
		if now := gatewayStatus(t, m.Scope); now.Worker.PID != old.Worker.PID || now.Config.State != "rejected" || now.Verdict != "degraded" {
			t.Errorf("the status is %+v, want the same worker and a rejected configuration", now)
		}
	})
	t.Run("worker that does not come up", func(t *testing.T) {
		m.WriteFile(t, file, worker("/bin/false"), 0o644)
		statusText(t, m.Scope, "serves", "rolled back", "exit code 1")
		if now := gatewayStatus(t, m.Scope); now.Config.State != "rejected" || now.Worker.State != "ready" {
			t.Errorf("the status is %+v, want the last configuration that worked", now)
		}
	})
	t.Run("live", func(t *testing.T) {
		m.WriteFile(t, file, with("live"), 0o644)
		m.Run(t, gatewayPath, "reload")
		old := gatewayStatus(t, m.Scope)
		m.WriteFile(t, file, with("live")+"log: {level: debug}\nrestart: {backoff_max: 1m}\n", 0o644)
		m.Run(t, gatewayPath, "reload")
		if now := gatewayStatus(t, m.Scope); now.Worker.PID != old.Worker.PID || now.Config.State != "applied" || now.Verdict != "ok" {
			t.Errorf("the status is %+v, want the same worker", now)
		}
		if journal := m.Journal(t, service); !strings.Contains(journal, "key=log.level from=info to=debug") {
			t.Errorf("the edit is not explained in the journal:\n%s", journal)
		}
	})
}

func shownStatus(t *testing.T, m *machine.Machine) string {
	t.Helper()
	// The exit status says that something is wrong.
	output, _ := m.Command(t.Context(), gatewayPath, "status").Output()
	return string(output)
}

// TestEnvironmentFileEdits: the file that a key names counts like the
// configuration itself.
func TestEnvironmentFileEdits(t *testing.T) { inScopes(t, testEnvironmentFileEdits) }

func testEnvironmentFileEdits(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	one, two := m.Home()+"/one.env", m.Home()+"/two.env"
	with := func(file string) string {
		return worker("/usr/bin/python3", workersPath+"/tells.py") + "  environment_file: " + file + "\n"
	}
	k := &keyWalk{Machine: m}
	m.WriteFile(t, one, "VALUE=hush1\n", 0o600)
	install(t, m.Scope, m, with(one))
	want := func(value string, generation int) {
		t.Helper()
		serving(t, m.Scope, generation)
		if got := k.environment(t); got["VALUE"] != value || got["GATEWAY_GENERATION"] != strconv.Itoa(generation) {
			t.Errorf("VALUE is %q in generation %s, want %q in %d", got["VALUE"], got["GATEWAY_GENERATION"], value, generation)
		}
	}
	get(t, m, ipv4, "/")
	want("hush1", 1)
	underLoad(t, m, ipv4, "/", loops, func(*load.Load) {
		m.WriteFile(t, one, "VALUE=hush2\n", 0o600)
		want("hush2", 2)
		m.Run(t, "sh", "-c", "echo VALUE=hush3 > ~/new.env && mv ~/new.env "+one)
		want("hush3", 3)
	})

	// What is wrong with it changes nothing, and what mends it is noticed.
	m.WriteFile(t, one, "LISTEN_FDS=1\n", 0o600)
	statusText(t, m.Scope, "serves", "config.yaml:3: worker.environment_file", one+":1", "LISTEN_FDS is set by the launcher")
	m.WriteFile(t, one, "VALUE=hush4\n", 0o600)
	want("hush4", 4)
	m.Run(t, "sh", "-c", ": > "+one)
	statusText(t, m.Scope, "serves", one+" is empty, and had variables")
	m.WriteFile(t, one, "VALUE=hush4\nexport A=hush\n", 0o600)
	m.Run(t, gatewayPath, "reload")
	if s := gatewayStatus(t, m.Scope); s.Verdict != "ok" || !strings.Contains(fmt.Sprint(s.Notes), one+":2 begins with export") {
		t.Errorf("with a line that is ignored: %s, notes %q", s.Verdict, s.Notes)
	}
	want("hush4", 4)

	// The key names another file, which is not there yet. Then only that one counts.
	m.WriteFile(t, configPath(m.Scope), with(two), 0o644)
	statusText(t, m.Scope, "serves", "config.yaml:3: worker.environment_file", two)
	k.mark(t)
	m.WriteFile(t, two, "VALUE=hush5\n", 0o600)
	want("hush5", 5)
	m.WriteFile(t, one, "VALUE=hush6\n", 0o600)
	m.WriteFile(t, two, "VALUE=hush7\n", 0o600)
	want("hush7", 6)
	k.wantJournal(t, true, "the environment file was edited path="+two)
	k.wantJournal(t, false, "the environment file was edited path="+one)
	k.wantJournal(t, true, `key=worker.environment_file from=`+two+` to="`+two+` (edited)"`)
	if journal := m.Journal(t, service); strings.Contains(journal, "hush") {
		t.Errorf("a secret is in the journal:\n%s", journal)
	}
}
