// A server that ends as servers should: at SIGTERM it closes its listeners and finishes its answers, and while it boots it ends. /stream
// takes STREAM_MS for an answer. It takes BOOT_MS to boot (300), and listens on METRICS besides, if that is set. With FAIL_BESIDE in the
// environment it ends before it listens, with DEAF it does not hear SIGTERM.
'use strict';
const http = require('node:http');

const { BOOT_MS = '300', METRICS, FAIL_BESIDE, DEAF, STREAM_MS = '3000' } = process.env;
const servers = [];
const serve = (...args) => servers.push(http.createServer((request, response) => {
  response.setHeader('Connection', 'close');
  const said = `generation ${process.env.GATEWAY_GENERATION} pid ${process.pid}\n`;
  if (request.url !== '/stream') {
    response.end(said);
    return;
  }
  response.write(said);
  setTimeout(() => response.end('the end\n'), Number(STREAM_MS));
}).listen(...args));

if (DEAF !== undefined) process.on('SIGTERM', () => {});

setTimeout(() => {
  if (FAIL_BESIDE !== undefined) {
    console.error('another one is running already');
    process.exit(3);
  }
  if (DEAF === undefined) process.on('SIGTERM', () => servers.forEach((server) => server.close()));
  if (METRICS !== undefined) serve(Number(METRICS), '127.0.0.1');
  serve(18789, '127.0.0.1');
  serve(18789, '::1');
}, Number(BOOT_MS));
