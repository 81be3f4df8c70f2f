package nodejs

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Of each file it is told what it is and as what it was loaded.
const is = "export const is = import.meta.url; export const dirname = import.meta.dirname;\n"

// whole is a program of each kind of module and import that Node.js treats in a way of its own.
var whole = map[string]string{
	"package.json":                `{"type": "module", "name": "whole", "exports": {"./self": "./lib/self.js"}, "imports": {"#inner": "./lib/inner.js"}}`,
	"a.mjs":                       is,
	"b.js":                        is,
	"common.cjs":                  "module.exports = { is: __filename };\n",
	"data.json":                   `{"data": 1}`,
	"same.js":                     "globalThis.times = (globalThis.times ?? 0) + 1; export const times = globalThis.times;\n",
	"with space.mjs":              is,
	"lib/self.js":                 is,
	"lib/inner.js":                is,
	"lib/up.js":                   "export { is } from '../b.js';\n",
	"lib/deep/er/up.mjs":          "export { is } from '../../../a.mjs';\n",
	"lib/cycle.js":                "import { other } from './cycle2.js'; export const one = 1; export const sum = () => one + other;\n",
	"lib/cycle2.js":               "import { one } from './cycle.js'; export const other = 2; export const sees = () => one;\n",
	"folder.js/file":              "",
	"commonjs/package.json":       `{"type": "commonjs"}`,
	"commonjs/c.js":               "module.exports = { is: __filename };\n",
	"commonjs/m.mjs":              is,
	"commonjs/deep/c.js":          "module.exports = { is: __filename };\n",
	"untyped/package.json":        `{}`,
	"untyped/e.js":                is, // Node.js finds out by itself
	"broken/package.json":         `{"type": `,
	"broken/x.js":                 is,
	"broken/y.mjs":                is,
	"null/package.json":           `null`,
	"null/x.js":                   is,
	"node_modules/d/package.json": `{"name": "d", "type": "module", "exports": "./index.js"}`,
	"node_modules/d/index.js":     "export { is } from './lib/d.js';\n",
	"node_modules/d/lib/d.js":     is,
	"node_modules/bare/index.js":  "module.exports = { is: __filename };\n", // below it there is no package.json: not ours above
	"real/target.js":              is,
	"throws.js":                   "throw new Error('while it is evaluated');\n",
	"syntax.js":                   "export const = 1;\n",
	"äö/u.js":                     is,
	"grandchild.mjs":              "import { is } from './b.js'; console.log(JSON.stringify({ url: is, options: process.env.NODE_OPTIONS, order: process.env.GATEWAY_RESOLVE }));\n",
	"child.mjs": `import { is } from './b.js';
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
const used = Object.keys(createRequire(import.meta.url).cache).some((path) => path.endsWith('/resolve.cjs'));
const below = JSON.parse(spawnSync(process.execPath, [new URL('grandchild.mjs', import.meta.url).pathname], { encoding: 'utf8' }).stdout);
process.stdout.write(JSON.stringify({ url: is, below, used, options: process.env.NODE_OPTIONS, order: process.env.GATEWAY_RESOLVE, execArgv: process.execArgv, argv: process.argv.slice(2) }));
process.disconnect?.();
`,
	"thread.mjs": `import { parentPort } from 'node:worker_threads';
import { is } from './b.js';
import { createRequire } from 'node:module';
const used = Object.keys(createRequire(import.meta.url).cache).some((path) => path.endsWith('/resolve.cjs'));
parentPort.postMessage({ url: is, used, options: process.env.NODE_OPTIONS, order: process.env.GATEWAY_RESOLVE, mine: process.env.MINE, execArgv: process.execArgv });
`,
	// Tells what is asked for: of the hooks that are there first whatever those behind them do not answer, of the last ones all.
	"tell.cjs": `require('node:module').registerHooks({ resolve(specifier, context, next) {
  if (specifier.startsWith('.') && context.conditions.includes('import')) (globalThis.asked ??= []).push(specifier);
  return next(specifier, context);
} });
`,
	"left.cjs": `require('node:module').registerHooks({ resolve(specifier, context, next) {
  if (specifier.startsWith('.') && context.conditions.includes('import')) (globalThis.left ??= []).push(specifier);
  return next(specifier, context);
} });
`,
	"outside.sh": "#!/bin/sh\necho \"$NODE_OPTIONS|$GATEWAY_RESOLVE\"\n",
	"entry.mjs": `import { execFile, execFileSync, fork, spawn, spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { promisify } from 'node:util';
import { SHARE_ENV, Worker } from 'node:worker_threads';
import * as a from './a.mjs';
const seen = {};
const note = async (name, look) => {
  try {
    const value = await look();
    seen[name] = value?.is ?? value;
  } catch (error) {
    seen[name] = [error.name, error.code, error.message];
  }
};
const each = async (...specifiers) => { for (const specifier of specifiers) await note(specifier, () => import(specifier)); };
seen.static = a.is;
await each('./b.js', './lib/up.js', './lib/deep/er/up.mjs', './common.cjs', './with%20space.mjs', './a.mjs?query', './a.mjs#hash', './lib/../b.js', './lib//self.js',
  './commonjs/c.js', './commonjs/m.mjs', './commonjs/deep/c.js', './untyped/e.js', './broken/x.js', './broken/y.mjs', './null/x.js', './missing.js', './missing/x.js',
  './folder.js', './link.js', './linked/target.js', './dangling.js', './throws.js', './syntax.js', './%C3%A4%C3%B6/u.js', './äö/u.js', '.', './lib', './lib/self', 'd', 'bare',
  'whole/self', '#inner', import.meta.dirname + '/b.js', './a.mjs/', './same.js', './same.js?again', './same.js', './lib/./self.js', '../' + import.meta.dirname.split('/').at(-1) + '/b.js');
await note('json', async () => (await import('./data.json', { with: { type: 'json' } })).default);
await note('json without', () => import('./data.json'));
await note('js as json', () => import('./b.js', { with: { type: 'json' } }));
await note('unknown attribute', () => import('./b.js', { with: { strange: 'x' } }));
await note('meta.resolve', () => ['./b.js', './missing.js', './link.js', './lib/../a.mjs'].map((specifier) => import.meta.resolve(specifier)));
await note('require', () => createRequire(import.meta.url)('./b.js'));
await note('require linked', () => createRequire(import.meta.url)('./linked/target.js'));
await note('cycle', async () => { const { sum } = await import('./lib/cycle.js'); return [sum(), (await import('./lib/cycle2.js')).sees()]; });
const child = new URL('child.mjs', import.meta.url).pathname;
const env = { ...process.env };
const output = (started) => new Promise((done, failed) => { let all = ''; started.stdout.on('data', (data) => (all += data)); started.on('error', failed); started.on('close', () => done(all)); });
await note('spawnSync', () => JSON.parse(spawnSync(process.execPath, [child, 'x'], { encoding: 'utf8' }).stdout));
await note('spawnSync with', () => JSON.parse(spawnSync(process.execPath, [child], { encoding: 'utf8', env }).stdout));
await note('spawn', async () => JSON.parse(await output(spawn(process.execPath, [child, 'a', 'b']))));
await note('spawn by a relative path', async () => JSON.parse(await output(spawn(process.execPath, ['child.mjs'], { cwd: import.meta.dirname }))));
await note('fork', async () => JSON.parse(await output(fork(child, ['f'], { silent: true }))));
await note('execFile', async () => JSON.parse((await promisify(execFile)(process.execPath, [child])).stdout));
await note('execFileSync', () => JSON.parse(execFileSync(process.execPath, [child], { encoding: 'utf8' })));
await note('one that may read some files', () => JSON.parse(spawnSync(process.execPath, [child], { encoding: 'utf8', env: { NODE_OPTIONS: '--no-warnings --permission --allow-child-process --allow-fs-read=' + import.meta.dirname } }).stdout));
await note('spawn nothing', () => output(spawn('/nonexistent', ['x'])));
await note('spawn badly', () => spawn(process.execPath, 'x y'));
await note('a shell', () => spawnSync('/bin/sh', [import.meta.dirname + '/outside.sh'], { encoding: 'utf8' }).stdout);
await note('another program', () => spawnSync(process.execPath, ['-p', 'process.env.NODE_OPTIONS + "|" + process.env.GATEWAY_RESOLVE'], { encoding: 'utf8' }).stdout);
const thread = (options, file = new URL('thread.mjs', import.meta.url)) => new Promise((done, failed) => { new Worker(file, options).on('message', done).on('error', failed); });
await note('thread', () => thread());
await note('thread with', () => thread({ env: { ...process.env, MINE: 1 }, execArgv: [] }));
await note('thread with options', () => thread({ execArgv: ['--no-warnings'], workerData: 1 }));
await note('thread without anything', () => thread({ env: {} }));
await note('thread of a path', () => thread({ env: process.env }, new URL('thread.mjs', import.meta.url).pathname));
await note('thread that shares', () => thread({ env: SHARE_ENV }));
await note('thread of a source', () => thread({ eval: true, env: {} }, 'require("node:worker_threads").parentPort.postMessage([process.env.NODE_OPTIONS, process.env.GATEWAY_RESOLVE])'));
await note('thread of nothing', () => thread({}, new URL('gone.mjs', import.meta.url)));
await note('thread badly', () => thread({ execArgv: 1 }));
await note('a class of threads', () => { class Mine extends Worker {} const one = new Mine(new URL('thread.mjs', import.meta.url), { env: {} }); one.unref(); return [one instanceof Worker, one instanceof Mine, one.constructor.name]; });
seen.options = process.env.NODE_OPTIONS;
seen.order = process.env.GATEWAY_RESOLVE;
seen.execArgv = process.execArgv;
console.log(JSON.stringify({ seen, asked: globalThis.asked, left: globalThis.left }));
process.exit();
`,
}

