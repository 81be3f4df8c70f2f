package prewarm

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/test/wait"
)

const (
	bound   = 30 * time.Second
	settled = 50 * time.Millisecond
)

// files are a program that reads its own .env, and imports modules only after that, as OpenClaw does.
var files = map[string]string{
	"package.json": `{"type": "module"}`,
	"entry.mjs": `import fs from 'node:fs';
import net from 'node:net';
import { early } from './early.mjs';
for (const line of fs.readFileSync(new URL('.env', import.meta.url), 'utf8').split('\n')) {
  const [name, value] = line.split('=');
  if (value !== undefined) process.env[name] ??= value;
}
const { plain } = await import('./plain.mjs');
const { importer } = await import('./importer.mjs');
const { default: common } = await import('./common.cjs');
net.createServer().listen(0, '127.0.0.1', () => console.log(JSON.stringify({ early, plain, importer, common, env: process.env.PLACE, again: process.env.NODE_OPTIONS })));
process.on('SIGTERM', () => process.exit());
`,
	"early.mjs":    "export const early = 'early';\n",
	"plain.mjs":    "globalThis.evaluated = [...(globalThis.evaluated ?? []), 'plain'];\nexport const plain = globalThis.begun ?? 'plain';\n",
	"importer.mjs": "import { place } from './reads.mjs';\nexport const importer = `at ${place}`;\n",
	"reads.mjs":    "import { get } from './helper.mjs';\nexport const place = get('PLACE');\n",
	"helper.mjs":   "export const get = (name) => process.env[name] ?? 'nowhere';\n",
	"common.cjs":   "module.exports = `${process.env.OTHER ?? 'no other'}`;\n",
	".env":         "PLACE=here\n",
}

type rig struct {
	folder, lists, place string
	environ              []string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{folder: t.TempDir(), lists: t.TempDir(), place: t.TempDir(), environ: []string{"PATH=" + os.Getenv("PATH")}}
	for name, content := range files {
		r.write(t, name, content)
	}
	return r
}

func (r *rig) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.folder, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func node(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("NODE"); path != "" {
		return path
	}
	path, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("these tests need Node.js: set NODE, or install it")
	}
	return path
}

