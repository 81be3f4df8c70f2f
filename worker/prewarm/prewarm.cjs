// Learns which modules a life of a Node.js program loads, and in a later life loads them ahead, before the program begins, and waits
// there until the launcher says that the earlier life is over. What is moved ahead is code and never state: a module that reads, while it is
// evaluated, what the program changes only later (by a file .env, for one) is not loaded ahead, nor is whoever imports it. Loaded with --require
// from NODE_OPTIONS; gate.mjs beside it, with --import, is where the program waits.
'use strict';

const fs = require('node:fs');
const { readSync, writeSync } = fs; // as they are, whatever the modules make of them

// Ends the process without what modules have registered for its end: it has not begun.
const giveUp = (code) => process.reallyExit(code);

function begin(orders, registerHooks) {
  if (orders.learn) learn(orders, registerHooks);
  else if (orders.examine) gate(() => examine(orders, registerHooks));
  else gate(() => park(orders, registerHooks));
}

// gate.mjs calls it, before the program begins.
function gate(at) {
  globalThis[Symbol.for('gateway.prewarm')] = async () => {
    delete globalThis[Symbol.for('gateway.prewarm')];
    await at();
  };
}

function tell({ report }, event) {
  try {
    writeSync(report, `${JSON.stringify(event)}\n`);
  } catch {
    // The launcher has gone: there is nobody to tell.
  }
}

// What a program can change before a module is evaluated, and that module can read.
const circumstances = {
  'process.argv': () => JSON.stringify(process.argv),
  'process.execArgv': () => JSON.stringify(process.execArgv),
  'process.cwd()': () => {
    try {
      return process.cwd();
    } catch {
      return ''; // removed
    }
  },
};

function valueOf(name) {
  return Object.hasOwn(circumstances, name) ? circumstances[name]() : process.env[name];
}

function snapshot() {
  const names = [...Object.keys(process.env), ...Object.keys(circumstances)];
  return new Map(names.map((name) => [name, valueOf(name)]));
}

// Whole or not at all, and for this user alone.
function save({ list }, content) {
  const temporary = `${list}.${process.pid}`;
  try {
    fs.writeFileSync(temporary, JSON.stringify(content), { mode: 0o600, flag: 'wx' });
    fs.renameSync(temporary, list);
  } catch {
    // A full disk: the next one starts cold.
    fs.rmSync(temporary, { force: true });
  }
}

// Calls back before anything listens, each time.
function beforeListening(call) {
  const net = require('node:net');
  const { listen } = net.Server.prototype;
  net.Server.prototype.listen = function (...args) {
    call();
    return listen.apply(this, args);
  };
}

