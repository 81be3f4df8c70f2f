package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"openclaw-gateway/test/wait"
	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/handoff"
)

// prewarmedFiles are a Node.js that applies its own .env, and imports the rest of itself then. It answers with what its modules have read, and
// says in a file that it has begun. Its folder has files by which a test has it fail.
var prewarmedFiles = map[string]string{
	"entry.mjs": `import fs from 'node:fs';
globalThis.entered = true;
const here = (name) => new URL(name, import.meta.url);
fs.appendFileSync(here('begun'), process.pid + '\n');
if (fs.existsSync(here('exit'))) process.exit(Number(fs.readFileSync(here('exit'), 'utf8')));
if (fs.existsSync(here('exit-ahead')) && globalThis.ahead) process.exit(Number(fs.readFileSync(here('exit-ahead'), 'utf8')));
for (const line of fs.readFileSync(here('.env'), 'utf8').split('\n')) {
  const [name, value] = line.split('=');
  if (value !== undefined) process.env[name] ??= value;
}
const { place } = await import('./place.mjs');
const { other } = await import('./other.mjs');
const { createServer } = await import('node:http');
createServer((request, response) => response.end(place + ' ' + other + ' ' + process.env.GATEWAY_GENERATION)).listen(Number(process.env.PORT), '127.0.0.1');
if (globalThis.ahead && fs.existsSync(here('.late'))) process.env.OTHER = 'late';
process.on('SIGUSR2', () => process.exit(0));
process.on('SIGTERM', () => {
  if (!fs.existsSync(here('stay'))) process.exit();
});
`,
	"place.mjs": "export const place = process.env.PLACE;\n",
	"other.mjs": `import fs from 'node:fs';
if (fs.existsSync(new URL('broken', import.meta.url))) throw new Error('it is broken');
if (globalThis.entered === undefined && fs.existsSync(new URL('slow', import.meta.url))) await new Promise((done) => setTimeout(done, 3600_000));
globalThis.ahead = globalThis.entered === undefined;
export const other = process.env.OTHER ?? 'none';
`,
	".env": "PLACE=here\n",
}

func node(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath(cmp.Or(os.Getenv("NODE"), "node"))
	if err != nil {
		t.Fatalf("Node.js is not installed, and NODE names none: %v", err)
	}
	return path
}

type prewarmedRig struct {
	*handoverRig
	folder, lists string
	group         string    // below it each generation has one
	list          time.Time // when it was written, as far as the test has seen it
}

func newPrewarmedRig(t *testing.T) *prewarmedRig {
	t.Helper()
	r := &prewarmedRig{handoverRig: &handoverRig{rig: preloadRig(t), ends: make(chan ends.Exit, 100)}, folder: t.TempDir(), lists: t.TempDir()}
	for name, content := range prewarmedFiles {
		r.write(name, content)
	}
	r.options.Alone = true
	r.options.Ended = func(exit ends.Exit) { r.ends <- exit }
	r.options.Modules = func() (string, error) { return r.lists, nil }
	r.options.SettleTime = 50 * time.Millisecond
	r.spec.Prewarm, r.spec.PrewarmTimeout, r.spec.Handoff = true, time.Hour, handoff.Preload
	r.spec.Command = []string{node(t), "entry.mjs"}
	r.spec.Directory = r.folder
	r.spec.Environment = append(r.spec.Environment, fmt.Sprintf("PORT=%d", r.spec.Sockets[0].Address.Port()))
	return r
}

func (r *prewarmedRig) write(name, content string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.folder, name), []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *prewarmedRig) remove(name string) {
	r.t.Helper()
	if err := os.Remove(filepath.Join(r.folder, name)); err != nil {
		r.t.Fatal(err)
	}
}

// learned waits until the present generation has said what it loads.
func (r *prewarmedRig) learned() {
	r.t.Helper()
	wait.InDirectory(r.t, bound, r.lists, func() (string, bool) {
		info, err := os.Stat(filepath.Join(r.lists, "modules.json"))
		if err != nil || info.ModTime().Equal(r.list) {
			return fmt.Sprintf("no new list: %v", err), false
		}
		r.list = info.ModTime()
		return "", true
	})
}

// begun is how many generations have begun to run.
func (r *prewarmedRig) begun() int {
	r.t.Helper()
	content, err := os.ReadFile(filepath.Join(r.folder, "begun"))
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.Count(string(content), "\n")
}