func (r *rig) program(t *testing.T) Program {
	t.Helper()
	p, err := Of(node(t), []string{"node", "entry.mjs"}, r.folder, r.environ)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// life is a process of the program.
type life struct {
	cmd   *exec.Cmd
	lines *bufio.Reader
	ahead *Ahead
}

func (r *rig) start(t *testing.T, a *Ahead) *life {
	t.Helper()
	cmd := exec.Command(node(t), "entry.mjs")
	cmd.Dir, cmd.Stderr = r.folder, os.Stderr
	cmd.Env = slices.Concat(r.environ, a.Env())
	cmd.ExtraFiles = a.Files()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if len(a.Files()) > 0 {
		a.Started()
	}
	l := &life{cmd, bufio.NewReader(out), a}
	t.Cleanup(l.end)
	return l
}

func (l *life) end() {
	_ = l.ahead.Close()
	_ = l.cmd.Process.Kill()
	_ = l.cmd.Wait()
}

// said is the line with which the program has begun.
func (l *life) said(t *testing.T) string {
	t.Helper()
	stuck := time.AfterFunc(bound, func() { _ = l.cmd.Process.Kill() })
	defer stuck.Stop()
	line, err := l.lines.ReadString('\n')
	if err != nil {
		t.Fatalf("the program has said %q: %v", line, err)
	}
	return strings.TrimSpace(line)
}

func (l *life) told(t *testing.T, want Event) Report {
	t.Helper()
	stuck := time.AfterFunc(bound, func() { _ = l.cmd.Process.Kill() })
	defer stuck.Stop()
	report, err := l.ahead.Next()
	if err != nil || report.Event != want {
		t.Fatalf("it tells %+v, %v, want %q", report, err, want)
	}
	return report
}

// cold is a life that learns, until the list is there; it returns what the program has said.
func (r *rig) cold(t *testing.T) string {
	t.Helper()
	a, err := Learning(r.program(t), r.lists, r.place, r.environ, settled)
	if err != nil {
		t.Fatal(err)
	}
	l := r.start(t, a)
	defer l.end()
	said := l.said(t)
	wait.InDirectory(t, bound, r.lists, func() (string, bool) {
		_, err := ReadList(r.lists, a.key)
		return fmt.Sprintf("no list: %v", err), err == nil
	})
	return said
}

func (r *rig) ahead(t *testing.T) *life {
	t.Helper()
	a, err := Loading(r.program(t), r.lists, r.place, r.environ, settled, 3)
	if err != nil {
		t.Fatal(err)
	}
	return r.start(t, a)
}

func (l *life) release(t *testing.T) {
	t.Helper()
	if err := errors.Join(l.ahead.Unchanged(), l.ahead.Release()); err != nil {
		t.Fatal(err)
	}
}

const begun = `{"early":"early","plain":"plain","importer":"at here","common":"no other","env":"here"}`

// TestAhead: a program begins as it does cold, and what it changes before it imports a module is what that reads.
func TestAhead(t *testing.T) {
	r := newRig(t)
	if got := r.cold(t); got != begun {
		t.Fatalf("cold it says %s, want %s", got, begun)
	}
	for range 2 { // the second finds the list examined
		l := r.ahead(t)
		report := l.told(t, Parked)
		if report.Modules != 3 || report.Apart != 3 { // early, plain, common; importer, reads, helper
			t.Errorf("it has loaded %+v, want 3 modules, and 3 left apart", report)
		}
		l.release(t)
		if got := l.said(t); got != begun {
			t.Errorf("loaded ahead it says %s, want %s", got, begun)
		}
		l.end()
	}
	r.write(t, ".env", "PLACE=there\n")
	l := r.ahead(t)
	l.told(t, Parked)
	l.release(t)
	if got, want := l.said(t), strings.ReplaceAll(begun, "here", "there"); got != want {
		t.Errorf("with another value it says %s, want %s", got, want)
	}
}

// TestClocks: the clocks that begin with the process begin with the program, and a module that keeps what they show is left to that.
func TestClocks(t *testing.T) {
	r := newRig(t)
	r.write(t, "entry.mjs", `import net from 'node:net';
import { early } from './early.mjs';
import { kept } from './plain.mjs';
import './common.cjs';
import './reads.mjs';
import './called.mjs';
import './hrtime.mjs';
import './bigint.mjs';
const start = performance.now();
performance.mark('it');
const lasts = Math.max(...[[{ start }], ['it'], ['it', undefined]].map((given) => performance.measure('it lasts', ...given).duration));
const whole = performance.measure('whole').duration;
net.createServer().listen(0, '127.0.0.1', () => console.log(JSON.stringify({ origin: performance.timeOrigin, early, lasts, whole, kept: kept(), now: performance.now(), uptime: process.uptime() * 1000 })));
`)
	r.write(t, "called.mjs", "export const at = Date();\n")
	r.write(t, "hrtime.mjs", "export const at = process.hrtime();\n")
	r.write(t, "bigint.mjs", "export const at = process.hrtime.bigint();\n")
	r.write(t, "early.mjs", "import { once } from './helper.mjs';\nexport const early = once(() => performance.now());\n")
	r.write(t, "helper.mjs", "export const once = (make) => make();\n")
	r.write(t, "plain.mjs", "export const kept = performance.now.bind(performance);\nexport const known = [new Date(0) instanceof Date, Date.UTC(2026)];\n")
	r.write(t, "common.cjs", "module.exports = Date.now();\n")
	r.write(t, "reads.mjs", "export const at = `${new Date()}`;\n")
	r.cold(t)
	l := r.ahead(t)
	if report := l.told(t, Parked); report.Modules != 2 || report.Apart != 6 {
		t.Errorf("it has loaded %+v, want helper.mjs and plain.mjs, and the others left to the program", report)
	}
	time.Sleep(time.Second) // it grows older
	released := time.Now()
	l.release(t)
	var is struct{ Origin, Early, Lasts, Whole, Kept, Now, Uptime float64 }
	if err := json.Unmarshal([]byte(l.said(t)), &is); err != nil {
		t.Fatal(err)
	}
	const slack = 10 // in ms: one clock is the wall's
	lived := float64(time.Since(released).Milliseconds()) + slack
	if begun := float64(released.UnixMilli()); is.Origin < begun-slack || is.Origin > begun+lived {
		t.Errorf("it began %.0f ms after it was released", is.Origin-begun)
	}
	if is.Early < 0 || is.Early > is.Kept || is.Kept > is.Now || is.Now > lived || is.Lasts > is.Now || is.Whole > is.Now || is.Uptime < is.Now-slack || is.Uptime > lived {
		t.Errorf("%.0f ms after it was released it shows %+v", lived, is)
	}
}

// TestImporters: whoever asks for a module that is left to the program is left to it, too, also where Node.js knows the answer from another
// module of the same directory.
func TestImporters(t *testing.T) {
	r := newRig(t)
	r.write(t, "entry.mjs", `import net from 'node:net';
import './first.cjs';
import './importer.mjs';
net.createServer().listen(0, '127.0.0.1', () => console.log('begun'));
`)
	r.write(t, "first.cjs", "require('./clock.cjs');\n")
	r.write(t, "data.json", "{}")
	r.write(t, "importer.mjs", "import './plain.mjs';\nimport './data.json' with { type: 'json' };\nimport './second.cjs';\n")
	r.write(t, "second.cjs", "require('./clock.cjs');\nrequire('./data.json');\n")
	r.write(t, "clock.cjs", "module.exports = Date.now();\n")
	r.cold(t)
	l := r.ahead(t)
	if report := l.told(t, Parked); report.Modules != 1 || report.Apart != 4 {
		t.Errorf("it has loaded %+v, want plain.mjs, and the others left to the program", report)
	}
}

// TestStale: what the program changes for the first time, and a module has read, ends it before that goes on.
func TestStale(t *testing.T) {
	r := newRig(t)
	r.cold(t)
	r.write(t, ".env", "PLACE=here\nOTHER=one\n")
	l := r.ahead(t)
	l.told(t, Parked)
	l.release(t)
	if report := l.told(t, Stale); report.Detail != "OTHER" {
		t.Errorf("it tells %+v, want OTHER", report)
	}
	l.end()
	if line, err := l.lines.ReadString('\n'); err == nil {
		t.Errorf("it went on, and said %s", line)
	}
	if err := l.ahead.Forget(); err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(begun, "no other", "one", 1)
	if got := r.cold(t); got != want {
		t.Fatalf("cold it says %s, want %s", got, want)
	}
	l = r.ahead(t)
	l.told(t, Parked)
	l.release(t)
	if got := l.said(t); got != want {
		t.Errorf("learned anew it says %s, want %s", got, want)
	}
}

// TestNotLoaded: whatever cannot be loaded ahead is told, and the program does not begin.
func TestNotLoaded(t *testing.T) {
	for what, first := range map[string]string{
		"a module that fails ahead of the program": "if (process.env.PLACE === undefined) throw new Error('no place');\n",
		"a module that listens":                    "import net from 'node:net';\nnet.createServer().on('error', () => {}).listen(0, '127.0.0.1');\n",
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t)
			r.write(t, "plain.mjs", first+"export const plain = 'plain';\n")
			r.cold(t)
			l := r.ahead(t)
			if report := l.told(t, Parked); report.Apart != 4 {
				t.Errorf("it has loaded %+v, want plain.mjs left to the program", report)
			}
			l.release(t)
			if got := l.said(t); got != begun {
				t.Errorf("it says %s, want %s", got, begun)
			}
		})
	}
	t.Run("a module that is gone", func(t *testing.T) {
		r := newRig(t)
		r.cold(t)
		if err := os.Remove(filepath.Join(r.folder, "early.mjs")); err != nil {
			t.Fatal(err)
		}
		if _, err := Loading(r.program(t), r.lists, r.place, r.environ, settled, 3); err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("%v, want that it is not there", err)
		}
		if a, err := Learning(r.program(t), r.lists, r.place, r.environ, settled); a == nil || err != nil {
			t.Errorf("which modules there are now is not learned: %v", err)
		}
	})
	t.Run("a failed import", func(t *testing.T) {
		r := newRig(t)
		r.write(t, "plain.mjs", "import fs from 'node:fs';\nif (fs.existsSync(new URL('broken', import.meta.url))) throw new Error('it is broken');\nexport const plain = 'plain';\n")
		r.cold(t)
		r.ahead(t).told(t, Parked)
		r.write(t, "broken", "")
		l := r.ahead(t)
		if report := l.told(t, Failed); !strings.Contains(report.Detail, "it is broken") {
			t.Errorf("it tells %+v", report)
		}
	})
	t.Run("a module that ends the process", func(t *testing.T) {
		r := newRig(t)
		r.write(t, "plain.mjs", "if (process.env.PLACE === undefined) process.exit(0);\nexport const plain = 'plain';\n")
		r.cold(t)
		if report := r.ahead(t).told(t, Failed); !strings.Contains(report.Detail, "one of them ends the process") {
			t.Errorf("it tells %+v", report)
		}
	})
	t.Run("a module that listens when it is loaded once more", func(t *testing.T) {
		r := newRig(t)
		r.write(t, "plain.mjs", `import fs from 'node:fs';
import net from 'node:net';
if (fs.existsSync(new URL('listen', import.meta.url))) {
  try {
    net.createServer().listen(0, '127.0.0.1');
  } catch {}
}
export const plain = 'plain';
`)
		r.cold(t)
		r.ahead(t).told(t, Parked)
		r.write(t, "listen", "")
		if report := r.ahead(t).told(t, Failed); !strings.Contains(report.Detail, "listens") {
			t.Errorf("it tells %+v", report)
		}
	})
	for _, c := range []struct{ what, code, want string }{
		{"connects", "import net from 'node:net';\nnet.connect(1, '127.0.0.1').on('error', () => {});\n", "TCPSocketWrap"},
		{"has a socket", "import dgram from 'node:dgram';\ndgram.createSocket('udp4').bind(0, '127.0.0.1').unref();\n", "socket:"},
		{"watches", "import fs from 'node:fs';\nfs.watch(new URL('.', import.meta.url)).unref();\n", "inotify"},
		{"has a file open", "import fs from 'node:fs';\nglobalThis.state = fs.openSync(new URL('.env', import.meta.url));\n", "/.env"},
		{"has a thread", "import { Worker } from 'node:worker_threads';\nnew Worker('setTimeout(() => {}, 3600_000)', { eval: true }).unref();\n", "a thread"},
	} {
		t.Run("a module that "+c.what, func(t *testing.T) {
			r := newRig(t)
			r.write(t, "plain.mjs", c.code+"export const plain = 'plain';\n")
			r.cold(t)
			if report := r.ahead(t).told(t, Failed); !strings.Contains(report.Detail, "does more than to be loaded") || !strings.Contains(report.Detail, c.want) {
				t.Errorf("it tells %+v, want %s", report, c.want)
			}
		})
	}
	t.Run("another module instead", func(t *testing.T) {
		r := newRig(t)
		r.cold(t)
		l := r.ahead(t)
		l.told(t, Parked)
		r.write(t, "early.mjs", "export const early = 'later';\n")
		if err := l.ahead.Unchanged(); err == nil {
			t.Error("an edit is not noticed")
		}
	})
	t.Run("other data", func(t *testing.T) {
		r := newRig(t)
		r.write(t, "data.json", `{"value": 1}`)
		r.write(t, "early.mjs", "import data from './data.json' with { type: 'json' };\nexport const early = data.value && 'early';\n")
		r.cold(t)
		l := r.ahead(t)
		l.told(t, Parked)
		r.write(t, "data.json", `{"value": 22}`)
		if err := l.ahead.Unchanged(); err == nil {
			t.Error("an edit of what a module has read is not noticed")
		}
	})
	t.Run("the launcher has gone", func(t *testing.T) {
		r := newRig(t)
		r.cold(t)
		l := r.ahead(t)
		l.told(t, Parked)
		_ = l.ahead.gate.Close()
		rest, _ := io.ReadAll(l.lines)
		err := l.cmd.Wait()
		if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 75 || len(rest) > 0 {
			t.Errorf("it ends with %v, and has said %s", err, rest)
		}
	})
}

