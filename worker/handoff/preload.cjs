// Makes net.Server.listen() use a listening socket that the gateway launcher
// holds, when the call is for the address of one; every other call is left
// alone. Loaded with --require from NODE_OPTIONS, so in every Node.js process
// and worker thread below the launcher: only the first process acts, because
// Node.js does not pass the descriptors on to its children.
'use strict';

const fs = require('node:fs');

const order = process.env.GATEWAY_PRELOAD;
if (order !== undefined) {
  const { option, report, gate, sockets, passed, closes } = JSON.parse(order);
  delete process.env.GATEWAY_PRELOAD;
  const options = (process.env.NODE_OPTIONS ?? '').replace(option, '').trim();
  if (options === '') delete process.env.NODE_OPTIONS;
  else process.env.NODE_OPTIONS = options;
  if (inMainThread()) {
    const tell = (event) => {
      try {
        fs.writeSync(report, `${JSON.stringify(event)}\n`);
      } catch {
        // The launcher has gone: there is nobody to tell.
      }
    };
    tellRuntime(tell);
    tellCache(tell);
    if (passed) {
      tell({ event: 'loaded' }); // behind a shell nobody knows that it is Node.js
      // sd_listen_fds(3) wants the pid of whoever is to take the sockets, which only the process itself knows.
      process.env.LISTEN_PID = `${process.pid}`;
    }
    install(tell, waitAt(tell, gate), sockets, passed ? 3 : undefined, closes);
  }
}

// One that starts beside another generation waits at each address until that has let go of it: the launcher answers with a byte,
// or closes the pipe, and then there is nothing to wait for any more. Nothing else of the program runs meanwhile.
function waitAt(tell, gate) {
  const { readSync, closeSync } = fs; // as they are, whatever the program makes of them
  let shut = gate !== undefined;
  const heard = () => {
    try {
      return readSync(gate, Buffer.alloc(1)) > 0;
    } catch ({ code }) {
      return code === 'EINTR' && heard(); // by SIGUSR1, which Node.js takes for its debugger
    }
  };
  return (address, held, server) => {
    if (!shut || address === '') return;
    warmUp(server);
    tell({ event: 'arrived', address, held });
    shut = heard();
    if (!shut) closeSync(gate);
  };
}