// write makes the package, with links besides, and returns where it is, without links.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	folder, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	folder = filepath.Join(folder, "whole")
	for name, content := range files {
		path := filepath.Join(folder, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"link.js": "real/target.js", "linked": "real", "dangling.js": "gone.js"} {
		if err := os.Symlink(to, filepath.Join(folder, link)); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func run(t *testing.T, argv, environ []string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, os.Getenv("NODE"), argv...)
	command.Env = append(os.Environ(), environ...)
	var stderr strings.Builder
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, output, stderr.String())
	}
	return string(output)
}

// TestResolve: with the script a program sees what it sees without, and the script answers.
func TestResolve(t *testing.T) {
	t.Parallel()
	folder := write(t, whole)
	entry := filepath.Join(folder, "entry.mjs")
	in := func(name string) string { return Require(filepath.Join(folder, name)) }
	tell := "NODE_OPTIONS=" + in("tell.cjs") // of the user
	added, err := Resolve([]string{"node", entry}, "/", folder, []string{tell})
	if err != nil || len(added) != 2 {
		t.Fatalf("added: %q, %v", added, err)
	}
	if want := "NODE_OPTIONS=" + in("resolve.cjs") + " " + in("tell.cjs"); added[0] != want {
		t.Errorf("it is started with %s, want %s", added[0], want)
	}
	var without, with struct {
		Seen        map[string]any
		Asked, Left []string
	}
	before := in("left.cjs") + " "
	for _, one := range []struct {
		environ []string
		into    any
	}{
		{[]string{strings.Replace(tell, "=", "="+before, 1)}, &without},
		{[]string{strings.Replace(added[0], "=", "="+before, 1), added[1]}, &with},
	} {
		if err := json.Unmarshal([]byte(run(t, []string{entry}, one.environ)), one.into); err != nil {
			t.Fatal(err)
		}
	}
	if len(without.Seen) < 60 {
		t.Fatalf("without the script it sees %v", without.Seen)
	}
	for name, value := range with.Seen {
		uses := func(seen any) bool {
			fields, _ := seen.(map[string]any)
			used, _ := fields["used"].(bool)
			delete(fields, "used")
			return used
		}
		above, below := uses(without.Seen[name]), uses(value)
		switch {
		case above:
			t.Errorf("%s: the script is used although it is not to be", name)
		case below != slices.Contains(belows, name):
			t.Errorf("%s: that the script is used there is %t: %v", name, below, value)
		}
		expected, _ := json.Marshal(without.Seen[name])
		if got, _ := json.Marshal(value); string(got) != string(expected) {
			t.Errorf("%s:\n%s with the script\n%s without", name, got, expected)
		}
	}
	if !slices.Equal(without.Asked, without.Left) || !slices.Equal(with.Asked, without.Asked) {
		t.Errorf("asked for is %q with the script, %q without, of which Node.js has resolved %q", with.Asked, without.Asked, without.Left)
	}
	for _, specifier := range []string{"./a.mjs", "./b.js", "../b.js", "../../../a.mjs", "./commonjs/m.mjs", "./lib/d.js", "./lib/../b.js"} {
		if slices.Contains(with.Left, specifier) || !slices.Contains(with.Asked, specifier) {
			t.Errorf("Node.js has resolved %s, or nobody has asked for it", specifier)
		}
	}
	for _, specifier := range []string{"./link.js", "./linked/target.js", "./commonjs/c.js", "./missing.js", "./folder.js", "./a.mjs?query", "./common.cjs", "./data.json"} {
		if !slices.Contains(with.Left, specifier) {
			t.Errorf("the script has resolved %s, or nobody has asked for it", specifier)
		}
	}
}