func (r *prewarmedRig) restart() error { return r.outcome(r.supervisor.Restart(false)) }

// prewarmed is the first generation with a list, and a second one that was loaded ahead.
func (r *prewarmedRig) prewarmed() {
	r.t.Helper()
	r.served()
	r.learned()
	r.want(r.restart())
	if now := r.servedBy(2); !now.Prewarmed || now.Cold != "" || now.GateAfter == 0 || now.ReleasedAfter < now.GateAfter {
		r.t.Fatalf("the second one is %+v, want one that was loaded ahead", now)
	}
	if exit := r.ended(1, ends.ReasonRestart); exit.Stall != 0 {
		r.t.Errorf("nobody has waited for the first one: %+v", exit)
	}
	r.learned() // it has been examined
	r.wantAnswer("/", "here none 2")
}

// waiting is the third generation, which has loaded its modules and waits for the end of the second one, and what comes of the restart.
func (r *prewarmedRig) waiting() (outcome <-chan error, old Status) {
	r.t.Helper()
	r.prewarmed()
	r.write("stay", "")
	outcome = r.supervisor.Restart(false)
	return outcome, r.beside(3, BesideParked)
}

// cold wants the next restart to lead to that generation, begun cold, and the status to say why.
func (r *prewarmedRig) cold(generation int, why string) {
	r.t.Helper()
	if now := r.servedBy(generation); now.Prewarmed || !strings.Contains(now.Cold, why) {
		r.t.Fatalf("generation %d is %+v, want a cold one, because %q", generation, now, why)
	}
	r.wantAnswer("/", fmt.Sprintf("here none %d", generation))
}

