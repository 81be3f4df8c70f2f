package test

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/test/machine"
)

// When an edit takes effect, as the journal says it.
const (
	atOnce              = "at once"
	nextGeneration      = "with the next generation, now"
	nextFailure         = "with the next failure"
	nextLauncher        = "with the next start of the launcher"
	nextLauncherAndBoot = `with the next start of the launcher, and at boot when \"gateway install\" has looked at it again`
	nowAndWithUnits     = `with the next generation, now, and in full when \"gateway install\" has rendered the units again`
)

// settings are keys of the configuration and their values.
type settings map[string]any

// yaml writes the file: a section for each first part of a key.
func (s settings) yaml(t *testing.T) string {
	t.Helper()
	tree := map[string]any{}
	for key, value := range s {
		section, name, nested := strings.Cut(key, ".")
		if !nested {
			tree[section] = value
			continue
		}
		if tree[section] == nil {
			tree[section] = map[string]any{}
		}
		tree[section].(map[string]any)[name] = value
	}
	text, err := json.MarshalIndent(tree, "", "  ") // is YAML
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

// keyEdit is one edit of one key, of a launcher whose worker serves.
type keyEdit struct {
	before   settings // besides base
	value    any
	effect   string
	from, to string // in the journal; "" does not look
	rejected string // the edit is, with these words
	// proof shows that the value is in use.
	proof func(t *testing.T, k *keyWalk)
}

// keyWalk is the machine, and what the journal says since the edit.
type keyWalk struct {
	*machine.Machine
	cursor        string
	before, after status
}

// mark lets the journal begin here.
func (k *keyWalk) mark(t *testing.T) {
	t.Helper()
	k.cursor = k.JournalCursor(t, service)
}

func (k *keyWalk) journal(t *testing.T) string {
	t.Helper()
	return k.JournalAfter(t, k.cursor, service)
}

func (k *keyWalk) wantJournal(t *testing.T, want bool, words string) {
	t.Helper()
	if journal := k.journal(t); strings.Contains(journal, words) != want {
		t.Errorf("%q in the journal: %t, want %t\n%s", words, !want, want, journal)
	}
}

func (k *keyWalk) environment(t *testing.T) map[string]string {
	t.Helper()
	_, body := get(t, k.Machine, ipv4, "/environment")
	environment := map[string]string{}
	if err := json.Unmarshal([]byte(body), &environment); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return environment
}

// while makes a file that the worker goes by, as long as do takes.
func (k *keyWalk) while(t *testing.T, path string, do func()) {
	t.Helper()
	k.WriteFile(t, path, "", 0o644)
	defer k.System().Run(t, "rm", path)
	do()
}

// whileStopped stops the worker as Ctrl-Z does, lets a client wait for it, and lets it go on.
func (k *keyWalk) whileStopped(t *testing.T, do func(*waiting)) {
	t.Helper()
	stopProcess(t, k.Machine, k.after.Worker.PID)
	// It may have been ended.
	defer k.Run(t, "sh", "-c", fmt.Sprintf("kill -CONT %d 2>/dev/null || true", k.after.Worker.PID))
	do(waitingClient(t, k.Machine, ipv4))
}

// hangs expects that the worker is said to hang, because of a sign.
func (k *keyWalk) hangs(t *testing.T, by string) {
	t.Helper()
	statusText(t, k.Scope, fmt.Sprintf("generation %d hangs", k.after.Worker.Generation))
	if s := gatewayStatus(t, k.Scope); s.Verdict != "hung" || s.Worker.Hung == nil || s.Worker.Hung.By != by {
		t.Errorf("the status is %s, %+v, want hung by %s", s.Verdict, s.Worker.Hung, by)
	}
}

// awaitJournal waits for words in the journal.
func (k *keyWalk) awaitJournal(t *testing.T, words string) {
	t.Helper()
	awaitJournal(t, k.Machine, k.cursor, words)
}

func awaitJournal(t testing.TB, m *machine.Machine, cursor, words string) {
	t.Helper()
	m.System().Run(t, "sh", "-c", "journalctl --follow --no-tail --output=cat --after-cursor='"+cursor+"' | grep --quiet --max-count=1 -F '"+words+"'")
}

// exit makes the worker end with a code.
func (k *keyWalk) exit(t *testing.T, code int) {
	t.Helper()
	// The connection ends without an answer.
	_, _, _ = tryGet(t.Context(), k.Machine, ipv4, fmt.Sprint("/exit/", code))
}

var pauses = regexp.MustCompile(`failures_in_a_row=(\d+) pause=(\S+)`)

// failures returns the pauses after failures, and which in a row each was.
func (k *keyWalk) failures(t *testing.T) (rows []int, waits []time.Duration) {
	t.Helper()
	for _, match := range pauses.FindAllStringSubmatch(k.journal(t), -1) {
		row, err := strconv.Atoi(match[1])
		if err != nil {
			t.Fatal(err)
		}
		wait, err := time.ParseDuration(match[2])
		if err != nil {
			t.Fatal(err)
		}
		rows, waits = append(rows, row), append(waits, wait)
	}
	return rows, waits
}

// dual takes the sockets by either handoff.
const dual = `const http = require('http');
const answer = (q, r) => r.end(JSON.stringify(process.env));
const on = process.env.LISTEN_FDS ? [[{fd: 3}], [{fd: 4}]] : [[18789, '127.0.0.1'], [18789, '::1']];
for (const where of on) http.createServer(answer).listen(...where);`

const workerEnvironment = "/etc/worker.env"

var keyEdits = map[string]keyEdit{
	"listen": {
		value: []string{ipv4}, effect: nowAndWithUnits, from: `"[127.0.0.1:18789 [::1]:18789]"`, to: "[127.0.0.1:18789]",
		proof: func(t *testing.T, k *keyWalk) {
			if got := k.environment(t)["LISTEN_FDS"]; got != "1" {
				t.Errorf("the worker got %s sockets", got)
			}
			if problems := strings.Join(k.after.Problems, " "); !strings.Contains(problems, "gateway install") || !strings.Contains(problems, ipv6) {
				t.Errorf("the status has the problems %q", problems)
			}
		},
	},
	"worker.command": {
		value: []string{"/usr/bin/python3", workersPath + "/tells.py", "--token", "hush"}, effect: nextGeneration,
		proof: func(t *testing.T, k *keyWalk) {
			command := k.Run(t, "cat", fmt.Sprintf("/proc/%d/cmdline", k.after.Worker.PID))
			if !strings.HasSuffix(command, "\x00--token\x00hush\x00") {
				t.Errorf("the worker is %q", command)
			}
			k.wantJournal(t, false, "hush")
		},
	},
	"worker.directory": {
		value: "/usr/share", effect: nextGeneration, from: `"\"\""`, to: "/usr/share",
		proof: func(t *testing.T, k *keyWalk) {
			if got := k.Run(t, "readlink", fmt.Sprintf("/proc/%d/cwd", k.after.Worker.PID)); got != "/usr/share\n" {
				t.Errorf("the worker is in %s", got)
			}
		},
	},
	"worker.environment": {
		before: settings{"worker.environment": []string{"TOKEN=hush"}},
		value:  []string{"TOKEN=husher"}, effect: nextGeneration, from: "TOKEN", to: `"TOKEN (edited)"`,
		proof: func(t *testing.T, k *keyWalk) {
			if got := k.environment(t)["TOKEN"]; got != "husher" {
				t.Errorf("TOKEN is %q", got)
			}
			k.wantJournal(t, false, "hush")
		},
	},
	"worker.environment_file": {
		value: workerEnvironment, effect: nextGeneration, from: `"\"\""`, to: workerEnvironment,
		proof: func(t *testing.T, k *keyWalk) {
			if got := k.environment(t)["FROM_FILE"]; got != "one" {
				t.Errorf("FROM_FILE is %q", got)
			}
		},
	},
	"worker.handoff": {
		before: settings{"worker.command": []string{nodePath, "-e", dual}},
		value:  "listen-fds", effect: nextGeneration, from: "auto", to: "listen-fds",
		proof: func(t *testing.T, k *keyWalk) {
			if k.before.Worker.Handoff != "preload" || k.after.Worker.Handoff != "listen-fds" || k.environment(t)["LISTEN_FDS"] != "2" {
				t.Errorf("the handoff was %s and is %s", k.before.Worker.Handoff, k.after.Worker.Handoff)
			}
		},
	},
	"worker.cache": {
		value: "off", effect: nextGeneration, from: "auto", to: "off",
		proof: func(t *testing.T, k *keyWalk) {
			if got, set := k.environment(t)["NODE_COMPILE_CACHE"]; set {
				t.Errorf("NODE_COMPILE_CACHE is %s", got)
			}
		},
	},
	"worker.start": {
		value: "at-once", effect: nextLauncherAndBoot, from: "on-demand", to: "at-once",
		proof: func(t *testing.T, k *keyWalk) {
			k.Systemctl(t, "restart", service)
			serving(t, k.Scope, 1) // nobody has connected
		},
	},
	"ready.probe": {
		before: settings{"ready.path": "/probed"},
		value:  "adopted", effect: nextGeneration, from: "auto", to: "adopted",
		proof: func(t *testing.T, k *keyWalk) { k.wantJournal(t, false, "worker: request /probed") },
	},
	"ready.path": {
		value: "/probed", effect: nextGeneration, from: `"\"\""`, to: "/probed",
		proof: func(t *testing.T, k *keyWalk) { k.wantJournal(t, true, "worker: request /probed") },
	},
	"ready.host": {
		before: settings{"ready.path": "/probed", "alive.path": "/alive", "alive.interval": "100ms"},
		value:  "app.example.org", effect: nextGeneration, from: `"\"\""`, to: "app.example.org",
		proof: func(t *testing.T, k *keyWalk) {
			k.wantJournal(t, true, "worker: request /probed to app.example.org")
			k.awaitJournal(t, "worker: request /alive to app.example.org")
		},
	},
	"ready.timeout": {
		value: "5s", effect: nextGeneration, from: "5m", to: "5s",
		proof: func(t *testing.T, k *keyWalk) {
			k.while(t, "/tmp/slow", func() {
				if _, err := k.Output(gatewayPath, "restart"); err == nil || !strings.Contains(err.Error(), "not ready after 5s (ready.timeout)") {
					t.Errorf("gateway restart: %v", err)
				}
			})
		},
	},
	"alive.queue": {
		value: "1s", effect: atOnce, from: "30s", to: "1s",
		proof: func(t *testing.T, k *keyWalk) {
			k.whileStopped(t, func(*waiting) { k.hangs(t, "queue") })
			serving(t, k.Scope, 1)
		},
	},
	"alive.path": {
		before: settings{"alive.interval": "100ms", "alive.timeout": "1s", "alive.failures": 1},
		value:  "/alive?token=hush", effect: atOnce, from: `"\"\""`, to: "/alive",
		proof: func(t *testing.T, k *keyWalk) {
			k.whileStopped(t, func(*waiting) { k.hangs(t, "probe") })
			serving(t, k.Scope, 1)
			k.wantJournal(t, true, "worker: request /alive?token=hush")
		},
	},
	"alive.interval": {
		before: settings{"alive.path": "/alive"},
		value:  "100ms", effect: atOnce, from: "30s", to: "100ms",
		proof: func(t *testing.T, k *keyWalk) { k.awaitJournal(t, "worker: request /alive") },
	},
	"alive.timeout": {
		before: settings{"alive.path": "/alive", "alive.interval": "100ms", "alive.failures": 1, "alive.timeout": "1h"},
		value:  "1s", effect: atOnce, from: "1h", to: "1s",
		proof: func(t *testing.T, k *keyWalk) { k.whileStopped(t, func(*waiting) { k.hangs(t, "probe") }) },
	},
	"alive.failures": {
		before: settings{"alive.path": "/alive", "alive.interval": "100ms", "alive.timeout": "1s", "alive.failures": 1000},
		value:  2, effect: atOnce, from: "1000", to: "2",
		proof: func(t *testing.T, k *keyWalk) { k.whileStopped(t, func(*waiting) { k.hangs(t, "probe") }) },
	},
	"alive.watchdog": {
		value: "2s", effect: nextGeneration, from: "0s", to: "2s",
		proof: func(t *testing.T, k *keyWalk) {
			if got := k.environment(t)["WATCHDOG_USEC"]; got != "2000000" {
				t.Errorf("WATCHDOG_USEC is %q", got)
			}
			k.hangs(t, "watchdog") // it never says WATCHDOG=1
		},
	},
	"alive.restart": {
		before: settings{"alive.queue": "1s", "worker.command": []string{nodePath, "-e", drains}},
		value:  true, effect: atOnce, from: "false", to: "true",
		proof: func(t *testing.T, k *keyWalk) {
			k.whileStopped(t, func(client *waiting) {
				serving(t, k.Scope, k.after.Worker.Generation+1)
				client.wantServed(t)
			})
		},
	},
	"alive.stop_timeout": {
		before: settings{"alive.queue": "1s", "alive.restart": true, "stop.timeout": "1h"},
		value:  "500ms", effect: atOnce, from: "10s", to: "500ms",
		proof: func(t *testing.T, k *keyWalk) {
			k.while(t, "/tmp/deaf", func() {
				k.whileStopped(t, func(*waiting) { serving(t, k.Scope, k.after.Worker.Generation+1) })
			})
			k.wantJournal(t, true, "stop_timeout=500ms")
		},
	},
	"stop.signal": {
		value: "SIGUSR1", effect: nextGeneration, from: "SIGTERM", to: "SIGUSR1",
		proof: func(t *testing.T, k *keyWalk) {
			k.wantJournal(t, true, "worker: signal SIGTERM")
			k.wantJournal(t, false, "worker: signal SIGUSR1")
			k.Run(t, gatewayPath, "restart")
			k.wantJournal(t, true, "worker: signal SIGUSR1")
		},
	},
	"stop.to": {
		before: settings{"worker.command": []string{"/bin/sh", "-c", "trap '' TERM; python3 " + workersPath + "/tells.py"}, "stop.timeout": "2s"},
		value:  "all", effect: nextGeneration, from: "main", to: "all",
		proof: func(t *testing.T, k *keyWalk) {
			// The first generation's shell was killed after stop.timeout.
			k.wantJournal(t, true, "has not ended in its time, killing it")
			k.mark(t)
			k.Run(t, gatewayPath, "restart")
			k.wantJournal(t, true, "worker: signal SIGTERM")
			k.wantJournal(t, false, "killing it")
		},
	},
	"stop.timeout": {
		value: "1s", effect: nextGeneration, from: "10s", to: "1s",
		proof: func(t *testing.T, k *keyWalk) {
			k.while(t, "/tmp/deaf", func() { k.Run(t, gatewayPath, "restart") })
			k.wantJournal(t, true, "killing it")
			k.wantJournal(t, true, "stop_timeout=1s")
		},
	},
	"restart.mode": {
		value: "handover", effect: atOnce, from: "exclusive", to: "handover",
		proof: func(t *testing.T, k *keyWalk) { // the worker is no Node.js
			if s := gatewayStatus(t, k.Scope); !strings.Contains(strings.Join(s.Notes, "\n"), "restart.mode: handover is not what happens: nothing can hold a worker") {
				t.Errorf("the notes are %q", s.Notes)
			}
			if output, _ := k.Output(gatewayPath, "doctor"); !strings.Contains(output, "handover-exclusive") {
				t.Errorf("gateway doctor:\n%s", output)
			}
		},
	},
	"restart.standby": {
		before: settings{"restart.mode": "handover", "restart.reset_after": "0s", "worker.command": []string{nodePath, "-e", drains}},
		value:  true, effect: atOnce, from: "false", to: "true",
		proof: func(t *testing.T, k *keyWalk) { statusText(t, k.Scope, "; a standby is parked") },
	},
	"restart.prewarm": {
		value: "on", effect: atOnce, from: "off", to: "on",
		proof: func(t *testing.T, k *keyWalk) { // the worker is no Node.js
			k.Run(t, gatewayPath, "restart")
			if s := gatewayStatus(t, k.Scope); !strings.Contains(strings.Join(s.Notes, "\n"), "not prewarmed: worker.command is not a Node.js that is started directly") {
				t.Errorf("the notes are %q", s.Notes)
			}
		},
	},
	"restart.prewarm_timeout": {
		before: settings{"restart.prewarm": "on"},
		value:  "30s", effect: atOnce, from: "1m", to: "30s",
		proof: func(t *testing.T, k *keyWalk) { k.Run(t, gatewayPath, "restart") },
	},
	"restart.backoff_min": {
		value: "30s", effect: nextFailure, from: "100ms", to: "30s",
		proof: func(t *testing.T, k *keyWalk) {
			k.exit(t, 3)
			statusText(t, k.Scope, "1 failure", "next start at")
			// ± 20%
			if _, waits := k.failures(t); len(waits) != 1 || waits[0] < 24*time.Second || waits[0] > 36*time.Second {
				t.Errorf("the pauses are %v, want 30s", waits)
			}
		},
	},
	"restart.backoff_max": {
		value: "200ms", effect: nextFailure, from: "2m", to: "200ms",
		proof: func(t *testing.T, k *keyWalk) {
			k.while(t, "/tmp/dies", func() {
				k.exit(t, 3)
				statusText(t, k.Scope, "6 failures in a row")
			})
			// Without the limit the last would be 3.2s.
			if _, waits := k.failures(t); len(waits) < 6 || slices.Max(waits) > 200*time.Millisecond {
				t.Errorf("the pauses are %v, want 200ms at most", waits)
			}
		},
	},
	"restart.reset_after": {
		value: "0s", effect: nextFailure, from: "5m", to: "0s",
		proof: func(t *testing.T, k *keyWalk) {
			for i := range 2 {
				k.exit(t, 3)
				serving(t, k.Scope, k.after.Worker.Generation+i+1)
			}
			if rows, _ := k.failures(t); !slices.Equal(rows, []int{1, 1}) {
				t.Errorf("the failures are the %v in a row, want each the first", rows)
			}
		},
	},
	"restart.fatal_exit_codes": {
		value: []int{3}, effect: nextFailure, from: "[78]", to: "[3]",
		proof: func(t *testing.T, k *keyWalk) {
			k.exit(t, 3)
			statusText(t, k.Scope, "exit code 3", "restart.fatal_exit_codes")
			if s := gatewayStatus(t, k.Scope); s.Worker.State != "failed" {
				t.Errorf("the worker is %+v", s.Worker)
			}
			k.wantJournal(t, true, "front desk opened")
		},
	},
	"restart.after_exit_0": {
		value: "wait", effect: atOnce, from: "start", to: "wait",
		proof: func(t *testing.T, k *keyWalk) {
			k.exit(t, 0)
			k.WaitUnit(t, service, bound, machine.Inactive)
			if exit := k.Property(t, service, "ExecMainStatus"); exit != "75" {
				t.Errorf("the launcher has ended with %s, want 75", exit)
			}
		},
	},
	"front_desk": {
		value: false, effect: atOnce, from: "true", to: "false",
		proof: func(t *testing.T, k *keyWalk) {
			k.exit(t, 78)
			statusText(t, k.Scope, "exit code 78", "restart.fatal_exit_codes")
			k.wantJournal(t, false, "front desk opened")
		},
	},
	"worker.idle_stop": {
		value: "5s", effect: atOnce, from: "0s", to: "5s",
		proof: func(t *testing.T, k *keyWalk) {
			k.WaitUnit(t, service, bound, machine.Inactive)
			if exit := k.Property(t, service, "ExecMainStatus"); exit != "75" {
				t.Errorf("the launcher has ended with %s, want 75", exit)
			}
		},
	},
	"alarm.command": {
		before: settings{"alarm.after": "0s"},
		value:  []string{"/bin/sh", "-c", "echo alarm: $GATEWAY_EVENT"}, effect: atOnce,
		proof: func(t *testing.T, k *keyWalk) {
			k.exit(t, 78)
			k.awaitJournal(t, "alarm: failed")
			// It rings for the next launcher too, until clients are served again.
			k.Run(t, gatewayPath, "restart")
			k.awaitJournal(t, "alarm: recovered")
		},
	},
	"alarm.after": {
		before: settings{"alarm.command": []string{"/bin/sh", "-c", "echo alarm: $GATEWAY_EVENT"}, "alarm.after": "1h"},
		value:  "1s", effect: atOnce, from: "1h", to: "1s",
		proof: func(t *testing.T, k *keyWalk) {
			k.exit(t, 78)
			k.awaitJournal(t, "alarm: failed")
		},
	},
	"log.level": {
		before: settings{"ready.path": "/warming"},
		value:  "debug", effect: atOnce, from: "info", to: "debug",
		proof: func(t *testing.T, k *keyWalk) {
			k.wantJournal(t, false, "worker is not ready yet")
			k.Run(t, gatewayPath, "restart")
			k.wantJournal(t, true, "worker is not ready yet")
		},
	},
	"log.format": {
		value: "json", effect: nextLauncher, from: "auto", to: "json",
		proof: func(t *testing.T, k *keyWalk) {
			k.Systemctl(t, "restart", service)
			get(t, k.Machine, ipv4, "/")
			serving(t, k.Scope, 1)
			k.wantJournal(t, true, `"msg":"worker ready"`)
		},
	},
}

// TestEveryKey: one edit of each key, and what comes of it.
func TestEveryKey(t *testing.T) { inScopes(t, testEveryKey) }

func testEveryKey(t *testing.T, here place) {
	base := settings{
		"worker.command": []string{"/usr/bin/python3", workersPath + "/tells.py"},
		"stop.timeout":   "10s", "restart.backoff_min": "100ms",
	}
	m := here.boot(t, machine.Options{})
	file := configPath(m.Scope)
	// For whoever runs the worker.
	m.WriteFile(t, workerEnvironment, "FROM_FILE=one\n", 0o644)
	install(t, m.Scope, m, base.yaml(t))
	for _, value := range config.Default().Values() {
		edit, known := keyEdits[value.Key]
		if !known {
			t.Errorf("%s has no row: add what an edit of it does", value.Key)
			continue
		}
		t.Run(value.Key, func(t *testing.T) {
			before := maps.Clone(base)
			maps.Copy(before, edit.before)
			m.WriteFile(t, file, before.yaml(t), 0o644)
			// From the beginning, whatever the row before has left.
			m.Systemctl(t, "restart", service)
			get(t, m, ipv4, "/")
			serving(t, m.Scope, 1)
			k := &keyWalk{Machine: m, before: gatewayStatus(t, m.Scope)}
			k.mark(t)
			edited := maps.Clone(before)
			edited[value.Key] = edit.value
			m.WriteFile(t, file, edited.yaml(t), 0o644)
			_, err := m.Output(gatewayPath, "reload")
			k.after = gatewayStatus(t, m.Scope)
			if edit.rejected != "" {
				if err == nil || !strings.Contains(err.Error(), edit.rejected) || k.after.Worker.PID != k.before.Worker.PID {
					t.Errorf("gateway reload: %v, worker %+v", err, k.after.Worker)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			another := k.after.Worker.PID != k.before.Worker.PID
			if want := edit.effect == nextGeneration || edit.effect == nowAndWithUnits; another != want {
				t.Errorf("another worker: %t, want %t", another, want)
			}
			words := "key=" + value.Key
			if edit.from != "" {
				words += fmt.Sprintf(` from=%s to=%s takes_effect="%s"`, edit.from, edit.to, edit.effect)
			}
			k.wantJournal(t, true, words)
			if got := strings.Count(k.journal(t), "configuration edited"); got != 1 {
				t.Errorf("%d keys are explained in the journal, want 1:\n%s", got, k.journal(t))
			}
			edit.proof(t, k)
		})
	}
}