// What listen() and the first request have Node.js load and compile is loaded and compiled before the wait, while the other one
// serves: clients would wait for it. The request goes to a server of our own, over no socket. Who traces requests would see it,
// and gets none.
function warmUp(server) {
  try {
    require('node:cluster'); // listen() needs it
    if (server.listenerCount('request') === 0) return;
    const http = require('node:http');
    const net = require('node:net');
    const { hasSubscribers } = require('node:diagnostics_channel');
    const told = ['request.start', 'response.created', 'response.finish'].some((event) => hasSubscribers(`http.server.${event}`));
    if (told || Object.hasOwn(http.Server.prototype, 'emit')) return;
    const own = new http.Server((_, response) => {
      response.sendDate = false; // Node.js keeps it for a second, which does not end before the wait does
      response.end('.');
    });
    new Date().getTimezoneOffset(); // which the time of day has to be known for
    const done = (...args) => args.at(-1)();
    const socket = Object.assign(new net.Socket(), { _write: done, _writev: done, _final: done });
    own.emit('connection', socket);
    socket.emit('data', Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'));
    socket.destroy();
    own.close();
  } catch {
    // It is done when it is needed.
  }
}

// An OpenClaw gateway says in its package which Node.js it runs on; the launcher
// compares. Of any other program the same words are a recommendation.
function tellRuntime(tell) {
  const [, entry, ...args] = process.argv;
  if (entry === undefined || !args.includes('gateway')) return;
  try {
    const path = require('node:path');
    let folder = path.dirname(fs.realpathSync(entry));
    if (['dist', 'src', 'scripts'].includes(path.basename(folder))) folder = path.dirname(folder);
    const { name, version, engines } = JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'));
    // As it was called before, too.
    if (!['openclaw', 'moltbot', 'clawdbot'].includes(name) || typeof engines?.node !== 'string') return;
    tell({ event: 'runtime', program: process.execPath, version: process.versions.node, openclaw: `${version}`, entry, needs: engines.node });
  } catch {
    // No package: it says nothing.
  }
}

// With NODE_COMPILE_CACHE Node.js has a folder of its own below that, from 22.1 on.
function tellCache(tell) {
  if (process.env.NODE_COMPILE_CACHE === undefined) return;
  const directory = require('node:module').getCompileCacheDir?.();
  if (directory === undefined) return;
  let filled = false;
  try {
    const opened = fs.opendirSync(directory);
    filled = opened.readSync() !== null;
    opened.closeSync();
  } catch {
    // It has not been made yet.
  }
  tell({ event: 'cache', directory, filled });
}

// The kernel knows it too, as PID/task/TID: the first client need not wait for
// node:worker_threads where the program has no use for it.
function inMainThread() {
  try {
    const [pid, , tid] = fs.readlinkSync('/proc/thread-self').split('/');
    return pid === tid;
  } catch {
    return require('node:worker_threads').isMainThread; // no /proc, or none that Node.js is permitted to read
  }
}

function install(tell, wait, sockets, firstFD, closes) {
  const { errorMonitor } = require('node:events');
  const net = require('node:net');

  // Spelled as the launcher and Node.js spell them, which most programs do too:
  // net.isIP() takes milliseconds for the first IPv6 address that it sees.
  const known = new Set(['::', '0.0.0.0', ...sockets.map(({ host }) => host)]);
  const unixName = (path) => `unix:${require('node:path').resolve(path)}`;
  const nameOf = ({ path, host, port }) => (path === undefined ? key(host, port) : `unix:${path}`);
  const key = (host, port) => {
    if (!Number.isInteger(port) || port < 0 || port > 65535) return ''; // an error of listen(0) has none, and Node.js refuses others
    if (known.has(host)) return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
    const family = net.isIP(host);
    if (family === 4) return `${host}:${port}`;
    if (family !== 6) return '';
    const [plain, zone] = host.split('%');
    // SocketAddress gives every spelling of an address the same form.
    const { address } = new net.SocketAddress({ address: plain, family: 'ipv6' });
    return zone === undefined ? `[${address}]:${port}` : `[${address}%${zone}]:${port}`;
  };
  const held = new Map(sockets.map((socket) => [nameOf(socket), socket]));
  // By the descriptors that LISTEN_FDS tells of, in the order of the sockets.
  const byFD = new Map(firstFD === undefined ? [] : sockets.map((socket, i) => [firstFD + i, socket]));
  const heldPorts = new Set(sockets.map(({ port }) => port));
  const heldPaths = sockets.some(({ path }) => path !== undefined);

  const { listen, close } = net.Server.prototype;
  const busy = new Set(); // the held addresses that a server of this process listens on
  const resolving = new WeakMap(); // server -> the listen() that waits for a name
  const following = new WeakMap(); // server -> what ends the following of its listen()

  // Reads the forms of listen() that mean a TCP port; null for all others.
  const tcp = (args) => {
    const callback = typeof args.at(-1) === 'function' ? args.at(-1) : undefined;
    const [first, second] = args;
    if (first !== null && typeof first === 'object') {
      const special = first._handle || first.handle || (typeof first.fd === 'number' && first.fd >= 0);
      if (special || first.port === undefined || first.port === null) return null;
      return { port: Number(first.port), host: first.host, ipv6Only: first.ipv6Only, signal: first.signal, callback };
    }
    const numeric = typeof first === 'number' || (typeof first === 'string' && first !== '' && !Number.isNaN(Number(first)));
    if (!numeric) return null;
    return { port: Number(first), host: typeof second === 'string' ? second : undefined, callback };
  };

  // The forms of listen() that mean a path, where unix sockets are held; undefined for all others.
  const unixSocket = ([first, ...rest]) => {
    if (!heldPaths) return undefined;
    const special = first !== null && typeof first === 'object' && (first._handle || first.handle || first.fd >= 0 || (first.port ?? undefined) !== undefined);
    const path = typeof first === 'string' ? first : first?.path;
    const plain = typeof path === 'string' && path !== '' && !path.startsWith('\0') && (typeof first !== 'string' || Number.isNaN(Number(path)));
    if (special || !plain) return undefined;
    const callback = typeof rest.at(-1) === 'function' ? rest.at(-1) : undefined;
    return { path, address: unixName(path), signal: first.signal, callback };
  };

  // The form of listen() that names a passed socket by its descriptor.
  const passedFD = ([first, ...rest]) => {
    if (first === null || typeof first !== 'object' || first._handle || first.handle) return undefined;
    const socket = byFD.get(first.fd);
    const callback = typeof rest.at(-1) === 'function' ? rest.at(-1) : undefined;
    return socket && { ...socket, signal: first.signal, callback };
  };

  // Not every end of a listener is a call of server.close(): the cluster module keeps the handle alone.
  const onClose = (handle, then) => {
    handle.close = (...rest) => {
      delete handle.close;
      const closing = handle.close(...rest); // the descriptor is closed by then
      then();
      return closing;
    };
  };

  // Follows a listen() call to its end without being seen by the program: an
  // 'error' listener would keep an unhandled error from ending the process.
  const follow = (server, ephemeral, narrow) => {
    const done = () => {
      following.delete(server);
      server.removeListener('listening', onListening);
      server.removeListener(errorMonitor, onError);
    };
    const onListening = () => {
      done();
      const bound = server.address();
      if (bound === null) return;
      const address = typeof bound === 'string' ? unixName(bound) : key(bound.address, bound.port);
      tell({ event: 'listening', address, held: held.has(address), ephemeral, narrow });
      if (closes && !ephemeral && !held.has(address) && server._handle) onClose(server._handle, () => tell({ event: 'closed', address, held: false }));
    };
    const onError = (error) => {
      done();
      const ofPath = heldPaths && error?.port === -1 && typeof error.address === 'string';
      const address = ofPath ? unixName(error.address) : key(error?.address, error?.port);
      tell({ event: 'failed', address, held: held.has(address), code: `${error?.code ?? ''}` });
    };
    following.set(server, done);
    server.on('listening', onListening);
    server.on(errorMonitor, onError);
  };

  // What a new call of listen() or close() makes void.
  const forget = (server) => {
    resolving.delete(server);
    following.get(server)?.();
  };

  const pass = (server, args, ephemeral) => {
    listen.apply(server, args);
    follow(server, ephemeral);
    return server;
  };

  // Takes the clients of another address too, as those of a server that listens already.
  const adoptBesides = (handle, address) => {
    const { fds, backlog } = held.get(address);
    const fd = fds.shift();
    if (fd === undefined) {
      tell({ event: 'exhausted', address, held: true });
      return undefined;
    }
    const second = new handle.constructor(1); // TCPConstants.SERVER
    if (second.open(fd) !== 0 || second.listen(backlog) !== 0) return undefined;
    // Whoever takes the connections of the first one, the cluster module perhaps, takes these.
    second.onconnection = (...connection) => handle.onconnection(...connection);
    second.unref(); // the first one keeps the process alive, or does not
    busy.add(address);
    tell({ event: 'listening', address, held: true });
    return second;
  };

  // Where it wants to listen, as far as that can be told before.
  const wanted = (host, port) => (port === 0 ? '' : key(host && net.isIP(host) !== 0 ? host : '::', port));

  const adopt = (server, args, { path, port, callback, signal, ipv6Only }, address) => {
    wait(address, true, server);
    // One server listens on an address; the kernel refuses the next one.
    if (busy.has(address)) return pass(server, args, false);
    const { fds, backlog, dual } = held.get(address);
    const fd = fds.shift();
    if (fd === undefined) {
      tell({ event: 'exhausted', address, held: true });
      return pass(server, args, false);
    }
    // The launcher's backlog: the queue is shared by all that hold the socket, and
    // Node's 511, or what the program asks for, would shrink it for everybody.
    listen.call(server, { fd, signal }, backlog, callback);
    if (path !== undefined) server._pipeName = path; // what server.address() says
    // Node.js takes IPv4 clients on the IPv6 wildcard, unless it is told otherwise.
    const ipv4 = key('0.0.0.0', port);
    const both = path === undefined && address === key('::', port) && !dual && !ipv6Only;
    const besides = both && held.has(ipv4) && !busy.has(ipv4);
    follow(server, false, both && !held.has(ipv4));
    const handle = server._handle;
    if (handle === null) return server; // it failed
    busy.add(address);
    const second = besides ? adoptBesides(handle, ipv4) : undefined;
    onClose(handle, () => {
      busy.delete(address);
      if (second !== undefined) {
        second.close();
        busy.delete(ipv4);
      }
      tell({ event: 'closed', address, held: true });
      if (second !== undefined) tell({ event: 'closed', address: ipv4, held: true });
    });
    return server;
  };

  net.Server.prototype.listen = function (...args) {
    const call = tcp(args);
    if (this.listening) return listen.apply(this, args); // which refuses it
    forget(this);
    const named = passedFD(args);
    // That socket, and no other: whoever takes them by descriptor takes each. The descriptor stays, for another time.
    if (named !== undefined) return adopt(this, args, { ...named, ipv6Only: true }, nameOf(named));
    const unix = unixSocket(args);
    if (unix !== undefined) {
      if (held.has(unix.address)) return adopt(this, args, unix, unix.address);
      wait(unix.address, false, this);
      return pass(this, args, false);
    }
    if (call === null) return listen.apply(this, args);
    const { port, host } = call;
    if (!heldPorts.has(port)) {
      wait(wanted(host, port), false, this);
      return pass(this, args, port === 0);
    }
    // Without a host Node.js tries the IPv6 wildcard, then the IPv4 one.
    const hosts = host ? [host] : ['::', '0.0.0.0'];
    const address = hosts.map((candidate) => key(candidate, port)).find((candidate) => held.has(candidate));
    if (address !== undefined) return adopt(this, args, call, address);
    if (typeof host !== 'string' || host === '' || net.isIP(host) !== 0) {
      wait(wanted(host, port), false, this);
      return pass(this, args, false);
    }
    // A host name: resolved as Node.js would, to see whether we hold it.
    resolving.set(this, call);
    require('node:dns').lookup(host, (error, ip) => {
      if (resolving.get(this) !== call) return; // closed meanwhile
      resolving.delete(this);
      const resolved = error ? '' : key(ip, port);
      if (held.has(resolved)) {
        adopt(this, args, call, resolved);
        return;
      }
      wait(wanted(ip, port), false, this);
      pass(this, args, false);
    });
    return this;
  };

  if (heldPaths) keepFiles((path) => typeof path === 'string' && held.has(unixName(path)));

  net.Server.prototype.close = function (...args) {
    forget(this);
    return close.apply(this, args);
  };
}

// A program removes what it takes for a socket that an earlier life of it has left behind, and often what it has itself, at its
// end. The file of a held socket is the launcher's: without it no client would find the socket any more.
function keepFiles(ours) {
  for (const name of ['unlinkSync', 'rmSync']) {
    const remove = fs[name];
    fs[name] = (path, ...rest) => (ours(path) ? undefined : remove(path, ...rest));
  }
  for (const name of ['unlink', 'rm']) {
    const { [name]: remove } = fs;
    fs[name] = (path, ...rest) => (ours(path) ? process.nextTick(rest.at(-1), null) : remove(path, ...rest));
    const { [name]: removed } = fs.promises;
    fs.promises[name] = async (path, ...rest) => (ours(path) ? undefined : removed(path, ...rest));
  }
}