// TestNothingToLoad: a program of one file tells that it is one.
func TestNothingToLoad(t *testing.T) {
	r := newRig(t)
	r.write(t, "entry.mjs", "import http from 'node:http';\nhttp.createServer(() => {}).listen(0, '127.0.0.1', () => console.log('listening'));\n")
	a, err := Learning(r.program(t), r.lists, r.place, r.environ, settled)
	if err != nil {
		t.Fatal(err)
	}
	l := r.start(t, a)
	defer l.end()
	wait.InDirectory(t, bound, r.lists, func() (string, bool) {
		_, err := ReadList(r.lists, a.key)
		return fmt.Sprint(err), errors.Is(err, ErrNothing)
	})
	if _, err := Loading(r.program(t), r.lists, r.place, r.environ, settled, 3); !errors.Is(err, ErrNothing) {
		t.Errorf("to load it ahead: %v", err)
	}
}

// TestList: a list that is not this user's alone is refused, and one of another program is none.
func TestList(t *testing.T) {
	r := newRig(t)
	program := r.program(t)
	key, err := program.Key()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadList(r.lists, key); !errors.Is(err, ErrNoList) {
		t.Errorf("none: %v", err)
	}
	r.cold(t)
	path := filepath.Join(r.lists, listFile)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v, want 0600", info.Mode(), err)
	}
	if list, err := ReadList(r.lists, key); err != nil || list.Modules != 6 || time.Since(list.Learned) > time.Minute {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := ReadList(r.lists, "another"); !errors.Is(err, ErrNoList) || !strings.Contains(err.Error(), "has changed") {
		t.Errorf("of another program: %v", err)
	}
	for _, mode := range []os.FileMode{0o620, 0o602, 0o640, 0o604} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadList(r.lists, key); err == nil || !strings.Contains(err.Error(), path+" is not a file that uid") {
			t.Errorf("%v: %v", mode, err)
		}
	}
	if err := errors.Join(os.Rename(path, path+".away"), os.Chmod(path+".away", 0o600), os.Symlink(path+".away", path)); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadList(r.lists, key); err == nil {
		t.Error("a link is followed")
	}
	if err := errors.Join(os.Remove(path), os.Rename(path+".away", path)); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadList(r.lists, key); err == nil {
			t.Error("another user's is read")
		}
	}
	if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte(`{"key": "x", "modu`), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadList(r.lists, "x"); !errors.Is(err, ErrNoList) {
		t.Errorf("a torn one: %v", err)
	}
	if err := errors.Join(Forget(r.lists), Forget(r.lists)); err != nil {
		t.Error(err)
	}
}

