// Looks like OpenClaw from outside when it lies at node_modules/openclaw/dist/index.js
// and is run as "node … gateway --port N": it listens on both loopback addresses, and
// then says so on its standard output, or to systemd with NOTIFY=1. GET /shrink
// shortens the queue of the first.
'use strict';
const http = require('node:http');
const { execFileSync } = require('node:child_process');

const port = Number(process.argv[process.argv.indexOf('--port') + 1]);
const servers = [];
const answer = (request, response) => {
  if (request.url === '/shrink') servers[0]._handle.listen(16);
  response.end(`generation ${process.env.GATEWAY_GENERATION} pid ${process.pid}\n`);
};
const listening = () => {
  if (servers.length < 2) listen('::1');
  else if (process.env.NOTIFY) execFileSync('systemd-notify', ['--ready']);
  else console.log('listening');
};
const listen = (host) => servers.push(http.createServer(answer).listen(port, host, listening));

listen('127.0.0.1');
