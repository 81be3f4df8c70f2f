'use strict';
const cluster = require('node:cluster');
const http = require('node:http');

if (cluster.isPrimary) {
  for (let i = 0; i < 2; i++) cluster.fork();
  process.on('SIGTERM', () => cluster.disconnect());
} else {
  process.on('SIGTERM', () => {}); // the primary tells
  http.createServer((request, response) => {
    setTimeout(() => response.end(`generation ${process.env.GATEWAY_GENERATION}\n`), 20);
  }).listen(8080, '127.0.0.1');
}