// belows are the threads and processes in which the script is used, too: those of the package that a path names.
var belows = []string{
	"spawnSync", "spawnSync with", "spawn", "fork", "execFile", "thread", "thread with", "thread with options", "thread without anything", "thread of a path", "thread that shares",
}

// TestResolveHooks: whoever has hooks of the older kind, which Node.js asks in a thread of their own, is asked as without the script.
func TestResolveHooks(t *testing.T) {
	t.Parallel()
	folder := write(t, map[string]string{
		"package.json": `{"type": "module"}`,
		"hooks.mjs":    "export const resolve = (specifier, context, next) => specifier.endsWith('/told.js') ? { url: 'data:text/javascript,export const is = \"told\"', shortCircuit: true } : next(specifier, context);\n",
		"later.mjs":    "const { is } = await import('./told.js'); console.log(is);\n",
		"entry.mjs":    "import { register } from 'node:module'; await import('./before.js'); register('./hooks.mjs', import.meta.url); await import('./later.mjs');\n",
		"before.js":    "",
		"told.js":      "export const is = 'not told';\n",
	})
	entry, later := filepath.Join(folder, "entry.mjs"), filepath.Join(folder, "later.mjs")
	for _, argv := range [][]string{{entry}, {"--no-warnings", "--experimental-loader=" + filepath.Join(folder, "hooks.mjs"), later}} {
		added, err := Resolve(append([]string{"node"}, argv[len(argv)-1]), "/", folder, nil)
		if err != nil || len(added) != 2 {
			t.Fatalf("added: %q, %v", added, err)
		}
		if got := run(t, argv, added); got != "told\n" {
			t.Errorf("%q says %q", argv, got)
		}
	}
}