// TestKey: each part of a program is part of its key; what another start of it has another value of is not.
func TestKey(t *testing.T) {
	r := newRig(t)
	key := func() string {
		t.Helper()
		key, err := r.program(t).Key()
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	before := key()
	environ := r.environ
	for _, entry := range []string{"INVOCATION_ID=1", "JOURNAL_STREAM=8:1", "LISTEN_PID=1", "GATEWAY_GENERATION=3", "NOTIFY_SOCKET=/x", "TRIGGER_UNIT=x"} {
		if r.environ = append(slices.Clone(environ), entry); key() != before {
			t.Errorf("%s makes it another program", entry)
		}
	}
	if r.environ = append(slices.Clone(environ), "PLACE=x"); key() == before {
		t.Error("another environment is the same program")
	}
	r.environ = environ
	for _, name := range []string{"package.json", "entry.mjs"} {
		r.write(t, name, files[name]+"\n")
		if now := key(); now == before {
			t.Errorf("with another %s it is the same program", name)
		} else {
			before = now
		}
	}
	path := node(t)
	for _, c := range []struct {
		argv []string
		want string
	}{
		{[]string{"node"}, "does not show"},
		{[]string{"node", "--inspect", "entry.mjs"}, "does not show"},
		{[]string{"node", "-r", "x", "entry.mjs"}, "does not show"},
		{[]string{"node", "gone.mjs"}, "no such file"},
		{[]string{"node", "--max-old-space-size=99", "entry.mjs", "more"}, ""},
	} {
		_, err := Of(path, c.argv, r.folder, nil)
		if got := fmt.Sprint(err); (err == nil) != (c.want == "") || !strings.Contains(got, c.want) && err != nil {
			t.Errorf("%q: %s, want %q", c.argv, got, c.want)
		}
	}
}