// The modules of the main thread, in the order in which they were first asked for.
function learn(orders, registerHooks) {
  const before = snapshot();
  const modules = new Map();
  const hooks = registerHooks({
    resolve(specifier, context, next) {
      const found = next(specifier, context);
      const { url, format } = found;
      if (!modules.has(url) && url.startsWith('file:')) modules.set(url, { format, imported: context.conditions?.includes?.('import') ?? false });
      return found;
    },
  });
  let written = -1; // none are news as well
  const write = () => {
    if (modules.size === written) return;
    written = modules.size;
    const { pathToFileURL } = require('node:url');
    const entry = pathToFileURL(orders.entry).href;
    const code = [...modules].filter(
      ([url, { format, imported }]) => url !== entry && !/[?#]|\.(json|node|wasm)$/.test(url) && (!imported || format === 'module' || format === 'commonjs'),
    );
    const listed = new Set([entry, ...code.map(([url]) => url)]);
    const after = snapshot();
    const names = new Set([...before.keys(), ...after.keys()]);
    save(orders, {
      key: orders.key,
      node: process.version,
      modules: code.map(([url, { imported }]) => [url, imported]),
      besides: [...modules.keys()].filter((url) => !listed.has(url)), // what they read: data, addons
      changes: [...names].filter((name) => before.get(name) !== after.get(name)).sort(),
    });
  };
  let listens = false; // which is what it was started for
  beforeListening(() => {
    if (listens) return;
    listens = true;
    for (const [i, delay] of orders.after.entries()) {
      const timer = setTimeout(() => {
        write();
        if (i + 1 === orders.after.length) hooks.deregister();
      }, delay);
      timer.unref();
    }
  });
}

function read({ list, key }) {
  const content = JSON.parse(fs.readFileSync(list, 'utf8'));
  if (content.key !== key || content.node !== process.version) throw new Error('the list of modules is of another program');
  return content;
}

async function load([url, imported], require) {
  const { fileURLToPath } = require('node:url');
  if (imported) await import(url);
  else require(fileURLToPath(url));
}

// Has the clocks that begin with the process begin so many milliseconds later, also for whoever keeps one of these functions.
function setClocks(later) {
  const { timeOrigin, mark, measure } = performance;
  const now = performance.now.bind(performance);
  const age = () => now() - later();
  Object.defineProperty(performance, 'timeOrigin', { configurable: true, enumerable: true, get: () => timeOrigin + later() });
  performance.now = age;
  performance.mark = (name, options) => mark.call(performance, name, { startTime: age(), ...options });
  performance.measure = (name, from, to) => {
    const given = typeof from === 'object' ? from : { start: from ?? 0, end: to };
    return measure.call(performance, name, given?.duration === undefined ? { ...given, end: given?.end ?? age() } : given);
  };
  process.uptime = () => age() / 1000;
  require('node:module').syncBuiltinESMExports();
}

// Loads all of the list in a process that is given up, to see what each module reads while it is evaluated.
async function examine(orders, registerHooks) {
  const content = read(orders);
  const changes = new Set(content.changes);
  const reads = new Set();
  const apart = new Set(); // modules that cannot be loaded ahead
  let loading;
  const importers = new Map(); // url -> those that ask for it
  const asks = (importer, url) => {
    if (!importers.has(url)) importers.set(url, new Set());
    importers.get(url).add(importer);
  };
  registerHooks({
    resolve(specifier, context, next) {
      const found = next(specifier, context);
      asks(context.parentURL, found.url);
      return found;
    },
  });
  const leave = () => {
    for (const url of callers()) apart.add(url);
    apart.add(loading);
  };
  watchReads((name) => {
    reads.add(name);
    if (changes.has(name) || name === '*') leave();
  });
  watchTime(() => apart.add(callers()[0] ?? loading)); // who has called that one imports it, or is it
  beforeListening(() => {
    leave();
    throw new Error('it listens');
  });
  const require = from(orders);
  for (const module of content.modules) {
    [loading] = module;
    try {
      await load(module, require);
    } catch {
      apart.add(loading);
    }
  }
  const { pathToFileURL } = require('node:url');
  // No hook sees what is required a second time from one directory: Node.js knows the answer. It notes who has asked.
  for (const { filename, children } of Object.values(require.cache)) {
    for (const child of children ?? []) if (child.filename) asks(pathToFileURL(filename).href, pathToFileURL(child.filename).href); // imported data has neither
  }
  const waiting = [...apart];
  for (const url of waiting) {
    for (const importer of importers.get(url) ?? []) {
      if (importer === undefined || apart.has(importer)) continue;
      apart.add(importer);
      waiting.push(importer);
    }
  }
  save(orders, { ...content, files: orders.files, apart: content.modules.map(([url]) => url).filter((url) => apart.has(url)), reads: [...reads].filter((name) => !changes.has(name)).sort() });
  giveUp(0);
}

// The files whose code is on the stack.
function callers() {
  const { pathToFileURL } = require('node:url');
  const { prepareStackTrace, stackTraceLimit } = Error;
  Error.stackTraceLimit = Infinity;
  Error.prepareStackTrace = (_, sites) => sites.map((site) => site.getFileName());
  const { stack } = new Error();
  Object.assign(Error, { prepareStackTrace, stackTraceLimit });
  return stack.filter((file) => file && file !== __filename && !file.startsWith('node:')).map((file) => (file.startsWith('file:') ? file : pathToFileURL(file).href));
}

function watchReads(note) {
  const os = require('node:os');
  const { env } = process;
  const reading = (name) => {
    if (typeof name === 'string') note(name);
  };
  const watched = new Proxy(env, {
    get: (target, name) => (reading(name), target[name]),
    has: (target, name) => (reading(name), name in target),
    getOwnPropertyDescriptor: (target, name) => (reading(name), Reflect.getOwnPropertyDescriptor(target, name)),
    ownKeys: (target) => (note('*'), Reflect.ownKeys(target)),
  });
  Object.defineProperty(process, 'env', { configurable: true, enumerable: true, writable: true, value: watched });
  for (const name of ['argv', 'execArgv']) {
    const value = process[name];
    Object.defineProperty(process, name, { configurable: true, enumerable: true, get: () => (note(`process.${name}`), value) });
  }
  const { cwd } = process;
  process.cwd = () => (note('process.cwd()'), cwd());
  // These ask the system.
  for (const [name, ...variables] of [['homedir', 'HOME'], ['tmpdir', 'TMPDIR', 'TMP', 'TEMP']]) {
    const { [name]: real } = os;
    os[name] = () => (variables.forEach(note), real());
  }
  require('node:module').syncBuiltinESMExports();
}

// Calls back when the time is read, which a module that is loaded ahead would keep from before.
function watchTime(looks) {
  setClocks(() => {
    looks();
    return 0;
  });
  const { now } = Date;
  Date.now = () => (looks(), now());
  const { hrtime } = process;
  process.hrtime = Object.assign((...given) => (looks(), hrtime(...given)), { bigint: () => (looks(), hrtime.bigint()) });
  globalThis.Date = new Proxy(Date, {
    apply: (target) => (looks(), target()),
    construct: (target, given, made) => {
      if (given.length === 0) looks();
      return Reflect.construct(target, given, made);
    },
  });
}

function from({ entry }) {
  return require('node:module').createRequire(entry);
}

// A process of its own examines the list, because what it has read with is not what the program is to run with.
function examineBeside(orders) {
  const { spawnSync } = require('node:child_process');
  const { options, list, entry, key, files } = orders;
  const env = {
    ...process.env,
    NODE_OPTIONS: [process.env.NODE_OPTIONS ?? '', ...options].join(' ').trim(),
    GATEWAY_PREWARM: JSON.stringify({ options, list, entry, key, files, examine: true }),
  };
  const { status, signal } = spawnSync(process.execPath, [...process.execArgv, ...process.argv.slice(1)], { env, stdio: 'ignore' });
  if (status !== 0) throw new Error(`the list of modules could not be examined (${signal ?? `exit code ${status}`})`);
}

// Nothing of the program runs until the launcher has written a byte. It closes the pipe when it ends.
function hold({ gate }) {
  for (;;) {
    try {
      if (readSync(gate, Buffer.alloc(1)) > 0) return;
      giveUp(75);
    } catch ({ code }) {
      if (code !== 'EINTR') giveUp(75); // by SIGUSR1, which Node.js takes for its debugger
    }
  }
}

async function park(orders, registerHooks) {
  let found;
  // In place before a module can keep what it finds there. Whoever listens ahead of the program would be given clients of the earlier life.
  let early = false;
  let listen = () => {
    early = true;
    throw new Error('it listens');
  };
  beforeListening(() => listen());
  let waited = 0;
  setClocks(() => waited);
  try {
    found = await loadAhead(orders, registerHooks);
    if (early) throw new Error('a module that was loaded ahead listens');
  } catch (error) {
    tell(orders, { event: 'failed', detail: `${error?.message ?? error}`.slice(0, 500) });
    hold(orders); // to be ended
    giveUp(75);
  }
  tell(orders, { event: 'parked', ...found.counts });
  hold(orders);
  waited = performance.now(); // the program is as old as its first line, and not as what was loaded for it
  listen = compare(orders, registerHooks, found.values);
}

// What a process has that does something already, as Node.js calls it; what a module has told it not to wait for is not among it.
const acting = ['TCPSocketWrap', 'UDPWrap', 'ProcessWrap', 'FSEventWrap', 'StatWatcher'];

// The files and sockets that are open, and what watches files.
function opened() {
  const targets = fs.readdirSync('/proc/self/fd').map((fd) => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return ''; // that of the look itself
    }
  });
  return targets.filter((target) => /^(\/(?!dev\/|proc\/)|socket:|anon_inode:.*inotify)/.test(target));
}