// TestResolveGone: what is started when the script is no longer there starts without.
func TestResolveGone(t *testing.T) {
	t.Parallel()
	folder, place := write(t, whole), t.TempDir()
	added, err := Resolve([]string{"node", "gone.mjs"}, folder, place, nil)
	if err != nil || added != nil {
		t.Fatalf("of a script that is not there, added: %q, %v", added, err)
	}
	entry := filepath.Join(folder, "gone.mjs")
	if err := os.WriteFile(entry, []byte(`import { rmSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { Worker } from 'node:worker_threads';
rmSync(process.argv[2], { recursive: true });
const { status, stderr } = spawnSync(process.execPath, [import.meta.dirname + '/child.mjs'], { encoding: 'utf8' });
if (status !== 0) throw new Error(stderr);
new Worker(new URL('thread.mjs', import.meta.url), { env: {} }).on('message', ({ url }) => console.log(url));
`), 0o644); err != nil {
		t.Fatal(err)
	}
	if added, err = Resolve([]string{"node", "gone.mjs"}, folder, place, nil); err != nil || len(added) != 2 {
		t.Fatalf("added: %q, %v", added, err)
	}
	if got, want := run(t, []string{entry, place}, added), "file://"+filepath.Join(folder, "b.js")+"\n"; got != want {
		t.Errorf("the thread has loaded %q, want %q", got, want)
	}
}