// TestPrewarmed: whatever goes wrong with a generation that loads its modules ahead leads to one that begins cold.
func TestPrewarmed(t *testing.T) {
	path, ok := inScratch(t, func(string) {})
	if !ok {
		return
	}
	for name, c := range map[string]func(*testing.T, *prewarmedRig){
		"again and again": func(t *testing.T, r *prewarmedRig) {
			r.prewarmed()
			r.only(Ready, Stopping, Starting, Ready)
			for generation := 3; generation < 6; generation++ {
				r.want(r.restart())
				now := r.servedBy(generation)
				if !now.Prewarmed || now.Stall == 0 {
					t.Errorf("%+v", now)
				}
				if exit := r.ended(generation-1, ends.ReasonRestart); !exit.Prewarmed || exit.Stall == 0 {
					t.Errorf("%+v", exit)
				}
			}
			if n := r.begun(); n != 5 {
				t.Errorf("%d have begun", n)
			}
		},
		"it begins when nothing is left of the old one": func(t *testing.T, r *prewarmedRig) {
			outcome, old := r.waiting()
			share := func() string {
				content, _ := os.ReadFile(filepath.Join(r.group, "generation-3", "cpu.weight"))
				return strings.TrimSpace(string(content))
			}
			divided := share() != "" // the kernel of the test may not
			if got := share(); divided && got != "10" {
				t.Errorf("it has a share of %s", got)
			}
			if old.State != Stopping {
				t.Errorf("%+v", old)
			}
			score := func(pid int) string {
				content, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
				return fmt.Sprintf("%s %v", strings.TrimSpace(string(content)), err)
			}
			if usual := score(old.PID); score(old.Successor.PID) != "1000 <nil>" || usual == "1000 <nil>" {
				t.Errorf("where memory is short, it goes by %s, and the old one by %s", score(old.Successor.PID), usual)
			}
			if n := r.begun(); n != 2 {
				t.Errorf("%d have begun while the old one stays", n)
			}
			killPID(t, old.PID)
			r.want(r.outcome(outcome))
			if now := r.servedBy(3); score(now.PID) != score(os.Getpid()) {
				t.Errorf("it goes by %s when it serves", score(now.PID))
			}
			if got := share(); divided && got != "100" {
				t.Errorf("it has a share of %s when it serves", got)
			}
			if n := r.begun(); n != 3 {
				t.Errorf("%d have begun", n)
			}
		},
		"no list": func(t *testing.T, r *prewarmedRig) {
			r.options.SettleTime = time.Hour
			r.served()
			r.want(r.restart())
			r.cold(2, "no earlier start has told")
		},
		"a list that others can read": func(t *testing.T, r *prewarmedRig) {
			r.prewarmed()
			if err := os.Chmod(filepath.Join(r.lists, "modules.json"), 0o644); err != nil {
				t.Fatal(err)
			}
			r.want(r.restart())
			r.cold(3, "is not a file that uid")
		},
		"the directory is not ours": func(t *testing.T, r *prewarmedRig) {
			r.options.Modules = func() (string, error) { return "", errors.New("others can write there") }
			r.served()
			r.want(r.restart())
			r.cold(2, "others can write there")
		},
		"no Node.js": func(t *testing.T, r *prewarmedRig) {
			r.spec.Command = []string{"/bin/sh", "-c", "exec " + node(t) + " entry.mjs"}
			r.served()
			r.want(r.restart())
			r.cold(2, "not a Node.js that is started directly")
		},
		"not parked in time": func(t *testing.T, r *prewarmedRig) {
			r.prewarmed()
			r.write("slow", "")
			spec := r.spec
			spec.Edition, spec.After, spec.PrewarmTimeout = 2, 0, 2*time.Second
			r.want(r.outcome(r.supervisor.Apply(spec, false)))
			outcome := r.supervisor.Restart(false)
			r.beside(3, BesideBooting)
			r.wantAnswer("/", "here none 2")
			r.ended(3, ends.ReasonUnready)
			r.want(r.outcome(outcome))
			r.cold(4, "were not loaded ahead in 2s (restart.prewarm_timeout)")
		},
		"a failed import": func(t *testing.T, r *prewarmedRig) {
			r.prewarmed()
			r.write("broken", "")
			outcome := r.supervisor.Restart(false)
			if exit := r.ended(3, ends.ReasonUnready); !strings.Contains(exit.Detail, "it is broken") {
				t.Errorf("%+v", exit)
			}
			r.remove("broken")
			r.want(r.outcome(outcome))
			r.cold(4, "it is broken")
		},
		"the program has changed": func(t *testing.T, r *prewarmedRig) {
			r.prewarmed()
			r.write("entry.mjs", prewarmedFiles["entry.mjs"]+"\n")
			r.want(r.restart())
			r.cold(3, "has changed")
			r.learned()
		},
		"a module changes while it waits": func(t *testing.T, r *prewarmedRig) {
			outcome, old := r.waiting()
			r.write("place.mjs", prewarmedFiles["place.mjs"]+"\n")
			killPID(t, old.PID)
			r.want(r.outcome(outcome))
			r.cold(4, "the program has changed meanwhile")
			if n := r.begun(); n != 3 {
				t.Errorf("%d have begun", n)
			}
		},
		"it dies while it waits": func(t *testing.T, r *prewarmedRig) {
			outcome, old := r.waiting()
			killPID(t, old.Successor.PID)
			r.ended(3, ends.ReasonCrash)
			killPID(t, old.PID)
			r.want(r.outcome(outcome))
			r.cold(4, "killed by SIGKILL")
		},
		"the old one crashes meanwhile": func(t *testing.T, r *prewarmedRig) {
			r.prewarmed()
			r.write("slow", "")
			outcome := r.supervisor.Restart(false)
			old := r.beside(3, BesideBooting)
			killPID(t, old.PID)
			r.want(r.outcome(outcome))
			r.cold(4, "it had not loaded its modules")
		},
		"exit 78": func(t *testing.T, r *prewarmedRig) {
			r.prewarmed()
			r.write("exit-ahead", "78")
			r.want(r.restart())
			r.ended(2, ends.ReasonRestart)
			if exit := r.ended(3, ends.ReasonCrash); exit.Code != 78 {
				t.Errorf("%+v", exit)
			}
			r.cold(4, "exit code 78")
		},
		"twice not ready": func(t *testing.T, r *prewarmedRig) {
			r.prewarmed()
			r.write("exit-ahead", "1")
			generation := 2
			for range 2 {
				r.want(r.restart())
				generation += 2
				r.cold(generation, "exit code 1")
			}
			r.remove("exit-ahead")
			r.want(r.restart())
			r.cold(generation+1, "two in a row")
			r.write("package.json", `{"version": "2"}`)
			r.want(r.restart())
			r.cold(generation+2, "no earlier start has told")
			r.learned()
			r.want(r.restart())
			if now := r.servedBy(generation + 3); !now.Prewarmed || now.Cold != "" {
				t.Errorf("of another key: %+v", now)
			}
		},
		"what it changes at its start is new": func(t *testing.T, r *prewarmedRig) {
			r.prewarmed()
			r.write(".env", "PLACE=here\nOTHER=some\n")
			r.want(r.restart())
			if now := r.servedBy(4); now.Prewarmed || !strings.Contains(now.Cold, "it has changed OTHER at its start") {
				t.Errorf("%+v", now)
			}
			r.wantAnswer("/", "here some 4")
			r.learned()
			r.want(r.restart())
			if now := r.servedBy(5); !now.Prewarmed || now.Cold != "" {
				t.Errorf("%+v", now)
			}
			r.wantAnswer("/", "here some 5")
			r.write(".env", "PLACE=there\nOTHER=another\n")
			r.want(r.restart())
			if now := r.servedBy(6); !now.Prewarmed {
				t.Errorf("%+v", now)
			}
			r.wantAnswer("/", "there another 6")
		},
		"a module that listens": func(t *testing.T, r *prewarmedRig) {
			r.write("server.mjs", `import { createServer } from 'node:http';
createServer((request, response) => response.end(`+"`here none ${process.env.GATEWAY_GENERATION}`"+`)).on('error', () => {}).listen(Number(process.env.PORT), '127.0.0.1');
`)
			for i := range 50 {
				r.write(fmt.Sprintf("more%d.mjs", i), "export default 1;\n")
			}
			r.write("entry.mjs", "await import('./server.mjs');\nfor (let i = 0; i < 50; i++) await import(`./more${i}.mjs`);\nprocess.on('SIGTERM', () => {});\n")
			r.served()
			r.learned()
			asked, ask := context.WithCancel(t.Context())
			lost, asking := new(atomic.Int32), new(sync.WaitGroup)
			for range 4 {
				asking.Go(func() {
					for asked.Err() == nil {
						if _, err := r.get("/"); err != nil {
							lost.Add(1)
							t.Logf("lost: %v", err)
						}
					}
				})
			}
			outcome := r.supervisor.Restart(false)
			old := r.beside(2, BesideParked)
			ask()
			asking.Wait()
			killPID(t, old.PID)
			r.want(r.outcome(outcome))
			if lost := lost.Load(); lost > 0 {
				t.Errorf("%d clients were lost to one that was not to begin", lost)
			}
			if now := r.servedBy(2); !now.Prewarmed {
				t.Errorf("%+v", now)
			}
			r.wantAnswer("/", "here none 2")
		},
		"a module that leaves a process": func(t *testing.T, r *prewarmedRig) {
			r.write("other.mjs", `import { spawn } from 'node:child_process';
if (globalThis.entered === undefined) spawn('sleep', ['3600'], { stdio: 'ignore', detached: true }).unref();
export const other = 'none';
`)
			r.served()
			r.learned()
			r.want(r.restart())
			r.cold(3, "has started")
		},
		"an upgrade in the midst of its start": func(t *testing.T, r *prewarmedRig) {
			r.prewarmed()
			r.write(".late", "OTHER=late\n")
			r.want(r.restart())
			if saved := heldStill(t, r.rig); saved.Number != 4 || saved.Serving.Ahead || !strings.Contains(saved.Cold, "OTHER") || saved.Spoiled != 1 || saved.Spent == "" {
				t.Errorf("passed on is %+v of %+v, want the one that has begun cold", saved.Serving, saved)
			}
			r.cold(4, "it has changed OTHER at its start")
		},
		"another restart while it loads": func(t *testing.T, r *prewarmedRig) {
			r.prewarmed()
			r.write("slow", "")
			first := r.supervisor.Restart(false)
			r.beside(3, BesideBooting)
			r.remove("slow")
			r.want(errors.Join(r.restart(), r.outcome(first)))
			if now := r.servedBy(4); !now.Prewarmed {
				t.Errorf("%+v", now)
			}
		},
		"the launcher ends": func(t *testing.T, r *prewarmedRig) {
			r.prewarmed()
			r.write("slow", "")
			outcome := r.supervisor.Restart(false)
			r.beside(3, BesideBooting)
			r.stop()
			r.awaitEnd()
			if err := r.outcome(outcome); !errors.Is(err, ErrStopping) {
				t.Errorf("%v", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newPrewarmedRig(t)
			r.group = path
			c(t, r)
		})
		if left := groups(t, path); len(left) > 1 {
			t.Errorf("%s: left are %v", name, left)
		}
	}
}
