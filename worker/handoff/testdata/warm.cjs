// Listens with a server of the kind that is its first argument, and says then what of Node.js has been at work before, and what the
// second argument's way of tracing has seen of it.
'use strict';

const { createHook } = require('node:async_hooks');
const { EventEmitter } = require('node:events');
const { subscribe } = require('node:diagnostics_channel');
const http = require('node:http');
const net = require('node:net');

const [kind, tracing, host, port] = process.argv.slice(2);
const seen = { requests: 0, traced: [] };
createHook({
  init(_, type) {
    if (type === 'HTTPINCOMINGMESSAGE') seen.requests += 1;
  },
}).enable();
if (tracing === 'channel') subscribe('http.server.request.start', ({ request }) => seen.traced.push(request.headers.host));
if (tracing === 'method') {
  http.Server.prototype.emit = function emit(event, ...rest) {
    if (event === 'request') seen.traced.push(rest[0].headers.host);
    return EventEmitter.prototype.emit.call(this, event, ...rest);
  };
}
const server = kind === 'http' ? http.createServer((_, response) => response.end('answered')) : net.createServer((socket) => socket.end('answered'));
server.on('listening', () => {
  const open = process.getActiveResourcesInfo().filter((name) => name !== 'PipeWrap'); // its own input and output
  console.log(JSON.stringify({ event: 'listening', id: JSON.stringify(seen), code: `${process.moduleLoadList.includes('NativeModule cluster')}`, failed: open.join(' ') }));
});
process.stdin.resume().on('end', () => {
  console.log(JSON.stringify({ event: 'ended', id: JSON.stringify(seen) }));
  process.exit(0);
});
server.listen(Number(port), host);
