// A Node.js server that has a shell run what a client posts, and answers with what that says and with its exit status.
'use strict';
const http = require('node:http');
const { spawnSync } = require('node:child_process');

http.createServer((request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    const script = Buffer.concat(parts).toString() || `echo generation ${process.env.GATEWAY_GENERATION} pid ${process.pid}`;
    const { stdout, stderr, status } = spawnSync('/bin/sh', ['-c', script]);
    response.statusCode = status === 0 ? 200 : 500;
    response.end(Buffer.concat([stdout, stderr]));
  });
}).listen(18789, '127.0.0.1');