async function loadAhead(orders, registerHooks) {
  let content = read(orders);
  if (content.files !== orders.files) {
    examineBeside(orders);
    content = read(orders);
    if (content.files !== orders.files) throw new Error('the list of modules could not be examined: one of them ends the process');
  }
  const values = new Map(content.reads.map((name) => [name, valueOf(name)]));
  const apart = new Set(content.apart);
  const ahead = content.modules.filter(([url]) => !apart.has(url));
  let spoiled;
  const before = new Set(opened());
  const threads = [];
  const begun = () => threads.push('a thread');
  process.on('worker', begun);
  const hooks = registerHooks({
    resolve(specifier, context, next) {
      const found = next(specifier, context);
      if (apart.has(found.url)) spoiled ??= found.url;
      return found;
    },
  });
  const require = from(orders);
  for (const module of ahead) {
    try {
      await load(module, require);
    } catch (error) {
      throw new Error(`${module[0]} cannot be loaded ahead: ${error?.message ?? error}`);
    }
    if (spoiled !== undefined) throw new Error(`${module[0]} loads ${spoiled}, which is not to be loaded ahead`);
  }
  await new Promise((done) => {
    setImmediate(done); // what they have begun is there then
  });
  hooks.deregister();
  process.off('worker', begun);
  const busy = [...process.getActiveResourcesInfo().filter((kind) => acting.includes(kind)), ...threads, ...opened().filter((target) => !before.has(target))];
  if (busy.length > 0) throw new Error(`a module that was loaded ahead does more than to be loaded: ${busy.join(', ')}`);
  return { values, counts: { modules: ahead.length, apart: content.modules.length - ahead.length } };
}

