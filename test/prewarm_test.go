package test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
)

// prewarmedRestarts is how many restarts of the real OpenClaw are compared with one that begins cold: PREWARMED_RESTARTS, or 3.
func prewarmedRestarts(t *testing.T) int {
	t.Helper()
	wanted := os.Getenv("PREWARMED_RESTARTS")
	if wanted == "" {
		return 3
	}
	n, err := strconv.Atoi(wanted)
	if err != nil {
		t.Fatalf("PREWARMED_RESTARTS: %v", err)
	}
	return n
}

// prewarming is a rig for an OpenClaw that is restarted with its modules loaded ahead.
type prewarming struct {
	*machine.Machine
	home, list string
}

func newPrewarming(m *machine.Machine) prewarming {
	if m.User != "" {
		return prewarming{m, m.Home(), m.Home() + "/.cache/openclaw-gateway/prewarm/modules.json"}
	}
	return prewarming{m, "/home/claw", "/var/cache/openclaw-gateway/prewarm/modules.json"}
}

// write writes a file of OpenClaw's user.
func (p prewarming) write(t *testing.T, path, content string) {
	t.Helper()
	p.WriteFile(t, path, content, 0o600)
	if p.User == "" {
		p.Run(t, "chown", "claw:", path)
	}
}

func (p prewarming) configure(t *testing.T, configuration string) {
	t.Helper()
	p.write(t, configPath(p.Scope), configuration)
	p.Run(t, gatewayPath, "reload")
	serving(t, p.Scope, 1)
}

// restart restarts it, and returns the life that serves then.
func (p prewarming) restart(t *testing.T) api.Life {
	t.Helper()
	p.Run(t, gatewayPath, "restart")
	return p.life(t)
}

func (p prewarming) life(t *testing.T) api.Life {
	t.Helper()
	lives := history(t, p.Machine)
	return lives[len(lives)-1]
}

// wants wants a life to have begun so, and the status to say the rest.
func (p prewarming) wants(t *testing.T, life api.Life, start, why string) {
	t.Helper()
	s := wholeStatus(t, p.Machine)
	notes := strings.Join(s.Notes, "\n")
	if life.Start != start || life.State != "ready" || s.Verdict != api.VerdictOK || !strings.Contains(notes, why) || (why == "") == strings.Contains(notes, api.SaysCold) {
		t.Fatalf("generation %d is %s and began %s (%s), want %s, and %q in the notes %q; its history is %+v\n%s",
			life.Generation, life.State, life.Start, s.Verdict, start, why, notes, history(t, p.Machine), p.Journal(t, service))
	}
}

// learned waits until a life has said which modules it loads.
func (p prewarming) learned(t *testing.T) {
	t.Helper()
	p.WaitFile(t, p.list, 2*bound, func(_ string, err error) bool { return err == nil })
}

