// Starts itself as a worker thread, which listens on a port of its own.
'use strict';

const http = require('node:http');
const { isMainThread, Worker } = require('node:worker_threads');

if (isMainThread) {
  new Worker(__filename);
  process.stdin.resume().on('end', () => process.exit(0));
} else {
  const server = http.createServer((_, response) => response.end('answered'));
  server.listen(0, '127.0.0.1', () => {
    console.log(JSON.stringify({ event: 'listening', address: server.address(), environment: process.env.GATEWAY_PRELOAD }));
  });
}