// While the program begins, what it changes is compared with what the modules have read that were loaded ahead. A difference ends it: nothing
// more of it runs. Returns what is to be called before it listens.
function compare(orders, registerHooks, values) {
  const check = () => {
    for (const [name, value] of values) {
      if (valueOf(name) === value) continue;
      tell(orders, { event: 'stale', detail: name });
      hold(orders);
      giveUp(75);
    }
  };
  const hooks = registerHooks({
    resolve(specifier, context, next) {
      check();
      return next(specifier, context);
    },
  });
  let listens = false;
  return () => {
    if (listens) return;
    listens = true;
    check();
    const timer = setTimeout(() => {
      check();
      hooks.deregister();
      tell(orders, { event: 'same' });
    }, orders.after[0]);
    timer.unref();
  };
}

const order = process.env.GATEWAY_PREWARM;
if (order !== undefined) {
  delete process.env.GATEWAY_PREWARM;
  const orders = JSON.parse(order);
  const options = orders.options.reduce((rest, option) => rest.replace(option, ''), process.env.NODE_OPTIONS ?? '').trim();
  if (options === '') delete process.env.NODE_OPTIONS;
  else process.env.NODE_OPTIONS = options;
  const { registerHooks } = require('node:module');
  if (registerHooks !== undefined) begin(orders, registerHooks); // since Node.js 22.15
  else if (orders.report !== undefined) tell(orders, { event: 'failed', detail: `Node.js ${process.version} has no registerHooks` });
}