// TestResolveNothing: a program that is no ES module, or whose script a command does not show, is left alone.
func TestResolveNothing(t *testing.T) {
	t.Parallel()
	folder := write(t, map[string]string{
		"commonjs/package.json": `{}`, "commonjs/a.js": "", "commonjs/b.mjs": "",
		"module/package.json": `{"type": "module"}`, "module/a.js": "", "module/dist/deep/c.js": "",
		"broken/package.json": `{`, "broken/a.mjs": "",
		"without/a.js": "",
	})
	for _, test := range []struct {
		argv []string
		in   string // whose package it is; "": nobody's
	}{
		{[]string{"commonjs/a.js"}, ""},
		{[]string{"commonjs/b.mjs"}, "commonjs"},
		{[]string{"module/a.js", "--port", "1"}, "module"},
		{[]string{"--no-warnings=x", filepath.Join(folder, "module/dist/deep/c.js")}, "module"},
		{[]string{"--require", "x", "module/a.js"}, ""},
		{[]string{"module/gone.js"}, ""},
		{[]string{"broken/a.mjs"}, ""},
		{[]string{"without/a.js"}, ""},
		{[]string{"-"}, ""},
		{[]string{"--permission=x", "module/a.js"}, ""},
		{nil, ""},
	} {
		place := t.TempDir()
		added, err := Resolve(append([]string{"node"}, test.argv...), folder, place, []string{"NODE_OPTIONS=--no-deprecation"})
		if err != nil {
			t.Errorf("%q: %v", test.argv, err)
			continue
		}
		if test.in == "" {
			if added != nil {
				t.Errorf("%q: added is %q", test.argv, added)
			}
			continue
		}
		option := Require(filepath.Join(place, "resolve.cjs"))
		if len(added) != 2 || added[0] != "NODE_OPTIONS="+option+" --no-deprecation" || !strings.Contains(added[1], `"folder":"`+filepath.Join(folder, test.in)+`"`) {
			t.Errorf("%q: added is %q", test.argv, added)
		}
	}
	if added, err := Resolve([]string{"node", "module/a.js"}, folder, folder, []string{"NODE_OPTIONS=--permission --allow-fs-read=/srv"}); added != nil || err != nil {
		t.Errorf("one that may not read the script: %q, %v", added, err)
	}
	if _, err := Resolve([]string{"node", "module/a.js"}, folder, filepath.Join(folder, "gone"), nil); err == nil {
		t.Error("nobody says that the script cannot be written")
	}
}

// TestOptions: the options of the user stay, and a path is one word.
func TestOptions(t *testing.T) {
	t.Parallel()
	if got, want := Options([]string{"A=1", "NODE_OPTIONS=--no-warnings", "B=2"}, Require(`/a "b"\c`), Import("/d")), `NODE_OPTIONS=--no-warnings --require "/a \"b\"\\c" --import "/d"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := Options(nil, Require("/a")), `NODE_OPTIONS=--require "/a"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
