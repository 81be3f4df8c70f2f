// Resolves what an ES module imports by a path that is relative to it, as Node.js would, without Node's own search, which is a large part of
// what it takes to load a program of many modules. Anything else is left to Node.js, and whatever is not as simple as it looks: a link, a
// missing file, a folder. Nothing is kept but what Node.js keeps as well: of which kind a folder's modules are. Loaded with --require from
// NODE_OPTIONS; what the program starts of its own package, in a thread or in a process, does the same.
'use strict';

const { lstatSync, readFileSync, realpathSync } = require('node:fs'); // as they are, whatever the modules make of them
const Module = require('node:module');

const relative = /^\.\.?\/(?:[\w.@+-]+\/)*[\w.@+-]+\.m?js$/;
const orNot = { throwIfNoEntry: false };
const kinds = new Map(); // folder -> whether its .js files are ES modules; undefined: the folder is not where it seems to be

// Below which package.json a folder is, and what that says (READ_PACKAGE_SCOPE in Node's documentation of ECMAScript modules).
const scopes = new Map([['', false]]);
function isModuleScope(folder) {
  let found = scopes.get(folder);
  if (found !== undefined) return found;
  try {
    found = !folder.endsWith('/node_modules') && JSON.parse(readFileSync(`${folder}/package.json`, 'utf8')).type === 'module';
  } catch ({ code }) {
    found = code === 'ENOENT' && isModuleScope(folder.slice(0, folder.lastIndexOf('/'))); // Node.js tells what is wrong with any other
  }
  scopes.set(folder, found);
  return found;
}

function kindOf(folder) {
  if (kinds.has(folder)) return kinds.get(folder);
  let kind;
  try {
    if (realpathSync(folder) === folder) kind = isModuleScope(folder);
  } catch {
    // Node.js tells what is wrong.
  }
  kinds.set(folder, kind);
  return kind;
}

function resolve(specifier, context, next) {
  const { parentURL, conditions } = context;
  if (specifier[0] === '.' && relative.test(specifier) && parentURL?.startsWith('file:///') && !/[%?#]/.test(parentURL) && conditions.includes('import')) {
    const url = specifier.lastIndexOf('/') === 1 ? parentURL.slice(0, parentURL.lastIndexOf('/')) + specifier.slice(1) : new URL(specifier, parentURL).href;
    const path = url.slice('file://'.length);
    const kind = kindOf(path.slice(0, path.lastIndexOf('/')));
    if (kind !== undefined && (kind || path.endsWith('.mjs')) && lstatSync(path, orNot)?.isFile()) return { url, format: 'module', shortCircuit: true };
  }
  return next(specifier, context);
}

function begin(order) {
  const { register, registerHooks, syncBuiltinESMExports } = Module;
  const options = [process.env.NODE_OPTIONS ?? '', ...process.execArgv].join(' ');
  if (registerHooks === undefined || /--(experimental-)?loader\b/.test(options)) return; // since Node.js 22.15
  const hooks = registerHooks({
    resolve(specifier, context, next) {
      if (order !== undefined && specifier.endsWith('child_process')) throughProcesses(order);
      if (order !== undefined && specifier.endsWith('worker_threads')) throughThreads(order);
      return resolve(specifier, context, next);
    },
  });
  // Hooks of the older kind, in a thread of their own, come after these, and would not be asked any more.
  if (register === undefined) return;
  Module.register = (...args) => {
    hooks.deregister();
    return register(...args);
  };
  syncBuiltinESMExports();
}

// The environment of one that is to do the same, as long as it can read the script. In front of other options: whose hooks are there first is
// asked last, so that nobody else's are passed over.
function withOrder(order, env) {
  if (!lstatSync(__filename, orNot)?.isFile() || /--(experimental-)?permission\b/.test(env.NODE_OPTIONS)) return env;
  return { ...env, NODE_OPTIONS: `${order.option} ${env.NODE_OPTIONS ?? ''}`.trim(), GATEWAY_RESOLVE: JSON.stringify(order) };
}

const ofPackage = ({ folder }, path) => typeof path === 'string' && path.startsWith(`${folder}/`) && !path.includes('/node_modules/', folder.length);

let processes = false;
function throughProcesses(order) {
  if (processes) return;
  processes = true;
  const built = require('node:child_process');
  const { ChildProcess, spawnSync } = built;
  const { spawn } = ChildProcess.prototype;
  // A Node.js as this one, for this user, with a file of the package and no option that could keep the script from being read.
  const suits = (file, script, { uid, gid, shell }) => file === process.execPath && ofPackage(order, script) && uid === undefined && gid === undefined && !shell;
  ChildProcess.prototype.spawn = function (options) {
    const { file, args, envPairs } = options ?? {};
    if (!Array.isArray(args) || !Array.isArray(envPairs) || !suits(file, args[1], options)) return spawn.call(this, options);
    const env = Object.fromEntries(envPairs.map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]));
    return spawn.call(this, { ...options, envPairs: Object.entries(withOrder(order, env)).map(([name, value]) => `${name}=${value}`) });
  };
  built.spawnSync = (file, args, options) => {
    if (!Array.isArray(args) || !suits(file, args[0], options ?? {})) return spawnSync(file, args, options);
    return spawnSync(file, args, { ...options, env: withOrder(order, options?.env ?? process.env) });
  };
  Module.syncBuiltinESMExports();
}

let threads = false;
function throughThreads(order) {
  if (threads) return;
  threads = true;
  const built = require('node:worker_threads');
  const { fileURLToPath } = require('node:url');
  // One that is given neither an environment nor options has those of this process: it loads the script anyway.
  const apart = ({ env, execArgv, eval: source }) => !source && (env === undefined || env === null ? Array.isArray(execArgv) : typeof env === 'object');
  built.Worker = new Proxy(built.Worker, {
    construct(target, [file, options, ...rest], self) {
      let given = options;
      if (apart(options ?? {}) && ofPackage(order, file instanceof URL && file.protocol === 'file:' ? fileURLToPath(file) : file)) given = { ...options, env: withOrder(order, options.env ?? process.env) };
      return Reflect.construct(target, [file, given, ...rest], self);
    },
  });
  Module.syncBuiltinESMExports();
}

const encoded = process.env.GATEWAY_RESOLVE;
if (encoded !== undefined) {
  delete process.env.GATEWAY_RESOLVE;
  const order = JSON.parse(encoded);
  const options = (process.env.NODE_OPTIONS ?? '').replace(`${order.option} `, '').replace(order.option, '').trim();
  if (options === '') delete process.env.NODE_OPTIONS;
  else process.env.NODE_OPTIONS = options;
  begin(order);
} else {
  begin(undefined); // a thread
}