// words are what the process has said, without what is another thing in each life.
func (p prewarming) words(t *testing.T, pid int) map[string]bool {
	t.Helper()
	words := map[string]bool{}
	arguments := []string{"--output=json", "--no-pager", "_PID=" + strconv.Itoa(pid)}
	for line := range strings.Lines(p.System().Run(t, "journalctl", arguments...)) {
		var entry struct {
			Message any `json:"MESSAGE"`
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if said := fmt.Sprint(entry.Message); !ofLoad.MatchString(said) {
			words[variable.ReplaceAllString(said, "#")] = true
		}
	}
	return words
}

// ofLoad is what OpenClaw says when the machine is busy, and variable what is another thing in each life.
var ofLoad = regexp.MustCompile(`\bslow\b|did not settle|event loop|timed out`)

var variable = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|\x1b\[[0-9;]*m|[0-9]+(\.[0-9]+)?(ms|s|MB|KB)?`)

// saysCold wants one that begins cold now to say these words, too: the state is another one than in the beginning, and may have a new database.
func (p prewarming) saysCold(t *testing.T, words map[string]int) {
	t.Helper()
	if len(words) == 0 {
		return
	}
	p.Systemctl(t, "restart", service)
	get(t, p.Machine, ipv4, "/healthz") // the first client starts it
	serving(t, p.Scope, 1)
	pid := gatewayStatus(t, p.Scope).Worker.PID
	for limit := time.Now().Add(bound); len(words) > 0; {
		for word := range p.words(t, pid) {
			delete(words, word)
		}
		if time.Now().After(limit) {
			t.Errorf("prewarmed, these generations say what no cold one does: %v", words)
			return
		}
	}
}

// gaveUp reports whether that generation of OpenClaw has given its own start up: on a machine that is busy enough it does, after 5 s of it,
// and one that begins cold follows.
func (p prewarming) gaveUp(t *testing.T, generation int) bool {
	t.Helper()
	life := lifeOf(t, history(t, p.Machine), generation)
	for word := range p.words(t, life.PID) {
		if life.Code == 1 && strings.Contains(word, "trigger=timeout") {
			t.Logf("generation %d gave its start up: %s", generation, word)
			return true
		}
	}
	return false
}

// testPrewarmed: a planned restart of the real OpenClaw with its modules loaded ahead is one as ever.
func testPrewarmed(t *testing.T, m *machine.Machine, configuration, signal string) {
	p := newPrewarming(m)
	get(t, m, ipv4, "/healthz")
	p.configure(t, configuration)
	configuration += "restart: {prewarm: on, prewarm_timeout: 10m}\n"
	first := gatewayStatus(t, m.Scope).Worker
	p.configure(t, configuration)
	if now := gatewayStatus(t, m.Scope).Worker; now.Generation != first.Generation {
		t.Errorf("the edit of restart.prewarm has cost a restart")
	}
	cold := p.restart(t)
	p.wants(t, cold, api.StartCached, "no earlier start has told")
	found := diagnose(t, m.Scope, gatewayPath, "--"+kind(m.Scope)).Findings
	if i := slices.IndexFunc(found, func(f finding) bool { return f.ID == "prewarm-not-used" }); i < 0 || !strings.Contains(found[i].Summary, "no earlier start has told") {
		t.Errorf("doctor has found %+v", found)
	}
	p.learned(t)
	if got := m.Run(t, "stat", "--format=%a", filepath.Dir(p.list), p.list); got != "700\n600\n" {
		t.Errorf("the modes of %s and of its directory are %s", p.list, got)
	}
	more := map[string]int{} // what they have said, and the cold ones had not
	underLoad(t, m, ipv4, "/healthz", 0, func(l *load.Load) {
		for wanted := prewarmedRestarts(t); wanted > 0; {
			life := p.restart(t)
			if p.gaveUp(t, life.Generation-1) {
				continue
			}
			wanted--
			p.wants(t, life, api.StartPrewarmed, "")
			answered(t, l)
			if life.GateAfterMS == nil || life.ReleasedAfterMS == nil {
				t.Fatalf("%+v", life)
			}
			t.Logf("parked after %d ms, released after %d ms, ready after %d ms", *life.GateAfterMS, *life.ReleasedAfterMS, *life.ReadyAfterMS)
			want := union(p.words(t, first.PID), p.words(t, cold.PID)) // all that they have said: both have ended
			for word := range p.words(t, life.PID) {
				if !want[word] {
					more[word] = life.Generation
				}
			}
		}
	})
	found = diagnose(t, m.Scope, gatewayPath, "--"+kind(m.Scope)).Findings
	p.saysCold(t, more)
	if slices.ContainsFunc(found, func(f finding) bool { return f.ID == "prewarm-not-used" }) {
		t.Errorf("doctor has found %+v", found)
	}
	if s := m.Run(t, gatewayPath, "status", "--history"); !strings.Contains(s, api.StartPrewarmed) {
		t.Errorf("the history does not say how they began:\n%s", s)
	}
	t.Run("standby", func(t *testing.T) { testPrewarmedStandby(t, p, configuration, signal) })
	stopped(t, m, func() { m.Systemctl(t, "stop", service) })
}

// testPrewarmedStandby: a real OpenClaw that stands by has nothing of its own open, and follows a crash, and a restart that the one that
// serves asks for itself by the signal.
func testPrewarmedStandby(t *testing.T, p prewarming, configuration, signal string) {
	p.configure(t, strings.Replace(configuration, "prewarm: on,", "prewarm: on, standby: true, reset_after: 0s,", 1))
	for ends := []struct{ signal, reason string }{{"KILL", "crash"}, {signal, "restart"}}; len(ends) > 0; {
		end := ends[0]
		s := standby(t, p.Machine)
		if s.Successor.Modules < 1000 || s.StandbyObstacle != "" {
			t.Errorf("the standby is %+v (%s)", s.Successor, s.StandbyObstacle)
		}
		for file := range strings.Lines(p.Run(t, "find", fmt.Sprintf("/proc/%d/fd", s.Successor.PID), "-type", "l", "-printf", "%l\n")) {
			if strings.HasPrefix(file, "/") && !strings.HasPrefix(file, "/dev/") {
				t.Errorf("the standby has opened %s", file)
			}
		}
		underLoad(t, p.Machine, ipv4, "/healthz", loops, func(l *load.Load) {
			p.Run(t, "kill", "-"+end.signal, strconv.Itoa(s.Worker.PID))
			serving(t, p.Scope, s.Successor.Generation)
			answered(t, l)
		})
		if p.gaveUp(t, s.Successor.Generation) {
			continue
		}
		ends = ends[1:]
		lives := history(t, p.Machine)
		was, is := lifeOf(t, lives, s.Worker.Generation), lifeOf(t, lives, s.Successor.Generation)
		p.wants(t, is, api.StartPrewarmed, "")
		if was.Reason != end.reason || is.PID != s.Successor.PID {
			t.Errorf("generation %d ended for %s, want %s, and %+v follows", was.Generation, was.Reason, end.reason, is)
		}
		t.Logf("%s: ready %d ms after its release", end.reason, *is.ReadyAfterMS-*is.ReleasedAfterMS)
	}
}

func lifeOf(t *testing.T, lives []api.Life, generation int) api.Life {
	t.Helper()
	i := slices.IndexFunc(lives, func(life api.Life) bool { return life.Generation == generation })
	if i < 0 {
		t.Fatalf("generation %d is not in the history: %+v", generation, lives)
	}
	return lives[i]
}

// dumpScript has a Node.js write, when it is told to by SIGWINCH, what it has made of its environment, when it takes itself to have begun,
// and each constant of the modules that a list names.
const dumpScript = `if (require('node:worker_threads').isMainThread && process.argv.includes('gateway') && process.argv.includes('run')) {
  const fs = require('node:fs');
  process.on('SIGWINCH', async () => {
    const constants = {};
    for (const [url, imported] of JSON.parse(fs.readFileSync('LIST')).modules) {
      if (!imported) continue;
      let module;
      try {
        module = await import(url);
      } catch {
        continue;
      }
      for (const [name, value] of Object.entries(module)) {
        if (['string', 'number', 'boolean'].includes(typeof value)) constants[url.split('/').slice(-2).join('/') + ' ' + name] = value;
      }
    }
    fs.writeFileSync('DUMP.new', JSON.stringify({ env: process.env, argv: process.argv, cwd: process.cwd(), origin: performance.timeOrigin, constants }));
    fs.renameSync('DUMP.new', 'DUMP');
  });
}
`

// dumped is what dumpScript has written.
type dumped struct {
	Env       map[string]string `json:"env"`
	Argv      []string          `json:"argv"`
	CWD       string            `json:"cwd"`
	Origin    float64           `json:"origin"` // in ms
	Constants map[string]any    `json:"constants"`
}

func (p prewarming) dump(t *testing.T) dumped {
	t.Helper()
	path := p.home + "/dump.json"
	p.Run(t, "rm", "-f", path)
	p.Run(t, "kill", "-WINCH", strconv.Itoa(gatewayStatus(t, p.Scope).Worker.PID))
	var d dumped
	p.WaitFile(t, path, 2*bound, func(content string, err error) bool {
		return err == nil && json.Unmarshal([]byte(content), &d) == nil
	})
	for _, name := range []string{"GATEWAY_GENERATION", "NOTIFY_SOCKET", "LISTEN_PID"} { // of each generation
		delete(d.Env, name)
	}
	return d
}

// wantSame compares two lives, with another word in place of one in the first.
func wantSame(t *testing.T, what string, cold, prewarmed dumped, old, now string) {
	t.Helper()
	text, err := json.Marshal(cold)
	if err != nil {
		t.Fatal(err)
	}
	var want dumped
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(text), old, now)), &want); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(want.Env, prewarmed.Env) {
		for name := range union(want.Env, prewarmed.Env) {
			if want.Env[name] != prewarmed.Env[name] {
				t.Errorf("%s: %s is %q, want %q", what, name, prewarmed.Env[name], want.Env[name])
			}
		}
	}
	if !slices.Equal(want.Argv, prewarmed.Argv) || want.CWD != prewarmed.CWD {
		t.Errorf("%s: %q in %s, want %q in %s", what, prewarmed.Argv, prewarmed.CWD, want.Argv, want.CWD)
	}
	for name, value := range want.Constants { // those of a list that was longer later have nothing to be compared with
		if now, there := prewarmed.Constants[name]; there && now != value && !anew.MatchString(fmt.Sprint(value)) {
			t.Errorf("%s: %s is %v, want %v", what, name, prewarmed.Constants[name], want.Constants[name])
		}
	}
}

// anew is in a value that each life has another one of.
var anew = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-`)

func union[V any](a, b map[string]V) map[string]V {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// testPrewarmedValues: an OpenClaw that gets values from its .env, its configuration and a profile has the same of them whether its modules were
// loaded ahead or not, and so has each constant of each module.
func testPrewarmedValues(t *testing.T, m *machine.Machine) {
	p := newPrewarming(m)
	state := p.home + "/.openclaw-work"
	m.Run(t, "runuser", "-u", "claw", "--", "mkdir", "-p", state)
	values := func(t *testing.T, workspace, more string) {
		t.Helper()
		p.write(t, state+"/.env", "OPENCLAW_WORKSPACE_DIR="+p.home+"/"+workspace+"\nSECRET_OF_MINE=secret-"+workspace+"\n"+more)
		p.write(t, state+"/openclaw.json", `{"gateway": {"mode": "local", "reload": {"mode": "off"}}, "env": {"vars": {"OPENCLAW_BASH_MAX_OUTPUT_CHARS": "70000", "MINE": "`+workspace+`"}}}`)
	}
	p.write(t, p.home+"/dump.cjs", strings.NewReplacer("LIST", p.list, "DUMP", p.home+"/dump.json").Replace(dumpScript))
	configuration := strings.Replace(openClawConfiguration("/opt/openclaw", openClaws[0].probe, "    - NODE_OPTIONS=--require="+p.home+"/dump.cjs\n"),
		"gateway, run,", "--profile, work, gateway, run,", 1) + "restart: {prewarm: on, prewarm_timeout: 10m}\n"
	values(t, "place-a", "")
	m.Run(t, "rm", "-f", p.list)
	p.write(t, configPath(m.Scope), configuration)
	get(t, m, ipv4, "/healthz")
	serving(t, m.Scope, 1)
	p.learned(t)
	cold := p.dump(t)
	if cold.Env["OPENCLAW_WORKSPACE_DIR"] != p.home+"/place-a" || cold.Env["MINE"] != "place-a" || cold.Env["OPENCLAW_PROFILE"] != "work" || len(cold.Constants) < 1000 {
		t.Fatalf("OpenClaw has %v and %d constants", cold.Env, len(cold.Constants))
	}
	life := p.restart(t)
	p.wants(t, life, api.StartPrewarmed, "")
	prewarmed := p.dump(t)
	wantSame(t, "prewarmed", cold, prewarmed, "", "")
	// By that OpenClaw tells what its earlier life has left from what it does itself.
	if begun := float64(life.Started.UnixMilli() + *life.ReleasedAfterMS); prewarmed.Origin < begun-100 {
		t.Errorf("it takes itself to have begun %.0f ms before it was released", begun-prewarmed.Origin)
	}

	values(t, "place-b", "")
	p.wants(t, p.restart(t), api.StartPrewarmed, "")
	wantSame(t, "with other values", cold, p.dump(t), "place-a", "place-b")

	// A name that the program has not set before, and that modules have read.
	values(t, "place-c", "OPENCLAW_BASH_JOB_TTL_MS=70000\n")
	p.wants(t, p.restart(t), api.StartCached, "it has changed OPENCLAW_BASH_JOB_TTL_MS at its start")
	p.learned(t)
	cold = p.dump(t)
	if cold.Env["OPENCLAW_BASH_JOB_TTL_MS"] != "70000" {
		t.Errorf("OpenClaw has %v", cold.Env)
	}
	p.wants(t, p.restart(t), api.StartPrewarmed, "")
	wantSame(t, "with another name", cold, p.dump(t), "", "")
	if content := m.ReadFile(t, p.list); strings.Contains(content, "secret-place") || !strings.Contains(content, "SECRET_OF_MINE") {
		t.Errorf("the list has to hold the names of what OpenClaw sets, and not the values")
	}
	stopped(t, m, func() { m.Systemctl(t, "stop", service) })
}
