// Does with servers what each line of its standard input says, and says what
// came of it on standard output, a line each. CERTIFICATE and KEY name files.
'use strict';

const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const net = require('node:net');
const readline = require('node:readline');
const tls = require('node:tls');

const secret = () => ({ cert: fs.readFileSync(process.env.CERTIFICATE), key: fs.readFileSync(process.env.KEY) });
const kinds = {
  http: () => http.createServer((_, response) => response.end('answered')),
  https: () => https.createServer(secret(), (_, response) => response.end('answered')),
  net: () => net.createServer((socket) => socket.end('answered')),
  tls: () => tls.createServer(secret(), (socket) => socket.end('answered')),
};
const servers = new Map();
const controllers = new Map();
const say = (line) => fs.writeSync(1, `${JSON.stringify(line)}\n`);

const commands = {
  make({ id, kind }) {
    const server = kinds[kind]();
    servers.set(id, server);
    server.on('listening', () => {
      say({ event: 'listening', id, address: server.address(), socket: fs.readlinkSync(`/proc/self/fd/${server._handle.fd}`) });
    });
    server.on('error', ({ code, syscall, address, port }) => say({ event: 'error', id, code, syscall, failed: address, port }));
    server.on('close', () => say({ event: 'close', id }));
  },
  listen({ id, args = [], callback, abortable }) {
    if (abortable) {
      controllers.set(id, new AbortController());
      args[0].signal = controllers.get(id).signal;
    }
    if (callback) args.push(() => say({ event: 'called', id }));
    try {
      const result = servers.get(id).listen(...args);
      if (result !== servers.get(id)) say({ event: 'wrong result', id });
    } catch (error) {
      say({ event: 'thrown', id, code: error.code });
    }
  },
  // What a program does to a socket that it takes for its own, in all the ways that there are.
  async remove({ id, args: [path] }) {
    fs.unlinkSync(path);
    fs.rmSync(path, { force: true });
    await new Promise((done) => fs.unlink(path, done));
    await new Promise((done) => fs.rm(path, { force: true }, done));
    await fs.promises.unlink(path);
    await fs.promises.rm(path, { force: true });
    await require('node:fs/promises').unlink(path);
    say({ event: 'removed', id });
  },
  close({ id }) {
    servers.get(id).close();
  },
  abort({ id }) {
    controllers.get(id).abort();
  },
  // All at once, before anything that they cause can happen.
  together({ commands: list }) {
    list.forEach(run);
  },
  look({ id }) {
    const server = servers.get(id);
    say({ event: 'looked', id, listeners: server.listenerCount('listening') + server.listenerCount('error') });
  },
};
const run = (command) => commands[command.do](command);

process.on('warning', ({ message }) => say({ event: 'warning', code: message }));
readline
  .createInterface({ input: process.stdin })
  .on('line', (line) => run(JSON.parse(line)))
  .on('close', () => process.exit(0));
